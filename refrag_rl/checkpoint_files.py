"""The files of a training's last checkpoints: numbered, whole, checked when they are read.

A checkpoint is one safetensors file. Its tensors are the state and, as UTF-8 bytes, the progress in
JSON, which may outgrow the header's limit of 100 MB; its metadata holds a checksum of both. Nothing
in it is ever executed.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from refrag_rl.atomic import remove_leftovers, replacing
from refrag_rl.errors import UserError, first_line

_DAMAGE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    AttributeError,
    ArithmeticError,
    SafetensorError,
)
"""What reading a file raises that is no checkpoint; RuntimeError: nested too deeply."""

_PROGRESS = "progress"
"""Name of the tensor that holds it; those of the state have a dot in theirs."""

_NAME = re.compile(r"(\d{6,})\.safetensors")


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        path: Of the file.
        tensors: By name.
        progress: As it was given.
    """

    path: Path
    tensors: dict[str, Tensor]
    progress: dict[str, Any]


class CheckpointFiles:
    """Writes numbered checkpoints into a folder, keeps the last ones, reads the last sound one.

    Args:
        folder: Made when first written to.
        keep: How many checkpoints are kept, at least 1.
        check: Raises ``ValueError`` for one that is whole, but holds what no training can be gone
            on with; it counts as damaged.
    """

    def __init__(
        self, folder: Path, keep: int, check: Callable[[Saved], None] = lambda _: None
    ) -> None:
        if keep < 1:
            raise UserError(f"keep={keep}: give 1 or more; a run needs a checkpoint to go on from")
        self._folder = folder
        self._keep = keep
        self._check = check
        self._last: int | None = None

    def exist(self) -> bool:
        """Return whether there is a checkpoint, sound or not.

        Raises:
            UserError: The folder holds files of another format.
        """
        numbers = self._numbers()
        if not numbers and self._folder.is_dir():
            others = [path.name for path in self._folder.iterdir() if path.name[0] != "."]
            if others:
                raise UserError(
                    f"{self._folder} holds {', '.join(sorted(others)[:3])} in place of checkpoints "
                    "that this version can read\ngo on with the version that made it, or start "
                    "anew in another folder"
                )
        return bool(numbers)

    def last_path(self) -> Path | None:
        """Return the file that was written or read last, or the newest; ``None``: there is none."""
        numbers = self._numbers()
        number = self._last if self._last is not None else max(numbers, default=None)
        return None if number is None else self._path(number)

    def write(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Write the next checkpoint, then remove those that are no longer kept.

        Args:
            tensors: On the CPU, contiguous.
            progress: What JSON can hold.

        Raises:
            OSError: It could not be written; the last checkpoint is as it was.
            SafetensorError: Likewise.
        """
        if self._last is None:
            self._last = self._read_last().number if self._numbers() else 0
        number = self._last + 1
        self._folder.mkdir(parents=True, exist_ok=True)
        text = bytearray(json.dumps(dict(progress)), "utf-8")
        everything = {**tensors, _PROGRESS: torch.frombuffer(text, dtype=torch.uint8)}
        with replacing(self._path(number)) as fresh:
            save_file(everything, fresh, {"crc32": _checksum(everything)})
        self._last = number
        # What is numbered higher was damaged, or this one would not follow an older one.
        for other in self._numbers():
            if not number - self._keep < other <= number:
                self._path(other).unlink(missing_ok=True)
        remove_leftovers(self._folder)

    def read(self, *, report: bool = True) -> Saved:
        """Return the last checkpoint that is sound; damaged ones after it are reported.

        Args:
            report: Whether to say on stderr that a damaged one was passed over, in a line.

        Raises:
            UserError: There is none.
        """
        saved = self._read_last(report=report)
        self._last = saved.number
        return saved.saved

    def _read_last(self, *, report: bool = False) -> _Numbered:
        reason = "there is no checkpoint"
        damaged: list[str] = []
        for number in sorted(self._numbers(), reverse=True):
            path = self._path(number)
            try:
                saved = _read(path)
                self._check(saved)
            except _DAMAGE as error:
                reason = first_line(error, 200)
                damaged.append(f"{path} is damaged ({reason})")
                continue
            if damaged and report:
                print(f"{damaged[0]}; {path.name} before it is used", file=sys.stderr)
            return _Numbered(number, saved)
        raise UserError(
            f"{self._folder} cannot be resumed from ({reason}). "
            "Give the folder of a run with the same settings, or start anew in another folder."
        )

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.safetensors"

    def _numbers(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return [int(match[1]) for match in matches if match]


class _Numbered(NamedTuple):
    number: int
    saved: Saved


def _read(path: Path) -> Saved:
    if not path.is_file():
        # Opening a named pipe would wait for ever.
        raise ValueError("it is no regular file")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    tensors = load_file(path)
    if _checksum(tensors) != metadata["crc32"]:
        raise ValueError("its checksum is wrong")
    progress = json.loads(bytes(tensors.pop(_PROGRESS).numpy()))
    if not isinstance(progress, dict):
        raise ValueError("its progress is no mapping")
    return Saved(path, tensors, progress)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(name.encode(), checksum)
        # NumPy has no bfloat16; as bytes every type is alike.
        flat = tensors[name].reshape(-1).view(torch.uint8)
        checksum = zlib.crc32(flat.numpy().data, checksum)
    return f"{checksum:08x}"
