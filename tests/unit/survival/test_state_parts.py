"""What a checkpoint holds beside weights: random states, caches, how far the curves go."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.event_files import ResumableWriter, cut_event_files
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.random_state import random_state, restore_random_state
from refrag_rl.reward import RewardModel
from refrag_rl.score_caches import ScoreCaches
from tests.survival.trials import curves
from tests.tiny_models import byte_level_tokenizer, random_window, tiny_refrag


def draws() -> list[float]:
    return [
        random.random(),
        random.gauss(),
        float(np.random.rand()),  # noqa: NPY002
        float(np.random.randn()),  # noqa: NPY002
        float(torch.randn(())),
    ]


@pytest.mark.parametrize("before", [0, 1])
def test_the_generators_of_every_library_go_on(before: int) -> None:
    # After an odd number of normal draws the second of a pair is waiting.
    for _ in range(before):
        draws()
    state = random_state()
    expected = [draws(), draws()]
    restore_random_state(state)
    assert [draws(), draws()] == expected


class Windows:
    """Ten windows of random tokens."""

    kind = "random"
    num_chunks = 6
    chunk_size = 4

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int):
        return random_window(index)


def caches() -> tuple[ExpansionProblem, RewardModel, ScoreCaches]:
    reward_model = RewardModel(
        tiny_refrag(), ChunkTokenizer(byte_level_tokenizer(), start_token_id=1)
    )
    problem = ExpansionProblem(
        Windows(), reward_model, budget=2, reward_baseline="recency", cache_windows=4
    )
    return problem, reward_model, ScoreCaches(problem, reward_model)


def test_restored_caches_hold_what_was_computed_in_the_order_of_its_use() -> None:
    problem, reward_model, kept = caches()
    expanded = np.zeros((3, 6), dtype=bool)
    expanded[:, 1] = True
    indices = [7, 2, 5]
    problem.observe([0, 1, 2, 7, 2])
    rewards = problem.rewards(indices, expanded)
    tensors = kept.tensors()

    other_problem, other_model, restored = caches()
    restored.restore(tensors)
    again = restored.tensors()
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(again[name], tensor), name
    assert (other_problem.rewards(indices, expanded) == rewards).all()
    assert other_model.sets_scored == 0 < reward_model.sets_scored
    restored.restore({})
    assert restored.tensors() == {}


def test_curves_are_cut_where_the_state_was_kept(tmp_path: Path) -> None:
    with ResumableWriter(tmp_path, {}) as first:
        first.add_scalar("loss", 1.0, 1)
        position = first.position()
        first.add_scalar("loss", 2.0, 2)
    with ResumableWriter(tmp_path, position) as second:
        second.add_scalar("loss", 3.0, 2)
        later = second.position()
    with ResumableWriter(tmp_path, later) as third:
        third.add_scalar("loss", 4.0, 3)
    assert curves(tmp_path) == {"loss": [(1, 1.0), (2, 3.0), (3, 4.0)]}
    ResumableWriter(tmp_path, {}).close()
    assert curves(tmp_path) == {}


def test_no_file_is_cut_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.write_text("all of it")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "events.out.tfevents.1").symlink_to(outside)
    cut_event_files(folder, {"events.out.tfevents.1": 3, "../precious": 0})
    assert outside.read_text() == "all of it"
    assert list(folder.iterdir()) == []
