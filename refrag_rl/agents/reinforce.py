"""REINFORCE with the policy's own greedy selection as baseline.

1. Per update, ``W`` windows; of each, ``G`` ordered selections drawn from the policy and the most
   probable one, all scored in one call.
2. Advantage: ``A_i = r_i - r_greedy`` on the same window (Kool et al. 2019, "Attention, learn to
   solve routing problems!", arXiv 1803.08475, section 4): how much better than what the policy
   would do in use.
3. Objective: the mean over the selections of ``A_i log pi(l_1 .. l_T')`` (its algorithm 1), one
   step an update; the baseline does not depend on the selection drawn, so the gradient is unbiased.
4. Departures. (a) The greedy selection is the current policy's, as in self-critical training
   (Rennie et al. 2017, arXiv 1612.00563), and not a frozen copy's that is replaced after a t-test:
   a copy would have to be kept with every checkpoint, and greedy sets that a window has been given
   before are read from the cache. (b) The greedy selections count as training rewards. (c) An
   optional entropy bonus; Adam's learning rate may fall linearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from refrag_rl.agents.group_learning import Advantages, GroupAgent, GroupBatch
from refrag_rl.agents.losses import policy_gradient_loss


class Reinforce(GroupAgent):
    """REINFORCE with greedy-rollout baseline; see the module's docstring.

    Args:
        policy: Options of ``PointerConfig``; None: the defaults.
        warm_start: ``imitation``, ``regression``, a policy folder, or None; see ``LearningAgent``.
        warm_start_rewards: Sets scored by the imitation or regression that comes first; None: a
            quarter of ``total_rewards``.
        total_rewards: Selections scored in training, the greedy ones among them; rounded up to
            whole updates.
        group_size: ``G``, selections drawn of each window; 1 in the source.
        windows_per_update: ``W``.
        learning_rate: Of Adam, at the start.
        learning_rate_schedule: ``constant`` or ``linear``.
        entropy_coef: Weight of the entropy bonus, per nat and pick.
        max_grad_norm: Gradients are scaled down to this norm.
        reference_windows: Windows of each update that the best heuristic scores as well.
        seed: Same seed, same curve, on a CPU.
        device: ``auto`` or a torch device.

    Raises:
        UserError: A value is out of range.
    """

    name = "reinforce"
    scores_greedy = True

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        warm_start: str | None = None,
        warm_start_rewards: int | None = None,
        total_rewards: int = 4_000,
        group_size: int = 1,
        windows_per_update: int = 64,
        learning_rate: float = 2e-3,
        learning_rate_schedule: str = "linear",
        entropy_coef: float = 0.0,
        max_grad_norm: float = 1.0,
        reference_windows: int = 16,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        super().__init__(
            policy=policy,
            warm_start=warm_start,
            warm_start_rewards=warm_start_rewards,
            total_rewards=total_rewards,
            group_size=group_size,
            windows_per_update=windows_per_update,
            least_group=1,
            learning_rate=learning_rate,
            learning_rate_schedule=learning_rate_schedule,
            entropy_coef=entropy_coef,
            max_grad_norm=max_grad_norm,
            reference_windows=reference_windows,
            seed=seed,
            device=device,
        )

    def advantages(self, batch: GroupBatch) -> Advantages:
        """Return the leads over the greedy selections; see the module's docstring, 2."""
        assert batch.greedy_rewards is not None
        leads = batch.rewards - batch.greedy_rewards[:, None]
        figures = {"greedy_reward": float(batch.greedy_rewards.mean())}
        return Advantages(torch.from_numpy(leads).to(self.device), figures)

    def objective(
        self, log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, picked: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return REINFORCE's objective, negated; see the module's docstring, 3."""
        return policy_gradient_loss(log_prob, advantages, picked), {}
