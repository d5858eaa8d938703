"""Ranges of the numbers in a config, written beside their types."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import field, is_dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from refrag_rl.errors import UserError

_WITHIN = "within"

LARGEST_SEED = 2**32 - 1
"""The largest that NumPy, torch and Python all take."""


def within(low: float | None = None, high: float | None = None, *, default: Any = MISSING) -> Any:
    """Return the field of a number that lies in a range; floats must be finite, too.

    Args:
        low: The lowest value that is allowed; ``None``: any.
        high: The highest; ``None``: any.
        default: Value of the field.
    """
    return field(default=default, metadata={_WITHIN: (low, high)})


def check_ranges(config: DictConfig | ListConfig) -> None:
    """Check the numbers of a config against the ranges of its dataclasses.

    Raises:
        UserError: One is outside its range.
    """
    known = OmegaConf.get_type(config)
    if isinstance(config, DictConfig) and is_dataclass(known):
        for name, own in known.__dataclass_fields__.items():
            if _WITHIN in own.metadata and not OmegaConf.is_missing(config, name):
                _check(config._get_full_key(name), config[name], *own.metadata[_WITHIN])
    for node in _sections(config):
        check_ranges(node)


def _sections(config: DictConfig | ListConfig) -> Iterator[DictConfig | ListConfig]:
    keys: Any = config if isinstance(config, DictConfig) else range(len(config))
    for key in keys:
        node = config._get_node(key)
        if not isinstance(node, DictConfig | ListConfig):
            continue
        if not (node._is_none() or node._is_missing() or node._is_interpolation()):
            yield node


def _check(key: str, value: object, low: float | None, high: float | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    inside = (low is None or value >= low) and (high is None or value <= high)
    if inside and (_is_countable(value) if isinstance(value, int) else math.isfinite(value)):
        return
    if low is not None and high is not None:
        allowed = f"from {low} to {high}"
    elif low is not None:
        allowed = f"of at least {low}"
    else:
        allowed = "that is finite"
    if isinstance(value, int) and not _is_countable(value):
        allowed += ", of at most 18 digits"
    raise UserError(f"{key}={value}: give a number {allowed}")


def _is_countable(value: int) -> bool:
    # What is larger fits into no integer of NumPy or torch, and may fit into no float.
    return abs(value) < 10**18
