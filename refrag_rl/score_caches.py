"""The scores that a training has computed so far, emptied or kept with its state.

The last digits of a score depend on which ones were computed together. For a resumed training to
give the same curve to the bit, its caches must hold what those of the stopped one held: nothing, at
a checkpoint where both empty them, or everything, where the stopped one would have gone on with
them.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.lru_cache import Entries
from refrag_rl.reward import RewardModel


class ScoreCaches:
    """The caches of a problem and of its reward model, as one thing.

    Args:
        problem: Its windows are those trained on.
        reward_model: Scores them, and the validation windows.
    """

    def __init__(self, problem: ExpansionProblem, reward_model: RewardModel) -> None:
        self._problem = problem
        self._reward_model = reward_model

    def clear(self) -> None:
        """Empty all of them."""
        self._problem.clear()
        self._reward_model.clear()

    def tensors(self) -> dict[str, Tensor]:
        """Return what they hold, in the order of its use."""
        packed: dict[str, Tensor] = {}
        for name, (entries, _) in self._caches().items():
            for key, tensor in _pack(entries).items():
                packed[f"{name}.{key}"] = tensor
        return packed

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Empty all of them, then put back what ``tensors`` returned; nothing where it is empty."""
        self.clear()
        for name, (entries, make) in self._caches().items():
            part = {
                key.removeprefix(f"{name}."): tensor
                for key, tensor in tensors.items()
                if key.startswith(f"{name}.")
            }
            if part:
                entries.update((key, make(*arrays)) for key, arrays in _unpack(part))

    def _caches(self) -> dict[str, Entries]:
        return {**self._reward_model.caches(), **self._problem.caches()}


def _pack(entries: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return keys and values as tensors: arrays of any shapes one after another, by field."""
    if not entries:
        return {}
    fields = [_fields(value) for value in entries.values()]
    header = {
        "keys": [_encoded(key) for key in entries],
        "shapes": [[list(array.shape) for array in arrays] for arrays in fields],
    }
    text = json.dumps(header).encode()
    packed = {"header": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
    for number, arrays in enumerate(zip(*fields, strict=True)):
        flat = np.concatenate([array.reshape(-1) for array in arrays])
        packed[str(number)] = torch.from_numpy(flat)
    return packed


def _unpack(packed: Mapping[str, Tensor]) -> Iterator[tuple[Hashable, list[NDArray[Any]]]]:
    header = json.loads(packed["header"].numpy().tobytes())
    flat = [packed[str(number)].numpy() for number in range(len(header["shapes"][0]))]
    starts = [0] * len(flat)
    for key, shapes in zip(header["keys"], header["shapes"], strict=True):
        arrays = []
        for number, shape in enumerate(shapes):
            stop = starts[number] + int(np.prod(shape, dtype=np.int64))
            # A copy: a view would keep everything in memory as long as one entry is cached.
            arrays.append(flat[number][starts[number] : stop].reshape(shape).copy())
            starts[number] = stop
        yield _decoded(key), arrays


def _fields(value: Any) -> list[NDArray[Any]]:
    parts = value if isinstance(value, tuple) else (value,)
    return [np.asarray(part) for part in parts]


def _encoded(key: Hashable) -> Any:
    if isinstance(key, tuple):
        return [{"hex": part.hex()} if isinstance(part, bytes) else part for part in key]
    return key


def _decoded(key: Any) -> Hashable:
    if isinstance(key, list):
        return tuple(bytes.fromhex(p["hex"]) if isinstance(p, dict) else p for p in key)
    return key
