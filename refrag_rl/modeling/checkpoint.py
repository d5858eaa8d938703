"""Checkpoint folders: a model with the tokenizers it was trained with.

A folder holds ``config.json`` and ``model.safetensors`` (as ``save_pretrained`` writes them), the
decoder's tokenizer, the encoder's in ``encoder_tokenizer/`` where it is another, and ``README.md``,
the model card.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from refrag_rl.errors import UserError, first_line
from refrag_rl.modeling.chunk_encoder import token_embeddings
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.modeling.config import RefragConfig
from refrag_rl.modeling.model import RefragForCausalLM
from refrag_rl.modeling.parts import folder_or_name, missing_weights
from refrag_rl.modeling.strangers import require_harmless, require_readable_json

ASSETS = Path(__file__).resolve().parents[1] / "assets"
ENCODER_TOKENIZER = "encoder_tokenizer"


@dataclass(frozen=True, slots=True)
class LoadedRefrag:
    """A model with what it needs to read text.

    Attributes:
        model: In evaluation mode.
        tokenizer: The decoder's; it cuts the chunks.
        chunk_tokenizer: Makes the encoder's inputs.
    """

    model: RefragForCausalLM
    tokenizer: PreTrainedTokenizerBase
    chunk_tokenizer: ChunkTokenizer


def embedded_checkpoints() -> list[str]:
    """Return the names of the checkpoints inside the package, sorted."""
    return sorted(config.parent.name for config in ASSETS.glob("*/config.json"))


def load_refrag(
    path: str | os.PathLike[str],
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> LoadedRefrag:
    """Load a checkpoint folder.

    Args:
        path: A folder, or the name of an embedded checkpoint (``"tiny-k16"``) where no folder of
            that name exists.
        dtype: Type of the weights, whatever type they are stored in.
        device: Where the model goes.

    Raises:
        UserError: The folder is missing, or is no complete checkpoint of this project.
    """
    folder = find_folder("refrag.path", path)
    try:
        require_readable_json(folder)
        require_readable_json(folder / ENCODER_TOKENIZER)
    except UserError as error:
        raise _no_checkpoint(folder, str(error)) from error
    config = _require_refrag_config(folder)
    try:
        require_harmless(folder, config)
    except (UserError, RecursionError) as error:
        raise _no_checkpoint(folder, str(error)) from error
    try:
        loaded: Any = RefragForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises all kinds on a config that does not fit
        raise _no_checkpoint(
            folder, f"its weights or its config cannot be read ({first_line(error, 160)})"
        ) from error
    model, report = loaded
    if reason := missing_weights(report["missing_keys"]):
        raise _no_checkpoint(folder, reason)
    tokenizer = _load_tokenizer(folder, folder)
    encoder_tokenizer = None
    if not model.config.shared_tokenizer:
        encoder_tokenizer = _load_tokenizer(folder / ENCODER_TOKENIZER, folder)
    try:
        return join_refrag(nn.Module.to(model, device).eval(), tokenizer, encoder_tokenizer)
    except UserError as error:
        raise _no_checkpoint(folder, str(error)) from error


def find_folder(role: str, path: str | os.PathLike[str]) -> Path:
    """Return the folder of a checkpoint.

    Args:
        role: Option that named it, for messages.
        path: A folder, or the name of an embedded checkpoint where no folder of that name exists.

    Raises:
        UserError: There is none.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    embedded = ASSETS / folder
    if len(folder.parts) == 1 and embedded.is_dir():
        return embedded
    problem = "is a file" if folder.exists() else "does not exist"
    raise UserError(f"{role}={str(path)!r} {problem}.\n{_what_is_allowed()}")


def save_refrag(
    path: str | os.PathLike[str], refrag: LoadedRefrag, *, card: str | None = None
) -> None:
    """Write a checkpoint folder.

    Args:
        path: The folder; made where it is missing.
        refrag: The model, saved in the type its weights have, and its tokenizers.
        card: Text of ``README.md``, the model card; ``None`` writes none.
    """
    folder = Path(path)
    refrag.model.save_pretrained(folder)
    refrag.tokenizer.save_pretrained(folder)
    if refrag.chunk_tokenizer.encoder_tokenizer is not None:
        refrag.chunk_tokenizer.encoder_tokenizer.save_pretrained(folder / ENCODER_TOKENIZER)
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")


def join_refrag(
    model: RefragForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    encoder_tokenizer: PreTrainedTokenizerBase | None = None,
) -> LoadedRefrag:
    """Join a model with its tokenizers.

    Args:
        model: Encoder, projector and decoder.
        tokenizer: The decoder's.
        encoder_tokenizer: The encoder's; ``None`` where it shares the decoder's.

    Raises:
        UserError: A tokenizer has more tokens than its model knows, or the decoder's gives no
            character offsets where the encoder has its own.
    """
    _require_known("decoder", model.decoder, tokenizer)
    if encoder_tokenizer is not None:
        _require_known("encoder", model.encoder, encoder_tokenizer)
    chunk_tokenizer = ChunkTokenizer(
        tokenizer,
        encoder_tokenizer,
        start_token_id=model.config.chunk_start_token_id,
        max_tokens=model.max_encoder_tokens,
    )
    return LoadedRefrag(model, tokenizer, chunk_tokenizer)


def _require_known(part: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a model has an embedding for each token of its tokenizer.

    Raises:
        UserError: It has not.
    """
    known = token_embeddings(model).num_embeddings
    if len(tokenizer) > known:
        raise UserError(
            f"the {part}'s tokenizer has {len(tokenizer)} tokens, the {part} knows {known}; give "
            "the tokenizer it was trained with, or enlarge it (resize_token_embeddings)"
        )


def load_tokenizer(role: str, name: str | os.PathLike[str]) -> PreTrainedTokenizerBase:
    """Load the tokenizer of an encoder or a decoder of Hugging Face; remote code is never run.

    Args:
        role: What it is for, in the error's words.
        name: Folder or hub name.

    Raises:
        UserError: It cannot be loaded.
    """
    source = folder_or_name(name)
    try:
        require_readable_json(Path(source))
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise UserError(
            f"{role}={str(name)!r}: its tokenizer cannot be loaded ({first_line(error, 160)}).\n"
            "Give a folder with a model and its tokenizer, or a name on the Hugging Face hub."
        ) from error


def cut_alike(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase) -> bool:
    """Return whether two tokenizers give every text the same ids (special tokens aside)."""
    if not (first.is_fast and second.is_fast):
        return False
    one, other = (json.loads(tokenizer.backend_tokenizer.to_str()) for tokenizer in (first, second))
    for state in (one, other):
        added = state["added_tokens"]
        state["added_tokens"] = [token for token in added if not token["special"]]
    parts = ("model", "normalizer", "pre_tokenizer", "added_tokens")
    return all(one[part] == other[part] for part in parts)


def _require_refrag_config(folder: Path) -> dict[str, Any]:
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _no_checkpoint(folder, "it has no config.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _no_checkpoint(folder, f"its config.json is no JSON ({error})") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type != RefragConfig.model_type:
        raise _no_checkpoint(folder, f"its config.json is for model_type {model_type!r}")
    return dict(config)


def _load_tokenizer(folder: Path, checkpoint: Path) -> PreTrainedTokenizerBase:
    name = "" if folder == checkpoint else f"{folder.name}/"
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json")):
        raise _no_checkpoint(checkpoint, f"it has no {name}tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise _no_checkpoint(
            checkpoint, f"its {name}tokenizer.json cannot be read ({first_line(error, 160)})"
        ) from error


def _no_checkpoint(folder: Path, reason: str) -> UserError:
    return UserError(f"{folder} is no REFRAG checkpoint: {reason}.\n{_what_is_allowed()}")


def _what_is_allowed() -> str:
    names = ", ".join(embedded_checkpoints()) or "none in this installation"
    return f"Give a folder written by refrag_rl.pretrain, or an embedded checkpoint ({names})."
