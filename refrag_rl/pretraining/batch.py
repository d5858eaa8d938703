"""One training batch: windows as tensors, and which of their chunks are expanded.

All windows of a batch have the same shape and the same number of expanded chunks, so that nothing
is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.corpora.windows import PromptPosition, Window

_TENSORS = ("context_ids", "chunk_mask", "expanded", "prompt_ids", "output_ids")


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows as tensors.

    Attributes:
        context_ids: (B, L, k) int64.
        chunk_mask: (B, L) bool.
        expanded: (B, L) bool.
        prompt_ids: (B, q) int64.
        output_ids: (B, o) int64.
        prompt_position: Of all rows.
        context_weight: Weight of the loss of an expanded chunk's token; 1 is that of the output's.
        name: Part of the mixture the batch comes from.
        prompt_weight: Weight of the loss of a prompt's token.
        distillation: Share of an output token's loss that follows what the decoder itself predicts
            when it reads all tokens (``distillation.py``); the rest is the true token's.
        chunk_texts: (B, L) text of each chunk; read by an encoder with a tokenizer of its own only.
        keys: (B,) of the windows.
    """

    context_ids: Tensor
    chunk_mask: Tensor
    expanded: Tensor
    prompt_ids: Tensor
    output_ids: Tensor
    prompt_position: PromptPosition
    context_weight: float
    name: str
    prompt_weight: float = 1.0
    distillation: float = 0.0
    chunk_texts: tuple[tuple[str, ...], ...] = ()
    keys: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def take(self, rows: slice) -> Batch:
        """Return the batch of some of the rows."""
        tensors = {name: getattr(self, name)[rows] for name in _TENSORS}
        return replace(self, **tensors, chunk_texts=self.chunk_texts[rows], keys=self.keys[rows])

    def scored_weight(self) -> float:
        """Return the sum of the weights of all tokens in the loss, the divisor of its mean."""
        expanded = int((self.expanded & self.chunk_mask).sum()) * self.context_ids.shape[2]
        return (
            self.output_ids.numel()
            + self.prompt_weight * self.prompt_ids.numel()
            + self.context_weight * expanded
        )


def reconstruction(windows: Sequence[Window]) -> Batch:
    """Return the batch that reconstructs the context of windows from its chunk embeddings."""
    context_ids = np.stack([window.context_ids for window in windows])
    rows, num_chunks, _ = context_ids.shape
    return Batch(
        context_ids=torch.from_numpy(context_ids),
        chunk_mask=torch.ones(rows, num_chunks, dtype=torch.bool),
        expanded=torch.zeros(rows, num_chunks, dtype=torch.bool),
        prompt_ids=torch.zeros(rows, 0, dtype=torch.int64),
        output_ids=torch.from_numpy(context_ids.reshape(rows, -1)),
        prompt_position="after",
        context_weight=0.0,
        name=f"reconstruction-{num_chunks}",
        chunk_texts=tuple(window.chunk_texts for window in windows),
        keys=tuple(window.key for window in windows),
    )


def choose_chunks(
    num_chunks: int, count: int, rng: np.random.Generator, runs: float = 0.0
) -> NDArray[np.bool_]:
    """Choose the chunks that stand as tokens: anywhere, or in runs.

    The paper picks them anywhere at random. A policy that has learned something expands neighbours,
    and the decoder must have read such mixtures too.

    Args:
        num_chunks: ``L``.
        count: Chunks to choose.
        rng: Source of chance.
        runs: How often they are runs of 1 to 6 neighbours, from 0 to 1.

    Returns:
        (L,) bool with ``count`` true.
    """
    chosen = np.zeros(num_chunks, np.bool_)
    if rng.random() < 1 - runs:
        chosen[rng.permutation(num_chunks)[:count]] = True
        return chosen
    while (left := count - int(chosen.sum())) > 0:
        start = int(rng.integers(num_chunks))
        chosen[start : start + min(left, int(rng.integers(1, 7)))] = True
    return chosen


def stack(
    windows: Sequence[Window],
    expanded: NDArray[np.bool_],
    *,
    context_weight: float = 0.0,
    distillation: float = 0.0,
    name: str = "",
) -> Batch:
    """Put windows of one shape into a batch.

    Args:
        windows: Of equal lengths and prompt position.
        expanded: (B, L) bool.
        context_weight: As in ``Batch``.
        distillation: As in ``Batch``.
        name: As in ``Batch``.
    """
    return Batch(
        context_ids=torch.from_numpy(np.stack([window.context_ids for window in windows])),
        chunk_mask=torch.from_numpy(np.stack([window.chunk_mask for window in windows])),
        expanded=torch.from_numpy(expanded),
        prompt_ids=torch.from_numpy(np.stack([window.prompt_ids for window in windows])),
        output_ids=torch.from_numpy(np.stack([window.output_ids for window in windows])),
        prompt_position=windows[0].prompt_position,
        context_weight=context_weight,
        distillation=distillation,
        name=name,
        chunk_texts=tuple(window.chunk_texts for window in windows),
        keys=tuple(window.key for window in windows),
    )


def split(batch: Batch, count: int) -> list[tuple[Batch, float]]:
    """Cut a batch by rows into parts that are read one by one or by several processes.

    The loss is a weighted mean over tokens, so the batch's loss is the sum of its parts' losses,
    each times its share of the weights.

    Args:
        batch: Of at least one row.
        count: Number of parts.

    Returns:
        Parts of nearly equal numbers of rows and their shares, which sum to 1. Where there are
        fewer rows than parts, some parts are the first row with a share of 0.
    """
    total = batch.scored_weight()
    bounds = np.linspace(0, len(batch.output_ids), count + 1).astype(int).tolist()
    parts = []
    for start, stop in pairwise(bounds):
        part = batch.take(slice(start, stop) if start < stop else slice(0, 1))
        parts.append((part, part.scored_weight() / total if start < stop else 0.0))
    return parts


def positions(batch: Batch) -> int:
    """Return the decoder positions of a batch."""
    rows, num_chunks, chunk_size = batch.context_ids.shape
    fixed = 1 + batch.prompt_ids.shape[1] + batch.output_ids.shape[1] + num_chunks
    return rows * fixed + int(batch.expanded.sum()) * (chunk_size - 1)
