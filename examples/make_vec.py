"""gymnasium.make_vec: the batched view, and copies of the single one; the episodes are the same.

The batched view scores all episodes that end together in one call of the decoder.

Run: python examples/make_vec.py
"""

import gymnasium
import numpy as np

import refrag_rl  # noqa: F401  (registers the environment)


def play(mode: str, num_envs: int) -> list[np.ndarray]:
    """Play one episode in each environment: the first chunks that may be expanded."""
    envs = gymnasium.make_vec(
        "refrag_rl/SelectiveExpansion-v0", num_envs, vectorization_mode=mode, budget=3
    )
    observations, _ = envs.reset(seed=0)
    rewards = []
    for _ in range(3):
        actions = observations["action_mask"].argmax(axis=1)
        observations, reward, *_ = envs.step(actions)
        rewards.append(reward)
    envs.close()
    return rewards


def main(num_envs: int = 8) -> None:
    """Print the last rewards of both, which are minus the log-perplexity, nats per token."""
    batched, copies = play("vector_entry_point", num_envs), play("sync", num_envs)
    print("batched:", np.round(batched[-1], 4))
    print("copies: ", np.round(copies[-1], 4))
    np.testing.assert_allclose(batched, copies, atol=1e-4)


if __name__ == "__main__":
    main()
