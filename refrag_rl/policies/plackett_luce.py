"""Ordered selections without replacement: sampling, log-probability, entropy. Pure functions.

1. The policy of REFRAG (arXiv 2509.01092, A.1) picks chunk ``l_t`` with probability
   ``softmax(s - n)``, ``n`` infinite where a chunk is picked already, ``s`` computed once a
   context. The probability of ``l_1 .. l_T'`` is then the Plackett-Luce model's.
2. Adding Gumbel noise to ``s`` and sorting draws a whole ordered selection at once, from the same
   distribution (Yellott 1977; Kool et al. 2019, arXiv 1903.06059).

Throughout: ``logits`` (B, L) float, ``-inf`` on padding chunks; ``order`` (B, T) int64, the chunk
picked at each step, ``NO_PICK`` after a row's last pick; ``budget`` (B,) int64. A row of ``v``
chunks that hold text and a budget ``b`` makes ``min(b, v)`` picks. Log-probabilities and entropies
in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

NO_PICK = -1


def count_picks(logits: Tensor, budget: Tensor) -> Tensor:
    """Return how many picks each row makes, ``min(budget, chunks that hold text)``, (B,) int64."""
    return torch.minimum(budget.long(), torch.isfinite(logits).sum(-1))


def _ranked(scores: Tensor, picks: Tensor) -> Tensor:
    """Return the first ``picks`` (B,) columns of each row by falling score, earlier ones first."""
    longest = int(picks.max()) if picks.numel() else 0
    order = scores.argsort(dim=-1, descending=True, stable=True)[:, :longest]
    step = torch.arange(longest, device=scores.device)
    return order.masked_fill(step >= picks.unsqueeze(-1), NO_PICK)


def greedy(logits: Tensor, budget: Tensor) -> Tensor:
    """Return the most probable ordered selection, order (B, T); ties go to the earlier chunk."""
    return _ranked(logits, count_picks(logits, budget))


def sample(logits: Tensor, budget: Tensor, generator: torch.Generator) -> Tensor:
    """Draw ordered selections in one shot, by Gumbel top-k.

    Args:
        logits: (B, L).
        budget: (B,) int64.
        generator: The only source of randomness, on the device of ``logits``.

    Returns:
        order (B, T), ``T`` the largest number of picks of a row.
    """
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device)
    # rand() may return exactly 0; the smallest normal number keeps the noise finite.
    uniform = uniform.clamp(min=torch.finfo(uniform.dtype).tiny)
    gumbel = -torch.log(-torch.log(uniform))
    # Noise of exactly +inf (uniform == 1) cannot occur: rand() is below 1.
    return _ranked(logits + gumbel, count_picks(logits, budget))


def expanded_from(order: Tensor, num_chunks: int) -> Tensor:
    """Return the set of an ordered selection, (B, L) bool."""
    expanded = torch.zeros(order.shape[0], num_chunks + 1, dtype=torch.bool, device=order.device)
    expanded.scatter_(1, torch.where(order == NO_PICK, num_chunks, order), True)
    return expanded[:, :num_chunks]


def taken_before(order: Tensor, num_chunks: int) -> Tensor:
    """Return the chunks that were picked before each step, (B, T, L) bool."""
    picked = torch.nn.functional.one_hot(order.clamp(min=0), num_chunks)
    picked = picked * (order != NO_PICK).unsqueeze(-1)
    return (picked.cumsum(1) - picked).bool()


def left(logits: Tensor, taken: Tensor) -> Tensor:
    """Return logits (..., L) with ``-inf`` at the chunks that are taken, (..., L) bool.

    A row with nothing left keeps its logits: there is nothing to normalise, its step is
    ``NO_PICK``, and callers leave it out.
    """
    exhausted = (taken | ~torch.isfinite(logits)).all(-1, keepdim=True)
    return logits.masked_fill(taken & ~exhausted, -torch.inf)


def step_log_probabilities(logits: Tensor, order: Tensor) -> Tensor:
    """Return the log-probabilities of every chunk at every step of the given selections.

    Args:
        logits: (B, L), or (B, T, L) where they are computed again at each step.
        order: (B, T).

    Returns:
        (B, T, L); ``-inf`` for padding chunks and for those picked at an earlier step.
    """
    if logits.ndim == 2:
        logits = logits.unsqueeze(1)
    return left(logits, taken_before(order, logits.shape[-1])).log_softmax(-1)


def log_prob(logits: Tensor, order: Tensor) -> Tensor:
    """Return the log-probability of each pick given the picks before it, (B, T), 0 at ``NO_PICK``.

    Their sum over the steps is the log-probability of the ordered selection. ``logits`` are those
    of ``step_log_probabilities``.
    """
    steps = step_log_probabilities(logits, order)
    chosen = steps.gather(-1, order.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(order == NO_PICK, 0.0)


def entropy(logits: Tensor, order: Tensor) -> Tensor:
    """Return the entropy of each pick given the picks before it, (B, T), 0 at ``NO_PICK``.

    By the chain rule the entropy of the ordered selection is the expectation of the sum over the
    steps, so the sum along sampled selections estimates it without bias. Its gradient leaves out
    how the earlier picks depend on the logits, and is biased by that. ``logits`` are those of
    ``step_log_probabilities``.
    """
    steps = step_log_probabilities(logits, order)
    # 0 * -inf is undefined, its limit is 0; replaced before the product so that gradients are too.
    terms = steps.exp() * steps.masked_fill(torch.isneginf(steps), 0.0)
    return (-terms.sum(-1)).masked_fill(order == NO_PICK, 0.0)
