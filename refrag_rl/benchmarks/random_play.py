"""Random permitted actions through the three views of the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refrag_rl.envs.options import RewardTiming
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.envs.single import SelectiveExpansionEnv
from refrag_rl.envs.vector import SelectiveExpansionVectorEnv


class Played(NamedTuple):
    """What was played.

    Attributes:
        steps: Chunks picked; a step that only begins an episode does not count.
        episodes: That ended.
    """

    steps: int
    episodes: int


Play = Callable[[ExpansionProblem, int, RewardTiming, int, int], Played]
"""(problem, episodes side by side, reward timing, episodes, seed) -> what was played.

Plays until at least so many episodes have ended.
"""


def play_single(
    problem: ExpansionProblem, num_envs: int, timing: RewardTiming, episodes: int, seed: int
) -> Played:
    """Play one episode after another; see ``Play``. ``num_envs`` is not used."""
    env = SelectiveExpansionEnv(problem, reward_timing=timing)
    rng = np.random.default_rng(seed)
    steps = 0
    for episode in range(episodes):
        env.reset(seed=seed if episode == 0 else None)
        ended = False
        while not ended:
            action = _permitted(env.action_masks()[None], rng)[0]
            _, _, ended, _, _ = env.step(action)
            steps += 1
    return Played(steps, episodes)


def play_vector(
    problem: ExpansionProblem, num_envs: int, timing: RewardTiming, episodes: int, seed: int
) -> Played:
    """Play ``num_envs`` episodes side by side; see ``Play``."""
    env = SelectiveExpansionVectorEnv(problem, num_envs, reward_timing=timing)
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    begins = np.zeros(num_envs, dtype=bool)
    steps = ended = 0
    while ended < episodes:
        _, _, terminated, _, _ = env.step(_permitted(env.action_masks(), rng))
        steps += int((~begins).sum())
        ended += int(terminated.sum())
        begins = terminated
    return Played(steps, ended)


def play_sb3(
    problem: ExpansionProblem, num_envs: int, timing: RewardTiming, episodes: int, seed: int
) -> Played:
    """Play ``num_envs`` episodes of the Stable-Baselines3 view side by side; see ``Play``."""
    # Here, not above: only this view imports Stable-Baselines3.
    from refrag_rl.envs.sb3 import SelectiveExpansionVecEnv

    env = SelectiveExpansionVecEnv(problem, num_envs, reward_timing=timing)
    rng = np.random.default_rng(seed)
    env.seed(seed)
    env.reset()
    steps = ended = 0
    while ended < episodes:
        masks = np.stack(env.env_method("action_masks"))
        _, _, dones, _ = env.step(_permitted(masks, rng))
        steps += num_envs
        ended += int(dones.sum())
    return Played(steps, ended)


VIEWS: Mapping[str, Play] = {"single": play_single, "vector": play_vector, "sb3": play_sb3}


def _permitted(masks: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw an action a row, (B,); 0 where none is permitted."""
    return (rng.random(masks.shape) * masks).argmax(axis=1)
