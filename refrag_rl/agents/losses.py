"""The mathematics of the group objective, as pure functions.

Throughout: ``G`` selections of each of ``W`` windows, ``B = W G`` rows, at most ``T`` picks a row;
``picked`` (B, T) bool is true where a row made its pick. Log-probabilities in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


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


def mean_over_picks(values: Tensor, picked: Tensor) -> Tensor:
    """Return the mean over the rows of each row's mean over its picks, a scalar.

    Args:
        values: (B, T).
        picked: (B, T); a row without picks counts as 0.
    """
    return ((values * picked).sum(-1) / picked.sum(-1).clamp(min=1)).mean()


def clipped_objective(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    picked: Tensor,
    *,
    clip_range: float,
) -> ClippedObjective:
    """Return the clipped surrogate of REFRAG A.1, negated.

    The mean over the rows, and over each row's ``T'`` picks, of
    ``min(ratio_t A, clip(ratio_t, 1 - eps, 1 + eps) A)``.

    Args:
        log_prob: (B, T) of the picks under the policy that is optimised.
        old_log_prob: (B, T) under the policy that made them.
        advantages: (B,).
        picked: (B, T) bool.
        clip_range: ``eps``.
    """
    log_ratio = (log_prob - old_log_prob).masked_fill(~picked, 0.0)
    ratio = log_ratio.exp()
    advantage = advantages.unsqueeze(-1)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    surrogate = torch.minimum(ratio * advantage, clipped * advantage)
    with torch.no_grad():
        outside = ((ratio - 1).abs() > clip_range).float()
        clip_fraction = mean_over_picks(outside, picked)
        approximate_kl = mean_over_picks(ratio - 1 - log_ratio, picked)
    return ClippedObjective(-mean_over_picks(surrogate, picked), clip_fraction, approximate_kl)
