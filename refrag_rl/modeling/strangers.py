"""What is checked of a checkpoint folder before anything in it is used: it may be a stranger's.

transformers follows what a folder's files say: to code (``auto_map``, kernels of the hub), to
another model (adapters), to weights elsewhere (an index of shards), to pickled weights. A folder of
this project holds none of these.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from refrag_rl.errors import UserError
from refrag_rl.file_sizes import require_at_most

INDEX = "model.safetensors.index.json"

_REFUSED_FILES = ("adapter_config.json",)
_LEADS_ELSEWHERE = ("transformers_weights",)
_REFUSED_KEYS = ("auto_map", "quantization_config", *_LEADS_ELSEWHERE)
_ATTENTION = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_LARGEST_JSON = 500_000_000
"""Bytes; the tokenizers with the largest vocabularies have some ten million."""

_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")


def require_readable_json(folder: Path) -> None:
    """Check that no JSON file of a folder is larger than one that is read whole may be.

    Raises:
        UserError: One is, or it is no regular file.
    """
    for file in folder.glob("*.json"):
        if not file.is_dir():
            require_at_most(file, _LARGEST_JSON)


def require_safetensors(folder: Path) -> None:
    """Check the files of an encoder's or a decoder's folder, before anything in it is used.

    Raises:
        UserError: Its weights are pickled, or it leads out of itself. The message is a reason
            alone.
    """
    _refuse_adapters(folder)
    _weight_files(folder)


def require_own_weights(config: dict[str, Any]) -> None:
    """Check the ``config.json`` of an encoder or a decoder, from a folder or the hub.

    Code that it names (``auto_map``) is never run, and quantized weights are its own affair.

    Raises:
        UserError: It leads to other weights, or to code. The message is a reason alone.
    """
    _check_entries(config, _LEADS_ELSEWHERE)


def _no_safetensors(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLED)
    if not pickled:
        return "it has no model.safetensors"
    return (
        f"it has no model.safetensors, and {pickled[0]} is a pickle, which could run code and is "
        "never read; convert it to safetensors (transformers' save_pretrained writes them) where "
        "you trust it"
    )


def require_harmless(folder: Path, config: dict[str, Any]) -> None:
    """Check the files of a checkpoint folder.

    Args:
        folder: The folder.
        config: What its ``config.json`` holds.

    Raises:
        UserError: It leads out of itself, to code, or to more layers than it has tensors; it has no
            weights in safetensors, or they cannot be read. The message is a reason alone.
    """
    _refuse_adapters(folder)
    _check_entries(config, _REFUSED_KEYS)
    files = _weight_files(folder)
    tensors = sum(_count_tensors(file) for file in files)
    for key, value in _entries(config):
        # A model of that many layers is built before its weights are looked for.
        if key in _LAYERS and not (value is None or (isinstance(value, int) and value <= tensors)):
            raise UserError(f"its config.json has {key}={value!r}, for {tensors} tensors")


def _refuse_adapters(folder: Path) -> None:
    for name in _REFUSED_FILES:
        if (folder / name).exists():
            raise UserError(f"it holds {name}, which leads to another model")


def _check_entries(config: dict[str, Any], refused: Collection[str]) -> None:
    for key, value in _entries(config):
        if key in refused and value is not None:
            raise UserError(f"its config.json has {key}, which cannot be used here")
        if key.endswith("attn_implementation") and value not in _ATTENTION:
            raise UserError(f"its config.json asks for the attention {value!r}")


def _entries(node: object) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key), value
            yield from _entries(value)
    elif isinstance(node, list):
        for value in node:
            yield from _entries(value)


def _weight_files(folder: Path) -> list[Path]:
    whole = folder / "model.safetensors"
    if whole.is_file():
        return [whole]
    index = folder / INDEX
    if not index.is_file():
        raise UserError(_no_safetensors(folder))
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        outside = [name for name in names if Path(name).name != name]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"its {INDEX} cannot be read ({type(error).__name__})") from error
    if outside:
        raise UserError(f"its {INDEX} leads out of the folder, to {outside[0]}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise UserError(f"its {INDEX} names files that are not there ({', '.join(missing[:3])})")
    return [folder / name for name in sorted(names)]


def _count_tensors(file: Path) -> int:
    try:
        with safe_open(file, "pt") as tensors:
            return len(list(tensors.keys()))
    except (SafetensorError, OSError) as error:
        raise UserError(f"its weights cannot be read ({file.name}: {error})") from error
