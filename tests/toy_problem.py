"""A tiny expansion problem with a reward that is a fixed function of window and set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.envs.problem import ExpansionProblem

NUM_CHUNKS = 6
CHUNK_SIZE = 4
EMBEDDING_SIZE = 3


def toy_window(index: int, *, output_shift: int = 0) -> Window:
    """Three passages of two chunks; every third window lacks one, every fourth has no prompt."""
    rng = np.random.default_rng(index)
    mask = np.arange(NUM_CHUNKS) < (4 if index % 3 == 2 else NUM_CHUNKS)
    passage = np.where(mask, np.arange(NUM_CHUNKS) // 2, -1)
    has_prompt = index % 4 != 3
    return Window(
        key=f"toy-{index}",
        context_ids=np.where(mask[:, None], rng.integers(1, 9, (NUM_CHUNKS, CHUNK_SIZE)), 0),
        chunk_mask=mask,
        prompt_ids=rng.integers(1, 9, 5 if has_prompt else 0),
        output_ids=rng.integers(1, 9, 7) + output_shift,
        document_id=f"document {index}",
        domain="toy",
        prompt_position="before" if index % 2 else "after",
        chunk_texts=tuple(f"chunk {i}" if held else "" for i, held in enumerate(mask)),
        prompt_text="what follows?" if has_prompt else "",
        output_text="this follows",
        passage=passage,
        passage_scores=np.where(mask, 5.0 - (passage - 1) ** 2, 0).astype(np.float32),
        planted=np.zeros(NUM_CHUNKS, dtype=bool),
    )


@dataclass
class ToyWindows:
    count: int = 12
    output_shift: int = 0
    num_chunks: int = NUM_CHUNKS
    chunk_size: int = CHUNK_SIZE
    kind: str = "retrieved"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Window:
        return toy_window(index, output_shift=self.output_shift)


class ToyRewardModel:
    """Additive and pairwise gains drawn from the ids of a window; counts how it is called."""

    embedding_size = EMBEDDING_SIZE

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> ToyRewardModel:
        raise AssertionError("a reward model must not be copied")

    def chunk_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        table = np.random.default_rng(0).normal(size=(9, EMBEDDING_SIZE))
        rows = [table[w.context_ids].mean(axis=1) * w.chunk_mask[:, None] for w in windows]
        return np.stack(rows).astype(np.float32)

    def prompt_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        table = np.random.default_rng(0).normal(size=(9, EMBEDDING_SIZE))
        return np.stack([table[w.prompt_ids].sum(axis=0) for w in windows]).astype(np.float32)

    def chunk_log_perplexity(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        rows = [w.context_ids.mean(axis=1) * w.chunk_mask for w in windows]
        return np.stack(rows).astype(np.float32)

    def chunk_reconstruction_loss(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        return self.chunk_log_perplexity(windows) / 2

    projected_size = EMBEDDING_SIZE + 2

    def projected_chunk_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        return np.pad(self.chunk_embeddings(windows), ((0, 0), (0, 0), (0, 2)))

    def projected_prompt_embeddings(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        return np.pad(self.prompt_embeddings(windows), ((0, 0), (0, 2)))

    def log_perplexity(
        self, windows: Sequence[Window], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.calls.append(len(windows))
        scores = []
        for window, chosen in zip(windows, expanded, strict=True):
            rng = np.random.default_rng(window.output_ids)
            single, pair = rng.normal(size=NUM_CHUNKS), rng.normal(size=(NUM_CHUNKS, NUM_CHUNKS))
            scores.append(3.0 + 0.1 * (single @ chosen + chosen @ pair @ chosen))
        return np.array(scores, dtype=np.float32)


def toy_problem(budget: Any = 2, *, count: int = 12, **options: Any) -> ExpansionProblem:
    """Return a problem of ``count`` windows of 6 chunks (some hold 4) of 4 tokens."""
    return ExpansionProblem(ToyWindows(count), ToyRewardModel(), budget, **options)


def with_output(window: Window, output_ids: NDArray[np.int64]) -> Window:
    """Return the window with another output under the same key."""
    return replace(window, output_ids=output_ids, output_text="something else")
