"""A policy on disk: ``policy.json`` and ``policy.safetensors`` in a folder. Never a pickle.

``policy.json`` holds ``format``, ``version``, ``kind``, ``agent`` (which agent trained it),
``embedding_size``, ``config`` (with what the policy reads: ``features``, ``chunk_embeddings``,
``prompt_token``, ``budget_token``), ``refrag`` (fingerprint of the model it was trained on, or
null), ``training`` (free metadata) and ``weights_sha256``, by which a pair that does not belong
together is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from refrag_rl.atomic import replacing, write_text
from refrag_rl.errors import UserError, first_line
from refrag_rl.file_sizes import require_at_most
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.printable import printable

FORMAT = "refrag-rl-policy"
VERSION = 1
CONFIG_FILE = "policy.json"
WEIGHTS_FILE = "policy.safetensors"

_LONGEST_NAME = 60
_LARGEST_CONFIG = 16_000_000
_LARGEST_WEIGHTS = 1_000_000_000
"""Bytes; a policy has some hundred thousand."""


@dataclass(frozen=True)
class StoredPolicy:
    """A policy and what is known of it.

    Attributes:
        policy: The network, on the CPU.
        agent: Name of the agent that trained it.
        training: How it was trained: whatever the command recorded, JSON values.
        refrag: Fingerprint of the model it was trained on; None: unknown.
    """

    policy: PointerPolicy
    agent: str
    training: Mapping[str, Any] = field(default_factory=dict)
    refrag: str | None = None


def save_policy(stored: StoredPolicy, directory: str | Path) -> None:
    """Write a policy to a folder, which is made where there is none.

    Raises:
        OSError: The folder cannot be written.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in stored.policy.state_dict().items()
    }
    weights = save_tensors(tensors, metadata={"format": "pt"})
    description = {
        "format": FORMAT,
        "version": VERSION,
        "kind": "pointer",
        "agent": stored.agent,
        "embedding_size": stored.policy.config.embedding_size,
        "config": stored.policy.config.to_mapping(),
        "refrag": stored.refrag,
        "training": dict(stored.training),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    with replacing(folder / WEIGHTS_FILE) as fresh:
        fresh.write_bytes(weights)
    write_text(folder / CONFIG_FILE, json.dumps(description, indent=2) + "\n")


def is_policy_folder(directory: str | Path) -> bool:
    """Return whether a folder holds a ``policy.json``."""
    return (Path(directory) / CONFIG_FILE).is_file()


def read_description(path: Path) -> dict[str, Any]:
    """Return the content of a ``policy.json``, its format and version checked."""
    try:
        require_at_most(path, _LARGEST_CONFIG)
        description = json.loads(path.read_text(encoding="utf-8"))
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as JSON ({error}); save the policy again"
        ) from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(f"{path}: not a refrag-rl policy; give a folder that an agent saved")
    if description.get("version") != VERSION or description.get("kind") != "pointer":
        raise UserError(
            f"{path}: version {description.get('version')!r}, kind {description.get('kind')!r}; "
            f"this release reads version {VERSION}, kind 'pointer'"
        )
    if not isinstance(description.get("config"), dict):
        raise UserError(f"{path}: the key 'config' is missing; save the policy again")
    return description


def _read_weights(path: Path, expected_sha256: str | None) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, its hash checked where one is recorded."""
    try:
        require_at_most(path, _LARGEST_WEIGHTS)
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); save the policy again"
        ) from None
    if expected_sha256 is not None and hashlib.sha256(content).hexdigest() != expected_sha256:
        raise UserError(f"{path}: not the weights that {CONFIG_FILE} beside it describes")
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from None


def load_policy(directory: str | Path, embedding_size: int | None = None) -> StoredPolicy:
    """Read a policy from a folder.

    Args:
        directory: What ``save_policy`` wrote to.
        embedding_size: Width of the chunk embeddings that it shall read; None checks nothing.

    Raises:
        UserError: The folder or a file is missing or damaged, the weights do not fit the config, or
            the policy was trained for embeddings of another width.
    """
    folder = Path(directory)
    if not is_policy_folder(folder):
        raise UserError(
            f"{folder}: no policy there; a policy folder holds {CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    description = read_description(folder / CONFIG_FILE)
    try:
        config = PointerConfig.from_mapping(description["config"])
    except UserError as error:
        raise UserError(f"{folder / CONFIG_FILE}: {error}") from error
    check_embedding_size(config, embedding_size, str(folder))
    tensors = _read_weights(folder / WEIGHTS_FILE, description.get("weights_sha256"))
    policy = _shaped_like(config, len(tensors), folder)
    wanted, found = (
        {name: (tensor.shape, tensor.dtype) for name, tensor in each.items()}
        for each in (policy.state_dict(), tensors)
    )
    if wanted != found:
        wrong = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
        raise UserError(
            f"{folder / WEIGHTS_FILE}: {len(wrong)} tensors do not fit {CONFIG_FILE} "
            f"(first: {wrong[0]}); save the policy again"
        )
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise UserError(f"{folder / WEIGHTS_FILE}: a weight is NaN or infinite; train it again")
    policy = policy.to_empty(device="cpu")
    policy.load_state_dict(tensors)
    training = description.get("training")
    return StoredPolicy(
        policy,
        printable(str(description.get("agent", "pointer")))[:_LONGEST_NAME],
        training if isinstance(training, dict) else {},
        description.get("refrag"),
    )


def _shaped_like(config: PointerConfig, tensors: int, folder: Path) -> PointerPolicy:
    """Return a policy without weights: what a config asks for takes no memory before it is checked.

    Raises:
        UserError: The config asks for more layers than there are tensors.
    """
    if config.layers * config.members > tensors:
        raise UserError(
            f"{folder / CONFIG_FILE}: layers={config.layers} of members={config.members}, but "
            f"{WEIGHTS_FILE} beside it holds {tensors} tensors; save the policy again"
        )
    try:
        with torch.device("meta"):
            return PointerPolicy(config)
    except (RuntimeError, TypeError, ArithmeticError) as error:
        reason = first_line(error, 160)
        raise UserError(f"{folder / CONFIG_FILE}: no policy has this shape ({reason})") from error


def check_embedding_size(config: PointerConfig, given: int | None, name: str) -> None:
    """Check that a policy fits the embeddings it is to read, if it reads any.

    Raises:
        UserError: It was trained for another width.
    """
    if config.reads_embeddings and given not in (None, config.embedding_size):
        raise UserError(
            f"policy {name} was trained for chunk embeddings of width {config.embedding_size}, not "
            f"{given}; use it with the REFRAG it was trained on, or train one for this REFRAG"
        )
