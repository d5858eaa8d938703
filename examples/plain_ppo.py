"""PPO of Stable-Baselines3, which knows no masks, on the batched view of the environment.

A chunk that is expanded already may be picked again: that pick is lost. So an agent without masks
has to learn first what MaskablePPO is told; see maskable_ppo.py.

Run: python examples/plain_ppo.py
"""

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecMonitor

from refrag_rl.envs.sb3 import SelectiveExpansionVecEnv


def main(steps: int = 8192, num_envs: int = 16, n_steps: int = 64) -> float:
    """Train, and return the share of lost picks in one episode of each environment."""
    env = SelectiveExpansionVecEnv(
        num_envs=num_envs, budget=6, reward_baseline="compressed", count=200
    )
    model = PPO("MultiInputPolicy", VecMonitor(env), n_steps=n_steps, gamma=1.0, seed=0)
    model.learn(steps)
    env.seed(1)
    observation, lost = env.reset(), []
    for _ in range(6):
        actions, _ = model.predict(observation)
        observation, _, _, infos = env.step(actions)
        lost.append([info["forbidden_action"] for info in infos])
    return float(np.mean(lost))


if __name__ == "__main__":
    print(f"picks lost on chunks that were expanded already: {main():.0%}")
