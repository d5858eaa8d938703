"""The mathematics of the objectives over groups of selections, as pure functions.

Throughout: ``G`` selections of each of ``W`` windows, ``B = W G`` rows, at most ``T`` picks a row;
``picked`` (B, T) bool is true where a row made its pick. Log-probabilities in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LARGEST_LOG_RATIO = 80.0


class GroupAdvantages(NamedTuple):
    """What ``group_advantages`` returns.

    Attributes:
        advantages: (W, G), zeros in groups without spread.
        has_spread: (W,) bool.
    """

    advantages: Tensor
    has_spread: Tensor


class ClippedObjective(NamedTuple):
    """What ``clipped_objective`` returns, all scalars.

    Attributes:
        loss: To be minimised.
        clip_fraction: Share of the picks whose ratio is outside the clip range.
        approximate_kl: Mean over the picks of ``ratio - 1 - log ratio``, nats per pick: a
            non-negative estimate of the divergence of the new policy from the old
            (http://joschu.net/blog/kl-approx.html).
    """

    loss: Tensor
    clip_fraction: Tensor
    approximate_kl: Tensor


def group_advantages(
    rewards: Tensor, *, normalize_spread: bool, spread_threshold: float
) -> GroupAdvantages:
    """Return each reward's lead over its group.

    ``A_i = (r_i - mean r) / std r`` (DeepSeekMath, arXiv 2402.03300, section 4.1.2; REFRAG A.1),
    the division left out where ``normalize_spread`` is false (Dr. GRPO, arXiv 2503.20783).

    Args:
        rewards: (W, G), ``G >= 2``.
        normalize_spread: Whether to divide by the group's sample standard deviation.
        spread_threshold: Groups whose standard deviation is not above this get advantages of 0;
            in units of the reward.
    """
    spread = rewards.std(dim=-1, keepdim=True)
    has_spread = spread > spread_threshold
    advantages = rewards - rewards.mean(dim=-1, keepdim=True)
    if normalize_spread:
        advantages = advantages / torch.where(has_spread, spread, 1.0)
    return GroupAdvantages(advantages * has_spread, has_spread.squeeze(-1))


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """Return each reward's lead over the mean of the others of its group, (W, G).

    ``A_i = r_i - 1 / (G - 1) sum_{j != i} r_j`` (RLOO: Kool et al. 2019, "Buy 4 REINFORCE samples";
    Ahmadian et al. 2024, arXiv 2402.14740). The baseline of a selection does not
    depend on it, so the gradient stays unbiased.

    Args:
        rewards: (W, G), ``G >= 2``.
    """
    others = (rewards.sum(dim=-1, keepdim=True) - rewards) / (rewards.shape[-1] - 1)
    return rewards - others


def mean_over_picks(values: Tensor, picked: Tensor) -> Tensor:
    """Return the mean over the rows of each row's mean over its picks, a scalar.

    Args:
        values: (B, T).
        picked: (B, T); a row without picks counts as 0.
    """
    return ((values * picked).sum(-1) / picked.sum(-1).clamp(min=1)).mean()


def policy_gradient_loss(log_prob: Tensor, advantages: Tensor, picked: Tensor) -> Tensor:
    """Return REINFORCE's objective for whole selections, negated, a scalar.

    The mean over the rows of ``sum_t A_t log pi(l_t)``; with one advantage for all picks of a row
    it is ``A log pi(l_1 .. l_T')`` (Williams 1992; Ahmadian et al. 2024, arXiv 2402.14740).

    Args:
        log_prob: (B, T) of the picks.
        advantages: (B, T) of the picks, not differentiated through.
        picked: (B, T) bool.
    """
    return -(log_prob * advantages * picked).sum(-1).mean()


def clipped_objective(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    picked: Tensor,
    *,
    clip_range: float,
    clip_range_upper: float | None = None,
) -> ClippedObjective:
    """Return the clipped surrogate of REFRAG A.1, negated.

    The mean over the rows, and over each row's ``T'`` picks, of
    ``min(ratio_t A, clip(ratio_t, 1 - eps_low, 1 + eps_high) A)``. In A.1 the two are one; a higher
    upper end lets improbable picks grow faster (DAPO's clip-higher, arXiv 2503.14476, section 3.1).

    Args:
        log_prob: (B, T) of the picks under the policy that is optimised.
        old_log_prob: (B, T) under the policy that made them.
        advantages: (B, T) of the picks.
        picked: (B, T) bool.
        clip_range: ``eps_low``.
        clip_range_upper: ``eps_high``; None: ``eps_low``.
    """
    low, high = 1 - clip_range, 1 + (clip_range if clip_range_upper is None else clip_range_upper)
    log_ratio = (log_prob - old_log_prob).masked_fill(~picked, 0.0)
    # Beyond float32 the ratio would be infinite, and with an advantage of 0 not a number.
    ratio = log_ratio.clamp(max=_LARGEST_LOG_RATIO).exp()
    surrogate = torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
    with torch.no_grad():
        outside = ((ratio < low) | (ratio > high)).float()
        clip_fraction = mean_over_picks(outside, picked)
        approximate_kl = mean_over_picks(ratio - 1 - log_ratio, picked)
    return ClippedObjective(-mean_over_picks(surrogate, picked), clip_fraction, approximate_kl)
