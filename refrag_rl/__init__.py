"""Reinforcement learning of selective compression for REFRAG (arXiv 2509.01092)."""

from gymnasium.envs.registration import register, registry

__version__ = "0.1.0"

# By name, so that importing this package imports neither the environment nor torch.
if "refrag_rl/SelectiveExpansion-v0" not in registry:
    register(
        id="refrag_rl/SelectiveExpansion-v0",
        entry_point="refrag_rl.envs.single:SelectiveExpansionEnv",
        vector_entry_point="refrag_rl.envs.vector:SelectiveExpansionVectorEnv",
    )
