"""Rewards, gradients and weights that are not finite stop a training and say where."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from refrag_rl.agents.grpo import Grpo
from refrag_rl.agents.monitor import NullMonitor
from refrag_rl.agents.ppo import Ppo
from refrag_rl.envs import SelectiveExpansionVectorEnv
from refrag_rl.errors import NotFiniteError
from tests.planted import PlantedRewardModel, planted_problem

AGENTS: dict[str, Callable[..., Grpo | Ppo]] = {
    "grpo": lambda **options: Grpo(windows_per_update=4, **options),
    "ppo": lambda **options: Ppo(episodes_per_update=16, **options),
}


def make(name: str, learning_rate: float = 1e-3) -> Grpo | Ppo:
    policy = {"width": 16, "heads": 2}
    return AGENTS[name](
        policy=policy, device="cpu", total_rewards=64, learning_rate=learning_rate, seed=3
    )


def learn(name: str, learning_rate: float = 1e-3) -> None:
    make(name, learning_rate).learn(
        SelectiveExpansionVectorEnv(planted_problem(4, count=4), num_envs=4), NullMonitor()
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("log_perplexity", "the log-perplexity is"),
        ("chunk_embeddings", "a chunk's embedding is"),
        ("chunk_log_perplexity", "a chunk's log-perplexity is"),
    ],
)
def test_a_score_stops_the_run_with_its_window(
    monkeypatch: pytest.MonkeyPatch, name: str, method: str, said: str, value: float
) -> None:
    score = getattr(PlantedRewardModel, method)

    def broken(model, windows, *arguments):
        scores = score(model, windows, *arguments).copy()
        scores[[window.key == "planted-0-2" for window in windows]] = value
        return scores

    monkeypatch.setattr(PlantedRewardModel, method, broken)
    with pytest.raises(NotFiniteError) as stopped:
        learn(name)
    assert stopped.value.windows == ["planted-0-2"]
    assert f"{said} {value} in window planted-0-2 (document document-2)" in str(stopped.value)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_stops_the_run_before_it_reaches_a_weight(
    monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    backward = torch.Tensor.backward
    seen: list[torch.Tensor] = []

    def broken(loss: torch.Tensor) -> None:
        backward(loss)
        weight = next(iter(seen))
        assert weight.grad is not None
        weight.grad.view(-1)[0] = value

    begin = Grpo._begin

    def remembering(agent, monitor, problem, policy, optimizer):
        seen.append(optimizer.param_groups[0]["params"][0])
        return begin(agent, monitor, problem, policy, optimizer)

    monkeypatch.setattr(AGENTS[name]().__class__, "_begin", remembering)
    monkeypatch.setattr(torch.Tensor, "backward", broken)
    with pytest.raises(NotFiniteError, match="a gradient of the policy is NaN or infinite"):
        learn(name)
    assert torch.isfinite(seen[0]).all()


@pytest.mark.parametrize("name", AGENTS)
def test_a_weight_stops_the_run(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def broken(optimizer: torch.optim.Optimizer, closure: None = None) -> None:
        optimizer.param_groups[0]["params"][-1].data.fill_(float("inf"))

    monkeypatch.setattr(torch.optim.Adam, "step", broken)
    with pytest.raises(NotFiniteError, match="a weight of the policy is NaN or infinite after"):
        learn(name)


@pytest.mark.parametrize("name", AGENTS)
def test_finite_weights_that_give_no_finite_logits_stop_the_run(name: str) -> None:
    with pytest.raises(NotFiniteError, match="of the policy is NaN or infinite"):
        learn(name, learning_rate=1e37)


@pytest.mark.parametrize("name", AGENTS)
def test_a_policy_that_is_not_finite_is_not_trained_on(name: str) -> None:
    agent = make(name)
    env = SelectiveExpansionVectorEnv(planted_problem(4, count=4), num_envs=4)
    agent.learn(env, NullMonitor())
    assert agent.selector is not None
    next(agent.selector.policy.parameters()).data.view(-1)[0] = float("nan")
    with pytest.raises(NotFiniteError, match="before the first step"):
        agent.learn(env, NullMonitor())
