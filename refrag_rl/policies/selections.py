"""Ordered selections of a policy: drawing them, the most probable ones, and their log-probability.

1. A policy whose logits are computed once a context (REFRAG, arXiv 2509.01092, A.1) selects by the
   Plackett-Luce distribution of ``refrag_rl.policies.plackett_luce``, in one shot.
2. A policy whose logits are computed again after each pick reads what is expanded already. Its
   selections are made step by step, each from the softmax over the chunks that are left; a pick can
   then depend on those before it (and not take what they made redundant), at ``T'`` passes through
   the network in place of one.

Throughout: ``observation`` and ``budget`` of ``W`` windows in which nothing is expanded; ``copies``
selections of each, ``B = W copies`` rows, window by window; ``order`` (B, T), ``NO_PICK`` after a
row's last pick.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from refrag_rl.policies import plackett_luce
from refrag_rl.policies.plackett_luce import NO_PICK
from refrag_rl.policies.pointer import PointerPolicy, TensorObservation


class PickProbabilities(NamedTuple):
    """What ``pick_probabilities`` returns.

    Attributes:
        log_prob: (B, T) of each pick given the picks before it, nats, 0 at ``NO_PICK``.
        entropy: (B, T) of the distribution that each pick was drawn from, nats, 0 at ``NO_PICK``.
    """

    log_prob: Tensor
    entropy: Tensor


def greedy(policy: PointerPolicy, observation: TensorObservation, budget: Tensor) -> Tensor:
    """Return selections of the most probable pick each time, order (W, T)."""
    if policy.reads_expanded:
        return _step_by_step(policy, observation, budget, budget, None)
    return plackett_luce.greedy(policy(observation, budget), budget)


def sample(
    policy: PointerPolicy,
    observation: TensorObservation,
    budget: Tensor,
    generator: torch.Generator,
    copies: int = 1,
) -> Tensor:
    """Draw selections, order (B, T); ``generator`` is the only source of randomness."""
    if policy.reads_expanded:
        rows = _repeated(observation, copies)
        budgets = budget.repeat_interleave(copies)
        return _step_by_step(policy, rows, budgets, budgets, generator)
    logits = policy(observation, budget).repeat_interleave(copies, 0)
    return plackett_luce.sample(logits, budget.repeat_interleave(copies), generator)


def sample_all(
    policy: PointerPolicy,
    observation: TensorObservation,
    budget: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Draw selections that go on beyond the budget until no chunk is left, order (W, T).

    The policy is told the budget all along.
    """
    picks = observation["chunk_mask"].sum(-1)
    if policy.reads_expanded:
        return _step_by_step(policy, observation, budget, picks, generator)
    return plackett_luce.sample(policy(observation, budget), picks, generator)


def pick_probabilities(
    policy: PointerPolicy,
    observation: TensorObservation,
    budget: Tensor,
    order: Tensor,
    copies: int = 1,
) -> PickProbabilities:
    """Return log-probability and entropy of the picks of given selections, with gradient."""
    if policy.reads_expanded:
        # Every state of every selection goes through the network at once.
        before = plackett_luce.taken_before(order, observation["chunk_mask"].shape[-1])
        states = {**observation, "expanded": before.flatten(0, 1)}
        steps = order.shape[1]
        window = torch.arange(len(budget), device=order.device).repeat_interleave(copies * steps)
        logits = policy(states, budget[window], window).view(before.shape)
    else:
        logits = policy(observation, budget).repeat_interleave(copies, 0)
    return PickProbabilities(
        plackett_luce.log_prob(logits, order), plackett_luce.entropy(logits, order)
    )


def _step_by_step(
    policy: PointerPolicy,
    observation: TensorObservation,
    budget: Tensor,
    picks: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Return selections made pick by pick: drawn, or the most probable without a generator.

    The policy is told the budget; ``picks`` are made, as far as there are chunks.
    """
    held = observation["chunk_mask"].bool()
    picks = torch.minimum(picks.long(), held.sum(-1))
    longest = int(picks.max()) if picks.numel() else 0
    order = torch.full((len(held), longest), NO_PICK, device=held.device)
    expanded = torch.zeros_like(held)
    for step in range(longest):
        logits = policy({**observation, "expanded": expanded}, budget)
        logits = plackett_luce.left(logits, expanded)
        if generator is None:
            chosen = logits.argmax(-1)
        else:
            probabilities = logits.softmax(-1)
            chosen = torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
        going = step < picks
        order[going, step] = chosen[going]
        expanded[going, chosen[going]] = True
    return order


def _repeated(observation: TensorObservation, copies: int) -> dict[str, Tensor]:
    return {name: tensor.repeat_interleave(copies, 0) for name, tensor in observation.items()}
