"""Ways to damage the files of a policy, a run or a checkpoint."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Damage = Callable[[Path], object]
"""Changes a file in place."""


class Executed:
    """Unpickled, it leaves a file named ``executed`` in the current folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def cut(share: float) -> Damage:
    """Cut a file to a share of its length."""
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def overwrite(at: float, content: bytes) -> Damage:
    """Write something else at a place in the file."""

    def damage(path: Path) -> None:
        whole = bytearray(path.read_bytes())
        start = int(len(whole) * at)
        whole[start : start + len(content)] = content
        path.write_bytes(bytes(whole[: max(len(whole), 1)]))

    return damage


def content(data: bytes | str) -> Damage:
    """Put something else in its place."""
    return lambda path: path.write_bytes(data.encode() if isinstance(data, str) else data)


def removed(path: Path) -> None:
    """Remove the file."""
    path.unlink()


def folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def huge(path: Path) -> None:
    """Make the file one of a terabyte, of which nothing lies on the disk."""
    os.truncate(path, 10**12)


def pipe(path: Path) -> None:
    """Put a named pipe in its place, which nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    """Put a link to what has no end in its place."""
    path.unlink()
    path.symlink_to("/dev/zero")


def pickled(path: Path) -> None:
    """Put a pickle in its place that does something when it is read."""
    path.write_bytes(pickle.dumps(Executed()))


def saved_by_torch(path: Path) -> None:
    """Put a file of ``torch.save`` in its place that does something when it is read."""
    torch.save({"weight": Executed()}, path)


def edited(change: Callable[[Any], object]) -> Damage:
    """Change the content of a JSON file."""

    def damage(path: Path) -> None:
        data = json.loads(path.read_text())
        changed = change(data)
        path.write_text(json.dumps(data if changed is None else changed))

    return damage


def put(key: str, value: object) -> Damage:
    """Set a key of a JSON file; dots lead into what lies deeper."""

    def change(data: Any) -> None:
        *outer, last = key.split(".")
        for name in outer:
            data = data[name]
        data[last] = value

    return edited(change)


def without(key: str) -> Damage:
    """Remove a key of a JSON file."""
    return edited(lambda data: data.pop(key) and None)


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Damage:
    """Change the tensors of a safetensors file."""

    def damage(path: Path) -> None:
        own = load_file(path)
        change(own)
        save_file(own, path, {"format": "pt"})

    return damage


def first(change: Callable[[Tensor], Tensor]) -> Damage:
    """Change the first tensor of a safetensors file that is a matrix."""

    def damage(own: dict[str, Tensor]) -> None:
        name = next(name for name in sorted(own) if own[name].ndim == 2)
        own[name] = change(own[name]).contiguous()

    return tensors(damage)


def header(text: bytes) -> bytes:
    """Return a safetensors file with this header and no tensors."""
    return len(text).to_bytes(8, "little") + text


UNREADABLE: dict[str, Damage] = {"huge": huge, "pipe": pipe, "endless": endless}
"""Ways in which a file cannot be read whole."""

NO_SAFETENSORS: dict[str, Damage] = {
    "removed": removed,
    "empty": content(b""),
    "seven-bytes": content(b"\0" * 7),
    "zeros": content(b"\0" * 4096),
    "text": content("no tensors here"),
    "pickle": pickled,
    "torch": saved_by_torch,
    "folder": folder,
    "cut-header": cut(0.001),
    "cut-half": cut(0.5),
    "cut-end": cut(0.999),
    "huge-header": content(b"\xff" * 8 + b"{}"),
    "no-json": content(header(b"{nothing}")),
    "list": content(header(b"[]")),
    "deep": content(header(b"[" * 50_000)),
    "offsets": content(
        header(b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,39999996]}}')
    ),
    "negative": content(header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}')),
    "dtype": content(header(b'{"a":{"dtype":"PY","shape":[0],"data_offsets":[0,0]}}')),
}
"""Ways in which a file is no safetensors file."""

NO_JSON: dict[str, Damage] = {
    **UNREADABLE,
    "removed": removed,
    "empty": content(b""),
    "cut": cut(0.5),
    "binary": content(bytes(range(256))),
    "utf16": content("{}".encode("utf-16")),
    "pickle": pickled,
    "deep": content("[" * 100_000),
    "list": content("[]"),
    "word": content('"word"'),
    "null": content("null"),
    "nothing": content("{}"),
    "folder": folder,
}
"""Ways in which a file holds no JSON object of ours."""
