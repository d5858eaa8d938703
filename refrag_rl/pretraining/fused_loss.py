"""Cross-entropy fused with the output layer, in slices.

The logits of a whole batch over the vocabulary are the largest tensor of a small model's training
step. Here a slice of positions is projected, its loss and its gradient are taken at once, and the
logits are gone before the next slice: float32 logits of the batch never exist. On a CPU the softmax
of a slice goes a few rows at a time, which stay in the cache from its first pass to its last. On
the CPU of the development machine this is faster than
``torch.nn.functional.linear_cross_entropy`` with its chunked options, which is the reason for
having it (``python -m refrag_rl.benchmark pretrain``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from refrag_rl.pretraining.distillation import Teacher

_POSITIONS = 512
"""Positions of a matrix product."""
_CACHED_LOGITS = 2**18
"""Logits of a softmax on a CPU, in float32: 1 MiB."""


class _SlicedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        tokens: Tensor,
        scale: Tensor,
        teacher: Tensor | None,
        share: Tensor | None,
        needed: tuple[bool, bool],
    ) -> Tensor:
        """Return the loss, and keep the gradients of ``states`` and ``weight`` that are needed."""
        dtype = (
            torch.get_autocast_dtype(states.device.type)
            if torch.is_autocast_enabled(states.device.type)
            else states.dtype
        )
        low_states, low_weight = states.to(dtype), weight.to(dtype)
        state_gradient = torch.empty_like(low_states) if needed[0] else None
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if needed[1] else None
        on_cpu = states.device.type == "cpu"
        block = max(1, _CACHED_LOGITS // len(weight)) if on_cpu else _POSITIONS
        loss = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(tokens), _POSITIONS):
            rows = slice(start, start + _POSITIONS)
            logits = low_states[rows] @ low_weight.T
            parts = [logits, tokens[rows, None], scale[rows, None]]
            if teacher is not None and share is not None:
                parts += [teacher[rows].to(dtype) @ low_weight.T, share[rows, None]]
            for blocks in zip(*(part.split(block) for part in parts), strict=True):
                loss += _loss_of(*blocks, with_gradient=any(needed))
            if state_gradient is not None:
                state_gradient[rows] = logits @ low_weight
            if weight_gradient is not None:
                weight_gradient += logits.T @ low_states[rows]
        ctx.save_for_backward(state_gradient, weight_gradient)
        ctx.types = states.dtype, weight.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        kept = [
            None if own is None else (own * gradient).to(dtype)
            for own, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        ]
        return (*kept, *(None,) * 5)


def _loss_of(
    logits: Tensor,
    tokens: Tensor,
    scale: Tensor,
    teacher_logits: Tensor | None = None,
    share: Tensor | None = None,
    *,
    with_gradient: bool,
) -> Tensor:
    """Return the loss of some positions, (); its gradient replaces their logits, if wanted.

    Args:
        logits: (n, V), of any type.
        tokens: (n, 1).
        scale: (n, 1), weights of the positions in the loss.
        teacher_logits: (n, V), or none.
        share: (n, 1), of the teacher's predictions in the targets.
        with_gradient: Without it the logits are lost, too.
    """
    relative = logits.float()  # the logits themselves where they are float32
    relative.sub_(relative.amax(1, keepdim=True))
    chosen, own = relative.gather(1, tokens), scale
    followed: Tensor | None = None
    if teacher_logits is not None and share is not None:
        followed = teacher_logits.float().softmax(1).mul_(share)
        own = scale * (1 - share)
        chosen = chosen * (1 - share) + (followed * relative).sum(1, keepdim=True)
    total = relative.exp_().sum(1, keepdim=True)
    loss = ((total.log() - chosen) * scale).sum()
    if not with_gradient:
        return loss
    relative.mul_(scale / total).scatter_add_(1, tokens, -own)
    if followed is not None:
        relative.sub_(followed.mul_(scale))
    logits.copy_(relative)
    return loss


def sliced_cross_entropy(
    states: Tensor,
    weight: Tensor,
    tokens: Tensor,
    weights: Tensor | None = None,
    teacher: Teacher | None = None,
) -> Tensor:
    """Return the weighted mean negative log-likelihood of tokens, nats per token.

    Equal to ``cross_entropy(states @ weight.T, tokens)`` where all weights are 1. Under autocast
    the matrix products run in its type; sums and exponentials are float32 always.

    Args:
        states: (n, d) last hidden states.
        weight: (V, d) of the output layer.
        tokens: (n,) int64.
        weights: (n,) float32, not negative; ``None``: all 1.
        teacher: Of ``n`` positions; the targets are mixed with its predictions.

    Returns:
        () float32.
    """
    if weights is None:
        weights = torch.ones(len(tokens), dtype=torch.float32, device=states.device)
    followed = (None, None) if teacher is None else (teacher.states, teacher.share)
    scale = weights / weights.sum()
    # Inside of the function gradients are off always.
    needed = tuple(torch.is_grad_enabled() and part.requires_grad for part in (states, weight))
    loss: Tensor = _SlicedCrossEntropy.apply(states, weight, tokens, scale, *followed, needed)
    return loss
