"""RLOO: REINFORCE with the other selections of the same window as baseline.

1. Per update, ``W`` windows and ``G`` ordered selections of each, drawn and scored as for GRPO.
2. Advantage: ``A_i = r_i - 1 / (G - 1) sum_{j != i} r_j`` (Kool et al. 2019, "Buy 4 REINFORCE
   samples, get a baseline for free"; Ahmadian et al. 2024, arXiv 2402.14740).
3. Objective: the mean over the selections of ``A_i log pi(l_1 .. l_T')``, one step an update
   (Ahmadian et al.): the whole selection is one action, and its gradient is unbiased.
4. Options that the source does not have: credit per chunk (``refrag_rl.agents.credit``).
5. Departures. No divergence from a reference policy: there is no pre-trained policy to stay near.
   An optional entropy bonus. Adam's learning rate may fall linearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from refrag_rl.agents.group_learning import Advantages, GroupAgent, GroupBatch
from refrag_rl.agents.losses import leave_one_out_advantages, policy_gradient_loss


class Rloo(GroupAgent):
    """REINFORCE leave-one-out on whole selections; see the module's docstring.

    Args:
        policy: Options of ``PointerConfig``; None: the defaults.
        warm_start: ``imitation``, ``regression``, a policy folder, or None; see ``LearningAgent``.
        warm_start_rewards: Sets scored by the imitation or regression that comes first; None: a
            quarter of ``total_rewards``.
        total_rewards: Selections scored in training; rounded up to whole updates.
        group_size: ``G``, selections of each window, at least 2.
        windows_per_update: ``W``.
        credit_per_chunk: Whether each pick gets its own chunk's share of the advantage.
        credit_ridge: Of the regression behind the shares, in selections.
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

    name = "rloo"

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        warm_start: str | None = None,
        warm_start_rewards: int | None = None,
        total_rewards: int = 4_000,
        group_size: int = 8,
        windows_per_update: int = 16,
        credit_per_chunk: bool = False,
        credit_ridge: float = 1.0,
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
            credit_per_chunk=credit_per_chunk,
            credit_ridge=credit_ridge,
            learning_rate=learning_rate,
            learning_rate_schedule=learning_rate_schedule,
            entropy_coef=entropy_coef,
            max_grad_norm=max_grad_norm,
            reference_windows=reference_windows,
            seed=seed,
            device=device,
        )

    def advantages(self, batch: GroupBatch) -> Advantages:
        """Return the leads over the rest of the group; see the module's docstring, 2."""
        rewards = torch.from_numpy(batch.rewards).to(self.device)
        return Advantages(leave_one_out_advantages(rewards), {})

    def objective(
        self, log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, picked: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return REINFORCE's objective, negated; see the module's docstring, 3."""
        return policy_gradient_loss(log_prob, advantages, picked), {}
