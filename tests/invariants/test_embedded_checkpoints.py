"""What is true of each checkpoint inside the package."""

from pathlib import Path

import numpy as np
import pytest

from refrag_rl.composition import default_problem
from refrag_rl.modeling.checkpoint import ASSETS, embedded_checkpoints, load_refrag

LARGEST = 20_000_000
"""Bytes of a checkpoint's weights."""


def test_all_chunk_sizes_are_there() -> None:
    assert {"tiny-k8", "tiny-k16", "tiny-k32"} <= set(embedded_checkpoints())


@pytest.mark.parametrize("name", embedded_checkpoints())
def test_small_with_a_card_and_as_named(name: str) -> None:
    folder: Path = ASSETS / name
    assert (folder / "model.safetensors").stat().st_size <= LARGEST
    card = (folder / "README.md").read_text(encoding="utf-8")
    for section in ("## How it was made", "## Data", "## Held-out losses", "Licence notes"):
        assert section in card
    chunk_size = load_refrag(name).model.config.chunk_size
    assert name.endswith(f"k{chunk_size}")


@pytest.mark.slow
@pytest.mark.parametrize("name", embedded_checkpoints())
def test_chunk_embeddings_carry_content(name: str) -> None:
    problem = default_problem(
        refrag=name, corpus="docs", windows="recall", split="test", count=64, budget=1
    )
    indices = np.arange(len(problem))
    windows = [problem.window(index) for index in indices]
    none = problem.reward_model.log_perplexity_of_last_tokens(windows, 0)  # type: ignore[attr-defined]
    compressed = problem.log_perplexity(
        indices, np.zeros((len(indices), problem.num_chunks), dtype=bool)
    )
    assert (compressed - none).mean() < -0.4
