"""The states of the global random generators, as tensors that a checkpoint can hold."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_NO_GAUSS = float("nan")
_LARGEST_WORD = 2**32 - 1


def random_state() -> dict[str, Tensor]:
    """Return the states of Python's, NumPy's and torch's generators, accelerators included."""
    _, python, python_gauss = random.getstate()
    _, key, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    kept_gauss = [
        _NO_GAUSS if python_gauss is None else python_gauss,
        gauss if has_gauss else _NO_GAUSS,
    ]
    state = {
        "python": torch.tensor(python, dtype=torch.int64),
        "numpy": torch.tensor([*np.asarray(key).tolist(), position], dtype=torch.int64),
        # Normal draws come in pairs; the second of a pair may still be waiting.
        "gauss": torch.tensor(kept_gauss, dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        for number, own in enumerate(torch.cuda.get_rng_state_all()):
            state[f"cuda.{number}"] = own
    return state


def check_random_state(state: Mapping[str, Tensor]) -> None:
    """Check that ``restore_random_state`` can set the generators to a state.

    NumPy takes what it is given unseen: a position beyond the end would read memory that is not
    the generator's.

    Raises:
        ValueError: A part is missing, or is no state.
    """
    for name, own in random_state().items():
        part = state.get(name)
        if part is None and name.startswith("cuda."):
            continue
        if part is None or part.dtype != own.dtype or part.shape != own.shape:
            raise ValueError(f"the random state {name} is {_kind(part)}, not {_kind(own)}")
    for name in ("python", "numpy"):
        words, position = state[name][:-1], int(state[name][-1])
        if not 0 <= int(words.min()) <= int(words.max()) <= _LARGEST_WORD:
            raise ValueError(f"the random state {name} holds numbers that are no 32 bits")
        if not words.any() or not 0 <= position <= len(words):
            raise ValueError(f"the random state {name} is none that its generator can be in")
    if state["gauss"].isinf().any():
        raise ValueError("the random state gauss is infinite")
    try:
        torch.Generator().set_state(state["torch"])
    except RuntimeError as error:
        raise ValueError(f"the random state torch: {error}") from error


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Set the generators to what ``random_state`` returned.

    A run may go on on a machine with other accelerators; generators that are not there are left
    out, those that are new are left as they are.

    Args:
        state: As ``check_random_state`` lets it pass.
    """
    waiting = [None if np.isnan(value) else value for value in state["gauss"].tolist()]
    random.setstate((3, tuple(state["python"].tolist()), waiting[0]))
    *key, position = state["numpy"].tolist()
    gauss = waiting[1]
    np.random.set_state(  # noqa: NPY002
        ("MT19937", np.array(key, np.uint32), position, int(gauss is not None), gauss or 0.0)
    )
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            if f"cuda.{number}" in state:
                torch.cuda.set_rng_state(state[f"cuda.{number}"], number)


def _kind(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
