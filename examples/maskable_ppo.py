"""MaskablePPO of sb3-contrib with its own network, on the single environment.

Run: python examples/maskable_ppo.py
"""

import gymnasium
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.wrappers import ActionMasker

import refrag_rl  # noqa: F401  (registers the environment)


def main(steps: int = 4096, n_steps: int = 512, episodes: int = 50) -> float:
    """Train, and return the mean reward of some episodes: nats per token over nothing expanded."""
    env = gymnasium.make(
        "refrag_rl/SelectiveExpansion-v0", budget="4x", reward_baseline="compressed", count=200
    )
    masked = ActionMasker(env, lambda inner: inner.get_wrapper_attr("action_masks")())
    model = MaskablePPO("MultiInputPolicy", masked, n_steps=n_steps, gamma=1.0, seed=0)
    model.learn(steps)
    reward, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=episodes)
    return float(reward)


if __name__ == "__main__":
    print(f"mean reward: {main():+.4f} nats per token")
