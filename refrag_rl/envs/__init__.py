"""The environment of selective expansion: its rules, its problem, and three views of it.

``gymnasium.make("refrag_rl/SelectiveExpansion-v0")`` makes the single view and ``make_vec`` the
vector view; the Stable-Baselines3 view is ``refrag_rl.envs.sb3.SelectiveExpansionVecEnv``, not
imported here because it imports torch.
"""

from refrag_rl.envs.budget import Budget, BudgetSpec, compression_rate, expanded_fraction
from refrag_rl.envs.layout import as_chunks
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.envs.reward_model import RewardModel
from refrag_rl.envs.single import SelectiveExpansionEnv
from refrag_rl.envs.vector import SelectiveExpansionVectorEnv

__all__ = [
    "Budget",
    "BudgetSpec",
    "ExpansionProblem",
    "RewardModel",
    "SelectiveExpansionEnv",
    "SelectiveExpansionVectorEnv",
    "as_chunks",
    "compression_rate",
    "expanded_fraction",
]
