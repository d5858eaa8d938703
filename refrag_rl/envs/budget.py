"""How many chunks an episode may expand: the budget ``T'``, in any of the three units in use.

The effective compression rate of a context of ``L`` chunks of ``k`` tokens, ``T' = p L`` of them
expanded, is ``k / (1 - p + k p)`` (REFRAG, arXiv 2509.01092, section 2): the tokens of the context
over the positions that the decoder reads in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from refrag_rl.errors import UserError

BudgetSpec: TypeAlias = int | float | str | Sequence[int | float | str]
"""``6`` chunks, the share ``0.2`` of the chunks, the rate ``"4x"``, or a pair of one of these."""

_Unit = Literal["chunks", "fraction", "rate"]
_FloatOrArray = TypeVar("_FloatOrArray", float, NDArray[np.float64])
_FORMS = (
    'Give a number of chunks (6), a share of them between 0 and 1 (0.2), a compression rate ("4x") '
    "or a range of two of these in one unit ([2, 8])."
)


def compression_rate(fraction: _FloatOrArray, chunk_size: int) -> _FloatOrArray:
    """Return the effective compression rate ``k / (1 - p + k p)``.

    Args:
        fraction: ``p``, the expanded share of the chunks, 0 to 1; a number or an array.
        chunk_size: ``k``, in tokens.
    """
    return chunk_size / (1.0 - fraction + chunk_size * fraction)


def expanded_fraction(rate: _FloatOrArray, chunk_size: int) -> _FloatOrArray:
    """Return the share ``p`` of the chunks to expand for an effective compression rate.

    Args:
        rate: From 1 (everything expanded) to ``k`` (nothing expanded); a number or an array.
        chunk_size: ``k``, in tokens, at least 2.
    """
    return (chunk_size / rate - 1.0) / (chunk_size - 1.0)


@dataclass(frozen=True)
class Budget:
    """A budget, fixed or drawn from a range at each reset. Made by ``parse``.

    Attributes:
        spec: What was given to ``parse``.
        ends: The smallest and the largest budget, as ``(unit, amount)``: amounts in chunks, or as a
            share of the chunks that hold text.
    """

    spec: BudgetSpec
    ends: tuple[tuple[_Unit, float], tuple[_Unit, float]]

    @classmethod
    def parse(cls, spec: BudgetSpec, *, chunk_size: int, num_chunks: int) -> Budget:
        """Read a budget.

        Args:
            spec: A number of chunks, a share of the chunks, a compression rate, or a pair of them.
            chunk_size: ``k``, in tokens.
            num_chunks: ``L``, chunks of a window.

        Raises:
            UserError: The budget has none of these forms or is out of range.
        """
        amounts: list[BudgetSpec]
        if isinstance(spec, Sequence) and not isinstance(spec, str):
            if len(spec) != 2:
                raise UserError(f"A range of budgets has two ends; given: {list(spec)}.\n{_FORMS}")
            amounts = list(spec)
        else:
            amounts = [spec, spec]
        low, high = (_parse_amount(amount, chunk_size, num_chunks) for amount in amounts)
        if low[0] != high[0]:
            raise UserError(
                f"Both ends of a budget need the same unit; given: {amounts}.\n{_FORMS}"
            )
        return cls(spec=spec, ends=(low, high))

    def chunks(self, num_valid: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the budgets of windows; a range is drawn from uniformly, both ends included.

        Args:
            num_valid: (B,) chunks that hold text, at least 1.
            rng: Used only where the budget is a range.

        Returns:
            (B,) chunks to expand, ``1 <= budget <= num_valid``.
        """
        first, second = (_amount_in_chunks(end, num_valid) for end in self.ends)
        if self.ends[0] == self.ends[1]:
            return first
        # A higher rate leaves fewer chunks, so the ends of a range of rates come the other way.
        return rng.integers(np.minimum(first, second), np.maximum(first, second), endpoint=True)


def _parse_amount(spec: object, chunk_size: int, num_chunks: int) -> tuple[_Unit, float]:
    """Return unit and amount of one end of a budget, rates turned into shares."""
    if isinstance(spec, str):
        return "rate", _parse_rate(spec, chunk_size)
    if isinstance(spec, (int, np.integer)) and not isinstance(spec, bool):
        if not 1 <= spec <= num_chunks:
            raise UserError(
                f"A budget of {spec} chunks is out of range: a window has {num_chunks} chunks.\n"
                f"Give 1 to {num_chunks}."
            )
        return "chunks", float(spec)
    if isinstance(spec, (float, np.floating)):
        if not 0.0 < spec < 1.0:
            raise UserError(
                f"A budget of {spec} is out of range: a share of the chunks lies between 0 and 1.\n"
                "Give a whole number for chunks."
            )
        return "fraction", float(spec)
    raise UserError(f"This is no budget: {spec!r}.\n{_FORMS}")


def _parse_rate(spec: str, chunk_size: int) -> float:
    """Return the share of the chunks that a text like ``4x`` stands for."""
    try:
        rate = float(spec.strip().removesuffix("x")) if spec.strip().endswith("x") else float("nan")
    except ValueError:
        rate = float("nan")
    if np.isnan(rate):
        raise UserError(f"This is no budget: {spec!r}.\n{_FORMS}")
    if not 1.0 < rate < chunk_size:
        raise UserError(
            f"A compression rate of {spec} is out of range: with chunks of {chunk_size} tokens "
            f"it lies above 1x (everything expanded) and below {chunk_size}x (nothing expanded).\n"
            "Give a rate between the two."
        )
    return expanded_fraction(rate, chunk_size)


def _amount_in_chunks(end: tuple[_Unit, float], num_valid: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one end of a budget for each window, (B,), rounded to the nearest number of chunks."""
    unit, amount = end
    chunks = np.full(num_valid.shape, amount) if unit == "chunks" else amount * num_valid
    return np.clip(np.floor(chunks + 0.5).astype(np.int64), 1, num_valid)
