"""PPO with our policy class and buffer and with sb3-contrib's own, where both can say the same.

Both are made linear in the observation, with the same weights: ours from outside, as a pointer, the
library's by its own layers without hidden ones.
"""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from refrag_rl.agents.ppo_policy import MaskablePointerPolicy
from refrag_rl.agents.rollout import EpisodeRolloutBuffer
from refrag_rl.envs.sb3 import SelectiveExpansionVecEnv
from tests.contexts import in_every_row
from tests.planted import planted_problem

OPTIONS = {"n_steps": 12, "batch_size": 24, "n_epochs": 3, "learning_rate": 0.01, "ent_coef": 0.01}


class LinearPointer(nn.Module):
    """Logits and value linear in all that is observed, keys in the order of the space."""

    def __init__(self, space: spaces.Dict) -> None:
        super().__init__()
        self.keys = list(space.spaces)
        size = sum(int(np.prod(box.shape)) for box in space.spaces.values())
        self.action = nn.Linear(size, space["chunk_mask"].shape[0])
        self.value = nn.Linear(size, 1)

    def logits_and_value(self, observation):
        observation = in_every_row(observation)
        flat = torch.cat([observation[key].flatten(1) for key in self.keys], dim=1)
        return self.action(flat), self.value(flat).squeeze(-1)


def learned(policy_class, policy_kwargs, weights, timing, **options):
    view = SelectiveExpansionVecEnv(
        planted_problem((2, 4), count=40, padding=True), 4, reward_timing=timing, flat=False
    )
    options = {"policy_kwargs": policy_kwargs, "device": "cpu", **OPTIONS, **options}
    model = MaskablePPO(policy_class, view, **options)
    with torch.no_grad():
        for layer, (weight, bias) in zip(layers(model.policy), weights, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    # Making the policies drew from the generator, from here on both draw the same.
    set_random_seed(0)
    model.env.seed(0)
    model.learn(4 * 12 * 3)
    return model


def layers(policy):
    if isinstance(policy, MaskablePointerPolicy):
        return policy.features_extractor.pointer.action, policy.features_extractor.pointer.value
    return policy.action_net, policy.value_net


@pytest.mark.parametrize("timing", ["terminal", "per_step"])
def test_three_updates_give_the_same_weights(timing):
    torch.manual_seed(3)
    space = SelectiveExpansionVecEnv(planted_problem(count=4), 1, flat=False).observation_space
    pointer = LinearPointer(space)
    weights = [
        (0.2 * torch.randn_like(layer.weight), torch.zeros_like(layer.bias))
        for layer in (pointer.action, pointer.value)
    ]
    ours = learned(
        MaskablePointerPolicy,
        {"pointer": pointer},
        weights,
        timing,
        rollout_buffer_class=EpisodeRolloutBuffer,
    )
    theirs = learned(
        MaskableMultiInputActorCriticPolicy,
        {"net_arch": {"pi": [], "vf": []}, "ortho_init": False},
        weights,
        timing,
    )
    assert (ours.rollout_buffer.actions == theirs.rollout_buffer.actions).all()
    assert np.abs(ours.rollout_buffer.advantages).max() > 0
    for mine, other, (start, _) in zip(
        layers(ours.policy), layers(theirs.policy), weights, strict=True
    ):
        torch.testing.assert_close(mine.weight, other.weight, rtol=0, atol=1e-5)
        torch.testing.assert_close(mine.bias, other.bias, rtol=0, atol=1e-5)
        assert (mine.weight - start).abs().max() > 0.01


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_the_library_s_advantages_are_trl_s(gae_lambda):
    rng = np.random.default_rng(0)
    steps, gamma = 9, 0.97
    rewards, values = rng.normal(size=(2, steps)).astype(np.float32)
    space = spaces.Box(-1, 1, (1,), np.float32)
    buffer = RolloutBuffer(
        steps, space, spaces.Discrete(2), gamma=gamma, gae_lambda=gae_lambda, n_envs=1
    )
    for step in range(steps):
        start, value = np.array([step == 0]), torch.tensor([values[step]])
        buffer.add(np.zeros((1, 1)), np.zeros(1), rewards[[step]], start, value, torch.zeros(1))
    buffer.compute_returns_and_advantage(torch.zeros(1), np.array([True]))
    # trl's PPOTrainer: the sum is run backwards, the value after the end is 0.
    last, found = 0.0, []
    for step in reversed(range(steps)):
        following = values[step + 1] if step < steps - 1 else 0.0
        delta = rewards[step] + gamma * following - values[step]
        last = delta + gamma * gae_lambda * last
        found.append(last)
    np.testing.assert_allclose(buffer.advantages[:, 0], found[::-1], rtol=1e-4, atol=1e-5)
