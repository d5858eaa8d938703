"""Training batches: windows of a mixture of kinds, and which of their chunks are expanded.

A batch is a function of the seed, the stage and the step alone, so a resumed run needs no state
of a
data loader. All windows of a batch have the same shape and the same number of expanded chunks, so
that nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.corpora.windows import PromptPosition, Window, WindowSource
from refrag_rl.pretraining.curriculum import Curriculum

INDEFINITE = 2**31
"""``count`` of a window source that training draws from."""


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


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a mixture.

    Attributes:
        name: For logs.
        source: Windows of one shape, ``INDEFINITE`` of them.
        weight: Share of the batches, relative to the other parts.
        expansion: ``all`` chunks stand as tokens; ``none``; ``mixed``: a random number of them.
        context_weight: As in ``Batch``.
        reconstructs: The output is the text of the context's chunks, all compressed.
    """

    name: str
    source: WindowSource
    weight: float
    expansion: Literal["all", "none", "mixed"]
    context_weight: float
    reconstructs: bool = False


class MixtureBatches:
    """Batches from several parts.

    Args:
        parts: The mixture.
        batch_tokens: Decoder positions of a batch, at most (one window at least).
        seed: Seed of the stage.
        expanded_fraction: Range of ``p`` for ``mixed`` parts, drawn uniformly for each batch.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        batch_tokens: int,
        seed: int,
        expanded_fraction: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        self._parts = list(parts)
        weights = np.array([part.weight for part in parts], np.float64)
        self._shares = weights / weights.sum()
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._fraction = expanded_fraction

    def __call__(self, step: int, progress: float) -> Batch:
        """Return the batch of a step; ``progress`` is not used."""
        rng = np.random.default_rng([self._seed, step])
        part = self._parts[int(rng.choice(len(self._parts), p=self._shares))]
        if part.reconstructs:
            return draw_reconstruction(part.source, self._batch_tokens, rng)
        first = part.source[int(rng.integers(INDEFINITE))]
        count = self._expanded_count(part, first, rng)
        length = (
            1
            + len(first.prompt_ids)
            + len(first.output_ids)
            + first.num_chunks
            + count * (first.chunk_size - 1)
        )
        rows = max(1, self._batch_tokens // length)
        windows = [first]
        windows += [part.source[int(rng.integers(INDEFINITE))] for _ in range(rows - 1)]
        expanded = np.stack([choose_chunks(first.num_chunks, count, rng) for _ in windows])
        return stack(windows, expanded, context_weight=part.context_weight, name=part.name)

    def _expanded_count(self, part: Part, window: Window, rng: np.random.Generator) -> int:
        if part.expansion == "all":
            return window.num_chunks
        if part.expansion == "none":
            return 0
        low, high = self._fraction
        return round(rng.uniform(low, high) * window.num_chunks)


class ReconstructionBatches:
    """Batches whose output is the text of their chunks, all compressed (paper, section 3.1).

    Args:
        sources: Windows of each of the curriculum's sizes, ``INDEFINITE`` of them.
        curriculum: Gives the mix of sizes at each moment.
        batch_tokens: Decoder positions of a batch, at most (one data point at least).
        seed: Seed of the stage.
    """

    def __init__(
        self,
        sources: Sequence[WindowSource],
        *,
        curriculum: Curriculum,
        batch_tokens: int,
        seed: int,
    ) -> None:
        self._sources = list(sources)
        self._curriculum = curriculum
        self._batch_tokens = batch_tokens
        self._seed = seed

    def __call__(self, step: int, progress: float) -> Batch:
        """Return the batch of a step, ``progress`` (0 to 1) of the stage being done."""
        rng = np.random.default_rng([self._seed, step])
        shares = self._curriculum.shares(progress)
        source = self._sources[int(rng.choice(len(shares), p=shares))]
        return draw_reconstruction(source, self._batch_tokens, rng)


def draw_reconstruction(source: WindowSource, batch_tokens: int, rng: np.random.Generator) -> Batch:
    """Draw a batch of windows to reconstruct, of ``batch_tokens`` decoder positions at most."""
    length = 1 + source.num_chunks * (source.chunk_size + 1)
    rows = max(1, batch_tokens // length)
    return reconstruction([source[int(rng.integers(INDEFINITE))] for _ in range(rows)])


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
    )


def choose_chunks(num_chunks: int, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose the chunks that stand as tokens: half of the time anywhere, half in runs.

    The paper picks them anywhere at random. A policy that has learned something expands neighbours,
    and the decoder must have read such mixtures too.

    Args:
        num_chunks: ``L``.
        count: Chunks to choose.
        rng: Source of chance.

    Returns:
        (L,) bool with ``count`` true.
    """
    chosen = np.zeros(num_chunks, np.bool_)
    if rng.random() < 0.5:
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
    name: str = "",
) -> Batch:
    """Put windows of one shape into a batch.

    Args:
        windows: Of equal lengths and prompt position.
        expanded: (B, L) bool.
        context_weight: As in ``Batch``.
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
        name=name,
    )
