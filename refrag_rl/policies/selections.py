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
    if not policy.reads_expanded:
        logits = policy(observation, budget).repeat_interleave(copies, 0)
        return PickProbabilities(
            plackett_luce.log_prob(logits, order), plackett_luce.entropy(logits, order)
        )
    batch, steps = order.shape
    num_chunks = observation["chunk_mask"].shape[-1]
    # Every state of every selection goes through the network at once.
    picked = torch.nn.functional.one_hot(order.clamp(min=0), num_chunks)
    picked = picked * (order != NO_PICK).unsqueeze(-1)
    before = (picked.cumsum(1) - picked).flatten(0, 1)
    states = {**observation, "expanded": before}
    window = torch.arange(len(budget), device=order.device).repeat_interleave(copies * steps)
    logits = policy(states, budget[window], window)
    log_probabilities = _left(logits, before.bool()).log_softmax(-1).view(batch, steps, num_chunks)
    chosen = log_probabilities.gather(-1, order.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    # 0 * -inf is undefined, its limit is 0; replaced before the product so that gradients are too.
    finite = log_probabilities.masked_fill(torch.isneginf(log_probabilities), 0.0)
    entropy = -(log_probabilities.exp() * finite).sum(-1)
    made = order != NO_PICK
    return PickProbabilities(chosen.masked_fill(~made, 0.0), entropy.masked_fill(~made, 0.0))


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
        logits = _left(policy({**observation, "expanded": expanded}, budget), expanded)
        if generator is None:
            chosen = logits.argmax(-1)
        else:
            probabilities = logits.softmax(-1)
            chosen = torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)
        going = step < picks
        order[going, step] = chosen[going]
        expanded[going, chosen[going]] = True
    return order


def _left(logits: Tensor, expanded: Tensor) -> Tensor:
    """Return the logits (B, L) of the chunks that are left, ``-inf`` at the others.

    A row with nothing left keeps its logits: there is nothing to normalise, and its pick is
    ``NO_PICK``.
    """
    exhausted = (expanded | ~torch.isfinite(logits)).all(-1, keepdim=True)
    return logits.masked_fill(expanded & ~exhausted, -torch.inf)


def _repeated(observation: TensorObservation, copies: int) -> dict[str, Tensor]:
    return {name: tensor.repeat_interleave(copies, 0) for name, tensor in observation.items()}
