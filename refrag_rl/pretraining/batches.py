"""Training batches drawn from windows of a mixture of kinds, or of a curriculum of sizes.

A batch is a function of the seed, the stage and the step alone, so a resumed run needs no state of
a data loader, and several processes draw the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from refrag_rl.corpora.windows import Window, WindowSource
from refrag_rl.pretraining.batch import Batch, choose_chunks, reconstruction, stack
from refrag_rl.pretraining.curriculum import Curriculum

INDEFINITE = 2**31
"""``count`` of a window source that training draws from."""


@dataclass(frozen=True, slots=True)
class BatchSize:
    """How much an optimizer step reads, over all processes: positions or windows.

    Attributes:
        tokens: Decoder positions at most (one window at least).
        windows: Windows.
    """

    tokens: int | None = None
    windows: int | None = None

    def rows(self, length: int) -> int:
        """Return the number of windows of a length in decoder positions."""
        if self.windows is not None:
            return self.windows
        assert self.tokens is not None
        return max(1, self.tokens // length)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The same kind of windows in the sizes of a curriculum.

    Attributes:
        sources: One for each of the curriculum's sizes, ``INDEFINITE`` windows each.
        curriculum: Gives the mix of sizes at each moment.
        lengths: Mean decoder positions of a window of each size; ``None``: in proportion to its
            chunks.
    """

    sources: Sequence[WindowSource]
    curriculum: Curriculum
    lengths: Sequence[float] | None = None

    def draw(self, progress: float, size: BatchSize, rng: np.random.Generator) -> WindowSource:
        """Draw the source of a batch, ``progress`` (0 to 1) of the stage being done.

        A batch of so many positions holds more short windows than long ones, a batch of so many
        windows does not.
        """
        if size.windows is None:
            shares = self.curriculum.shares_of_positions(progress, self.lengths)
        else:
            shares = self.curriculum.shares_of_windows(progress)
        return self.sources[int(rng.choice(len(shares), p=shares))]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a mixture.

    Attributes:
        name: For logs.
        source: Windows of one shape, ``INDEFINITE`` of them.
        weight: Share of the batches, relative to the other parts.
        expansion: ``all`` chunks stand as tokens; ``none``; ``mixed``: a random number of them.
        context_weight: As in ``Batch``.
        distillation: As in ``Batch``.
        reconstructs: The output is the text of the context's chunks, all compressed.
        sizes: In place of ``source``: windows whose context grows with a curriculum.
    """

    name: str
    source: WindowSource
    weight: float
    expansion: Literal["all", "none", "mixed"]
    context_weight: float
    distillation: float = 0.0
    reconstructs: bool = False
    sizes: Sizes | None = None

    def expanded_count(self, window: Window, fraction: float) -> int:
        """Return how many chunks of a window stand as tokens.

        Args:
            window: Of this part.
            fraction: ``p``, for ``mixed``.
        """
        if self.expansion == "all":
            return window.num_chunks
        return round(fraction * window.num_chunks) if self.expansion == "mixed" else 0

    def longest_row(self, fraction: float) -> int:
        """Return the decoder positions of the longest row, read by learner or teacher.

        Args:
            fraction: The largest ``p``.
        """
        if self.reconstructs:
            return _reconstruction_length(self.source)
        window = self.source[0]
        is_taught = self.distillation > 0
        count = window.num_chunks if is_taught else self.expanded_count(window, fraction)
        return window.positions(count)


class MixtureBatches:
    """Batches from several parts.

    Args:
        parts: The mixture.
        size: Of a batch.
        seed: Seed of the stage.
        expanded_fraction: Range of ``p`` for ``mixed`` parts, drawn uniformly for each batch.
        expanded_runs: How often their expanded chunks stand in runs; see ``choose_chunks``.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        size: BatchSize,
        seed: int,
        expanded_fraction: tuple[float, float] = (0.0, 1.0),
        expanded_runs: float = 0.0,
    ) -> None:
        self._parts = list(parts)
        weights = np.array([part.weight for part in parts], np.float64)
        self._shares = weights / weights.sum()
        self._size = size
        self._seed = seed
        self._fraction = expanded_fraction
        self._runs = expanded_runs

    def __call__(self, step: int, progress: float) -> Batch:
        """Return the batch of a step, ``progress`` (0 to 1) of the stage being done."""
        rng = np.random.default_rng([self._seed, step])
        part = self._parts[int(rng.choice(len(self._parts), p=self._shares))]
        if part.reconstructs:
            return draw_reconstruction(part.source, self._size, rng)
        source = part.source
        if part.sizes is not None:
            source = part.sizes.draw(progress, self._size, rng)
        first = source[int(rng.integers(INDEFINITE))]
        fraction = rng.uniform(*self._fraction) if part.expansion == "mixed" else 0.0
        count = part.expanded_count(first, fraction)
        rows = self._size.rows(first.positions(count))
        windows = [first]
        windows += [source[int(rng.integers(INDEFINITE))] for _ in range(rows - 1)]
        expanded = np.stack(
            [choose_chunks(first.num_chunks, count, rng, self._runs) for _ in windows]
        )
        return stack(
            windows,
            expanded,
            context_weight=part.context_weight,
            distillation=part.distillation,
            name=part.name,
        )

    def longest_rows(self) -> dict[str, int]:
        """Return the decoder positions of the longest row of each part that is drawn."""
        drawn = (part for part in self._parts if part.weight > 0)
        return {part.name: part.longest_row(self._fraction[1]) for part in drawn}


class ReconstructionBatches:
    """Batches whose output is the text of their chunks, all compressed (paper, section 3.1).

    Args:
        sizes: Windows of the curriculum's sizes; their outputs are not used.
        size: Of a batch.
        seed: Seed of the stage.
    """

    def __init__(self, sizes: Sizes, *, size: BatchSize, seed: int) -> None:
        self._sizes = sizes
        self._size = size
        self._seed = seed

    def __call__(self, step: int, progress: float) -> Batch:
        """Return the batch of a step, ``progress`` (0 to 1) of the stage being done."""
        rng = np.random.default_rng([self._seed, step])
        return draw_reconstruction(self._sizes.draw(progress, self._size, rng), self._size, rng)

    def longest_rows(self) -> dict[str, int]:
        """Return the decoder positions of the longest data point, by a name for it."""
        longest = self._sizes.sources[-1]
        return {f"{longest.num_chunks} chunks": _reconstruction_length(longest)}


def draw_reconstruction(source: WindowSource, size: BatchSize, rng: np.random.Generator) -> Batch:
    """Draw a batch of windows to reconstruct."""
    rows = size.rows(_reconstruction_length(source))
    return reconstruction([source[int(rng.integers(INDEFINITE))] for _ in range(rows)])


def _reconstruction_length(source: WindowSource) -> int:
    """Return the decoder positions of a window whose output are its chunks' tokens."""
    return 1 + source.num_chunks * (source.chunk_size + 1)
