"""The rows of a ``comparison.json``, checked: the file may be a stranger's."""

from __future__ import annotations

import math
from types import NoneType
from typing import Any, cast, get_args, get_type_hints

from refrag_rl.evaluation.interfaces import REFERENCES, Row

_KINDS: dict[str, tuple[Any, ...]] = {
    name: get_args(kind) or (kind,) for name, kind in get_type_hints(Row).items()
}
"""What a value may be, by its key: types, or the strings of a ``Literal``."""

_MAY_BE_MISSING = (
    *(name for name in _KINDS if name.startswith("gap_closed")),
    "sees_output",
    "delta_p_value",
    "delta_p_holm",
)
"""Keys that rows of older releases do not have."""


def checked_rows(content: object) -> list[Row]:
    """Return the rows that a ``comparison.json`` holds.

    Args:
        content: Of the file.

    Raises:
        ValueError: It is no list of rows, or a row lacks a key, or has a value of another kind.
    """
    if not isinstance(content, list) or not content:
        raise ValueError("it is no list of rows")
    for number, row in enumerate(content, start=1):
        _check(number, row)
    return cast(list[Row], content)


def _check(number: int, row: object) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"row {number} is no mapping")
    for name, kinds in _KINDS.items():
        if name not in row:
            if name in _MAY_BE_MISSING:
                continue
            raise ValueError(f"row {number} has no {name}")
        if not _fits(row[name], kinds):
            raise ValueError(f"row {number} has {name}={str(row[name])[:60]!r}")
    compares = row["selector"] not in REFERENCES
    if compares and (row["compression_rate"] is None or row["budget"] is None):
        raise ValueError(f"row {number} selects without a budget")


def _fits(value: object, kinds: tuple[Any, ...]) -> bool:
    if value is None:
        return NoneType in kinds
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int):
        # JSON has no limit of digits; a float has.
        return (int in kinds or float in kinds) and abs(value) < 2**53
    if isinstance(value, float):
        return float in kinds and math.isfinite(value)
    return isinstance(value, str) and (str in kinds or value in kinds)
