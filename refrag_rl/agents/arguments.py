"""Checks of the arguments that users give to agents, through YAML files and the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

from refrag_rl.errors import UserError

Choice = TypeVar("Choice", bound=str)


_MOST = 2**40
"""No number of rewards, windows or passes is larger, and every library can count to it."""


def whole_number(name: str, value: object, *, at_least: int, at_most: int = _MOST) -> int:
    """Return ``value`` as an integer.

    Raises:
        UserError: It is no whole number, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise UserError(f"agent.{name}={value!r}: give a whole number of at least {at_least}")
    if value > at_most:
        raise UserError(f"agent.{name}={value!r}: give a whole number of at most {at_most}")
    return value


def number(
    name: str,
    value: object,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> float:
    """Return ``value`` as a float.

    Raises:
        UserError: It is no number, or outside the bounds given.
    """
    bounds = [("at least", at_least), ("above", above), ("at most", at_most), ("below", below)]
    allowed = " and ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)
    inside = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if not inside:
        raise UserError(f"agent.{name}={value!r}: give a number {allowed}")
    assert isinstance(value, int | float)
    return float(value)


def switch(name: str, value: object) -> bool:
    """Return ``value`` as a truth value.

    Raises:
        UserError: It is neither true nor false.
    """
    if not isinstance(value, bool):
        raise UserError(f"agent.{name}={value!r}: give true or false")
    return value


def one_of(name: str, value: object, choices: Sequence[Choice]) -> Choice:
    """Return the choice that ``value`` is.

    Raises:
        UserError: It is none of them.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise UserError(f"agent.{name}={value!r}: choose from {', '.join(choices)}")
