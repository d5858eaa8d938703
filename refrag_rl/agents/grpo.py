"""GRPO: group-relative policy optimisation, the objective of REFRAG's selection policy.

1. Per update, ``W`` windows are drawn, each with its budget ``T'``, and ``G`` ordered selections of
   each from the current policy, in one shot by Gumbel top-k. All ``W G`` sets are scored in one
   call of the reward model.
2. Advantage: ``A_i = (r_i - mean r) / std r`` over the window's group (REFRAG, arXiv 2509.01092,
   A.1; DeepSeekMath, arXiv 2402.03300, section 4.1.2).
3. Objective: the mean over the group and over the ``T'`` picks of
   ``min(ratio_t A_i, clip(ratio_t, 1 - eps, 1 + eps) A_i)`` (A.1), ``ratio_t`` from the
   Plackett-Luce probabilities of the picks as they were made.
4. Options that A.1 does not have: no division by the spread (Dr. GRPO, arXiv 2503.20783); a higher
   upper end of the clip range (DAPO, arXiv 2503.14476); credit per chunk
   (``refrag_rl.agents.credit``).
5. Departures. (a) Groups whose spread is not above ``spread_threshold`` contribute nothing:
   dividing by a spread of the size of the reward's rounding error amplifies that error. (b) No
   divergence from a reference policy in the loss, as A.1 and against DeepSeekMath: there is no
   pre-trained policy to stay near. (c) An optional entropy bonus, which A.1 does not have; its
   gradient leaves out how the earlier picks of a selection depend on the policy. (d) Adam's
   learning rate may fall linearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from refrag_rl.agents import arguments
from refrag_rl.agents.group_learning import Advantages, GroupAgent, GroupBatch
from refrag_rl.agents.losses import clipped_objective, group_advantages


class Grpo(GroupAgent):
    """GRPO on whole selections; see the module's docstring.

    Args:
        policy: Options of ``PointerConfig``; None: the defaults.
        warm_start: ``imitation``, ``regression``, a policy folder, or None; see ``LearningAgent``.
        warm_start_rewards: Sets scored by the imitation or regression that comes first; None: a
            quarter of ``total_rewards``.
        total_rewards: Selections scored in training; rounded up to whole updates.
        group_size: ``G``, selections of each window, at least 2 (REFRAG A.1).
        windows_per_update: ``W``.
        epochs: Passes over an update's selections; at the first gradient step all ratios are 1.
        minibatches: Parts that each pass is cut into, by windows.
        clip_range: ``eps`` of the ratio (PPO, arXiv 1707.06347, equation 7).
        clip_range_upper: ``eps`` of the upper end; None: the same.
        normalize_spread: Whether advantages are divided by the group's standard deviation.
        spread_threshold: Groups of a standard deviation up to this contribute nothing; in units of
            the reward.
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

    name = "grpo"

    def __init__(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        warm_start: str | None = None,
        warm_start_rewards: int | None = None,
        total_rewards: int = 4_000,
        group_size: int = 8,
        windows_per_update: int = 16,
        epochs: int = 2,
        minibatches: int = 1,
        clip_range: float = 0.2,
        clip_range_upper: float | None = None,
        normalize_spread: bool = True,
        spread_threshold: float = 1e-3,
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
            epochs=epochs,
            minibatches=minibatches,
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
        self.clip_range = arguments.number("clip_range", clip_range, above=0, below=1)
        self.clip_range_upper = (
            None
            if clip_range_upper is None
            else arguments.number("clip_range_upper", clip_range_upper, above=0)
        )
        self.normalize_spread = arguments.switch("normalize_spread", normalize_spread)
        self.spread_threshold = arguments.number("spread_threshold", spread_threshold, at_least=0)

    def advantages(self, batch: GroupBatch) -> Advantages:
        """Return the leads over the group's mean; see the module's docstring, 2."""
        advantages, has_spread = group_advantages(
            torch.from_numpy(batch.rewards).to(self.device),
            normalize_spread=self.normalize_spread,
            spread_threshold=self.spread_threshold,
        )
        return Advantages(
            advantages, {"groups_without_spread": 1 - float(has_spread.float().mean())}
        )

    def objective(
        self, log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, picked: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the clipped surrogate, negated; see the module's docstring, 3."""
        found = clipped_objective(
            log_prob,
            old_log_prob,
            advantages,
            picked,
            clip_range=self.clip_range,
            clip_range_upper=self.clip_range_upper,
        )
        figures = {"clip_fraction": found.clip_fraction, "approximate_kl": found.approximate_kl}
        return found.loss, figures
