"""An agent: policy gradient on ranks, so that one extreme reward of a group counts no more."""

import torch

from refrag_rl.agents.group_learning import Advantages, GroupAgent
from refrag_rl.agents.losses import policy_gradient_loss


class RankAgent(GroupAgent):
    """REINFORCE with the rank in the group, from -1 to 1, as the advantage.

    ``GroupAgent`` draws groups of selections, scores them, steps, reports, saves and loads; an
    agent of this kind says what a selection's advantage is and what is maximised.
    """

    name = "rank"

    def __init__(
        self,
        *,
        total_rewards=4000,
        group_size=8,
        windows_per_update=16,
        learning_rate=2e-3,
        policy=None,
        seed=0,
        device="auto",
    ):
        super().__init__(
            group_size=group_size,
            windows_per_update=windows_per_update,
            total_rewards=total_rewards,
            learning_rate=learning_rate,
            policy=policy,
            seed=seed,
            device=device,
            learning_rate_schedule="linear",
            entropy_coef=0.0,
            max_grad_norm=1.0,
            reference_windows=16,
            warm_start=None,
            warm_start_rewards=0,
        )

    def advantages(self, batch):
        """Return the ranks, (W, G), from the rewards (W, G)."""
        ranks = batch.rewards.argsort(axis=1).argsort(axis=1)
        values = 2 * ranks / (self.group_size - 1) - 1
        return Advantages(torch.from_numpy(values).to(self.device), {})

    def objective(self, log_prob, old_log_prob, advantages, picked):
        """Return the loss, a scalar, and figures to report."""
        return policy_gradient_loss(log_prob, advantages, picked), {}
