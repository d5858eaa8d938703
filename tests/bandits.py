"""One context, again and again, with a known reward for every set: what is best is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.envs.problem import ExpansionProblem
from tests.planted import PlantedRewardModel, PlantedWindows

CHUNKS, BUDGET = 6, 2
SINGLE = {
    "additive": [0.1, 0.6, 0.0, 0.3, 0.8, 0.2],
    "a redundant pair": [1.0, 0.9, 0.5, 0.0, 0.1, 0.2],
    "a synergistic pair": [0.2, 0.0, 0.1, 0.0, 0.0, 0.1],
}
PAIR = {
    "additive": (0, 0, 0.0),
    "a redundant pair": (0, 1, -0.9),
    "a synergistic pair": (1, 4, 1.0),
}
BEST = {"additive": {1, 4}, "a redundant pair": {0, 2}, "a synergistic pair": {1, 4}}


@dataclass
class OneWindow:
    """The same window under every index."""

    count: int = 1
    num_chunks: int = CHUNKS
    chunk_size: int = 4
    kind: str = "contiguous"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Window:
        window = PlantedWindows(passages=2, passage_chunks=3, span=2)[0]
        return replace(window, key="bandit")


class BanditRewardModel(PlantedRewardModel):
    """Gains of single chunks and of one pair."""

    def __init__(self, worth: str) -> None:
        super().__init__()
        self.worth = worth

    def log_perplexity(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        first, second, together = PAIR[self.worth]
        pair = expanded[:, first] & expanded[:, second]
        gain = expanded @ np.array(SINGLE[self.worth]) + together * pair
        return (4 - gain).astype(np.float32)


def bandit(worth: str) -> ExpansionProblem:
    """Return the problem of a kind of worth, a key of ``BEST``: two of six chunks to pick."""
    return ExpansionProblem(
        OneWindow(), BanditRewardModel(worth), budget=BUDGET, reward_baseline="compressed"
    )


def chosen(problem: ExpansionProblem, select: Callable[..., NDArray[np.bool_]]) -> set[int]:
    """Return the chunks that a selector expands."""
    budgets = np.array([BUDGET])
    expanded = select(problem.observe([0], budgets), budgets, np.random.default_rng(0))
    return set(np.flatnonzero(expanded[0]).tolist())


def best_set(problem: ExpansionProblem) -> set[int]:
    """Return the best of all sets, by trying them."""
    sets = list(combinations(range(CHUNKS), BUDGET))
    expanded = np.zeros((len(sets), CHUNKS), dtype=bool)
    for row, chunks in enumerate(sets):
        expanded[row, list(chunks)] = True
    scores = problem.log_perplexity(np.zeros(len(sets), dtype=int), expanded)
    return set(sets[int(scores.argmin())])
