"""TorchRL: the environment as a GymEnv, its picks kept to the chunks that may be expanded.

Needs TorchRL (pip install torchrl), which the package does not depend on; without it the example
says so and ends.

Run: python examples/torchrl_rollout.py
"""

import refrag_rl  # noqa: F401  (registers the environment)


def main(budget: int = 4, steps: int = 12) -> int | None:
    """Play episodes at random; return how many ended, or None without TorchRL."""
    try:
        import torch
        from torchrl.envs import ActionMask, Compose, DTypeCastTransform, TransformedEnv
        from torchrl.envs.libs.gym import GymEnv
    except ImportError as error:
        print(f"skipped: TorchRL is not installed ({error})")
        return None
    env = GymEnv("refrag_rl/SelectiveExpansion-v0", budget=budget, categorical_action_encoding=True)
    to_bool = DTypeCastTransform(torch.int8, torch.bool, in_keys=["action_mask"])
    masked = TransformedEnv(env, Compose(to_bool, ActionMask()))
    masked.set_seed(0)
    rollout = masked.rollout(steps, break_when_any_done=False)
    ended = rollout["next", "done"].squeeze(-1)
    print(f"rewards, nats per token: {rollout['next', 'reward'][ended].squeeze(-1).tolist()}")
    # Nothing was picked twice: an episode expands as many chunks as its budget.
    assert (rollout["next", "expanded"][ended].sum(-1) == budget).all()
    return int(ended.sum())


if __name__ == "__main__":
    main()
