"""A planted task: which chunks pay is known, and can be read off the observation.

Windows of passages of random tokens; the prompt repeats one chunk of one of them, and that chunk
and the ``span - 1`` after it in its passage lower the output's log-perplexity by 1 nat each. The
rest changes it by a little noise, and windows differ in difficulty, as real ones do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refrag_rl.agents.selector import Selector
from refrag_rl.corpora.windows import Window
from refrag_rl.envs.problem import ExpansionProblem

EMBEDDING_SIZE = 12


@dataclass
class PlantedWindows:
    """Windows of ``passages`` passages of ``passage_chunks`` chunks of ``chunk_size`` tokens.

    With ``padding``, every other window lacks its last passage.
    """

    count: int = 400
    passages: int = 4
    passage_chunks: int = 4
    chunk_size: int = 4
    span: int = 3
    padding: bool = False
    seed: int = 0
    kind: str = "recall"

    @property
    def num_chunks(self) -> int:
        return self.passages * self.passage_chunks

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Window:
        rng = np.random.default_rng([self.seed, index])
        held = self.passages - (1 if self.padding and index % 2 else 0)
        mask = np.arange(self.num_chunks) < held * self.passage_chunks
        context = rng.integers(1, 60, size=(self.num_chunks, self.chunk_size)) * mask[:, None]
        start = rng.integers(self.passage_chunks - self.span + 1)
        match = rng.integers(held) * self.passage_chunks + start
        planted = np.zeros(self.num_chunks, dtype=bool)
        planted[match : match + self.span] = True
        passage = np.where(mask, np.arange(self.num_chunks) // self.passage_chunks, -1)
        return Window(
            key=f"planted-{self.seed}-{index}",
            context_ids=context,
            chunk_mask=mask,
            prompt_ids=context[match],
            output_ids=np.arange(4),
            document_id=f"document-{index}",
            domain="planted",
            prompt_position="after",
            chunk_texts=tuple("text" if held else "" for held in mask),
            prompt_text="",
            output_text="",
            passage=passage,
            passage_scores=np.zeros(self.num_chunks, dtype=np.float32),
            planted=planted,
        )


class PlantedRewardModel:
    """Scores planted windows without a model; counts the sets it scores."""

    embedding_size = EMBEDDING_SIZE

    def __init__(self) -> None:
        self.sets_scored = 0

    def _noise(self, window: Window, width: int) -> NDArray[np.float64]:
        rng = np.random.default_rng([*window.key.encode()])
        return rng.normal(size=(window.num_chunks + 1, width))

    def chunk_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        noise = [self._noise(w, EMBEDDING_SIZE)[:-1] * w.chunk_mask[:, None] for w in windows]
        return np.stack(noise).astype(np.float32)

    def prompt_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        return np.stack([self._noise(w, EMBEDDING_SIZE)[-1] for w in windows]).astype(np.float32)

    def chunk_log_perplexity(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        noise = [(4 + self._noise(w, 1)[:-1, 0]) * w.chunk_mask for w in windows]
        return np.stack(noise).astype(np.float32)

    def log_perplexity(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.sets_scored += len(windows)
        scores = []
        for window, chosen in zip(windows, expanded, strict=True):
            noise = self._noise(window, 2)
            gain = window.planted + 0.05 * noise[:-1, 0]
            scores.append(4 + 0.5 * noise[-1, 1] - gain[chosen].sum())
        return np.array(scores, dtype=np.float32)

    def token_log_likelihood(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> list[NDArray[np.float32]]:
        """Spread the score over the tokens; each token has noise of its own for each chunk."""
        tokens = []
        for window, chosen in zip(windows, expanded, strict=True):
            rng = np.random.default_rng([len(window.key), *window.key.encode()])
            noise = rng.normal(size=(len(window.output_ids), window.num_chunks)) @ chosen
            score = self.log_perplexity([window], chosen[None])[0]
            tokens.append((-score + 0.3 * (noise - noise.mean())).astype(np.float32))
        return tokens


def planted_problem(budget: int = 4, **options: object) -> ExpansionProblem:
    """Return the task as a problem; ``options`` are those of ``PlantedWindows``."""
    windows = PlantedWindows(**options)  # type: ignore[arg-type]
    return ExpansionProblem(
        windows, PlantedRewardModel(), budget=budget, reward_baseline="compressed"
    )


def share_found(selector: Selector, problem: ExpansionProblem, budget: int) -> float:
    """Return the share of the planted chunks that a selector expands, over all windows."""
    indices = np.arange(len(problem))
    budgets = np.full(len(problem), budget)
    observation = problem.observe(indices, budgets)
    expanded = selector.select(observation, budgets, np.random.default_rng(0))
    planted = np.stack([problem.window(int(index)).planted for index in indices])
    return float((expanded & planted).sum() / planted.sum())
