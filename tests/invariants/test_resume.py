"""Invariant 6: a training that was killed and resumed gives the curve of one that was not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refrag_rl.agents.demonstrations import Demonstrations
from refrag_rl.agents.grpo import Grpo
from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.imitation import Imitation
from refrag_rl.agents.monitor import NullMonitor
from refrag_rl.agents.ppo import Ppo
from refrag_rl.agents.regression import Regression
from refrag_rl.agents.reinforce import Reinforce
from refrag_rl.agents.rloo import Rloo
from refrag_rl.envs import SelectiveExpansionVectorEnv
from refrag_rl.errors import UserError
from refrag_rl.training_state import Checkpoint
from tests.planted import planted_problem

AGENTS = {
    "grpo": lambda **options: Grpo(windows_per_update=4, minibatches=2, **options),
    "grpo-credit": lambda **options: Grpo(
        windows_per_update=4, credit_per_chunk=True, entropy_coef=0.01, **options
    ),
    "rloo": lambda **options: Rloo(windows_per_update=4, **options),
    "rloo-warm": lambda **options: Rloo(
        windows_per_update=4,
        warm_start="imitation",
        warm_start_rewards=200,
        **{**options, "total_rewards": 500},
    ),
    "reinforce": lambda **options: Reinforce(windows_per_update=16, **options),
    "imitation": lambda **options: Imitation(picks=1, windows_per_update=2, **options),
    "regression": lambda **options: Regression(windows_per_update=4, **options),
    "ppo": lambda **options: Ppo(episodes_per_update=32, minibatches=2, **options),
}
TOTAL = 200


class KilledError(Exception):
    """Stands for a kill."""


class Keeper(NullMonitor):
    """Keeps curve and checkpoints; a new one on the same folder goes on from the last."""

    def __init__(self, folder: Path, kill_at: int | None = None) -> None:
        self.reference = HEURISTICS["random"]()
        self.rows: dict[int, dict[str, float]] = {}
        self.checkpoint = Checkpoint(folder)
        self.kill_at = kill_at
        self.updates = 0

    def record(self, step, scalars):
        self.rows[step] = {k: v for k, v in scalars.items() if k != "reward/rewards_per_second"}
        self.updates += 1
        if self.updates == self.kill_at:
            raise KilledError

    def restore(self, policy, optimizer):
        return self.checkpoint.load(policy, [optimizer]) if self.checkpoint.exists() else {}

    def should_save(self, done):
        return self.updates % 2 == 0

    def save(self, policy, optimizer, progress):
        self.checkpoint.save(policy, [optimizer], dict(progress))


def learn(name: str, monitor: Keeper, **options):
    # A new agent on a new problem; what was drawn before must not matter.
    torch.rand(3), np.random.rand(3)  # noqa: NPY002
    policy = {"width": 16, "heads": 2, "output_scale": 1.0}
    given = {"total_rewards": TOTAL, "learning_rate": 0.01, "seed": 5, **options}
    agent = AGENTS[name](policy=policy, device="cpu", **given)
    problem = planted_problem([2, 5], count=50, padding=True)
    agent.learn(SelectiveExpansionVectorEnv(problem, num_envs=8), monitor)
    return agent


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize("name", AGENTS)
def test_a_killed_and_resumed_training_gives_the_same_curve_and_weights(name, schedule, tmp_path):
    whole = Keeper(tmp_path / "whole")
    expected = learn(name, whole, learning_rate_schedule=schedule)

    # Killed one update after a checkpoint, which is then made again, and in the midst of a save.
    killed = Keeper(tmp_path / "killed", kill_at=3)
    with pytest.raises(KilledError):
        learn(name, killed, learning_rate_schedule=schedule)
    (tmp_path / "killed" / ".000002.safetensors.new").write_bytes(b"half")
    resumed = Keeper(tmp_path / "killed")
    agent = learn(name, resumed, learning_rate_schedule=schedule)

    steps = sorted(whole.rows)
    assert len(steps) >= 6
    assert sorted(resumed.rows) == steps[2:]
    np.testing.assert_equal(killed.rows | resumed.rows, whole.rows)
    weights = agent.selector.policy.state_dict()
    for key, tensor in expected.selector.policy.state_dict().items():
        assert torch.equal(tensor, weights[key]), key
    assert agent.selector.training == expected.selector.training


def test_a_resumed_training_at_its_end_changes_nothing(tmp_path):
    monitor = Keeper(tmp_path / "state")
    expected = learn("grpo", monitor, total_rewards=64)
    again = Keeper(tmp_path / "state")
    agent = learn("grpo", again, total_rewards=64)
    assert not again.rows
    assert agent.selector.training == expected.selector.training
    for key, tensor in expected.selector.policy.state_dict().items():
        assert torch.equal(tensor, agent.selector.policy.state_dict()[key]), key


def test_a_damaged_checkpoint_is_a_user_error(tmp_path):
    learn("grpo", Keeper(tmp_path / "state"), total_rewards=64)
    for saved in (tmp_path / "state").iterdir():
        saved.write_bytes(saved.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be resumed from"):
        learn("grpo", Keeper(tmp_path / "state"), total_rewards=64)


def test_every_episode_can_end_in_a_small_update():
    # 4 episodes of 2 to 5 steps on 8 environments would be 2 steps an update.
    problem = planted_problem([2, 5], count=50)
    agent = Ppo(episodes_per_update=4, device="cpu")
    assert agent._make_model(SelectiveExpansionVectorEnv(problem, num_envs=8)).n_steps == 5


def test_a_resumed_imitation_labels_no_window_again(tmp_path, monkeypatch):
    labelled = []
    add = Demonstrations.add
    monkeypatch.setattr(
        Demonstrations, "add", lambda own, update: labelled.append(update) or add(own, update)
    )
    with pytest.raises(KilledError):
        learn("imitation", Keeper(tmp_path, kill_at=3))
    assert labelled == [0, 1, 2]
    learn("imitation", Keeper(tmp_path))
    assert labelled[3:5] == [2, 3]
