"""Batches that hold each context once, and those that hold it in every row."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from refrag_rl.policies.sharing import CONTEXT, CONTEXT_KEYS


def in_every_row(observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch with its context in every row, as the environment gives it."""
    rows = dict(observation)
    if CONTEXT in rows:
        context = rows.pop(CONTEXT).flatten().long()
        rows |= {name: rows[name][context] for name in CONTEXT_KEYS}
    return rows
