"""Cross-entropy fused with the output layer, in slices.

The logits of a whole batch over the vocabulary are the largest tensor of a small model's training
step. Here a slice of positions is projected, its loss and its gradient are taken at once, and the
logits are gone before the next slice: float32 logits of the batch never exist. On the CPU of the
development machine this is faster than ``torch.nn.functional.linear_cross_entropy`` with its
chunked options, which is the reason for having it (``python -m refrag_rl.benchmark pretrain``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from refrag_rl.pretraining.distillation import Teacher

_POSITIONS = 512


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
        buffer = torch.empty(
            (min(_POSITIONS, len(tokens)), len(weight)), dtype=torch.float32, device=states.device
        )
        loss = torch.zeros((), dtype=torch.float32, device=states.device)
        for start in range(0, len(tokens), _POSITIONS):
            rows = slice(start, start + _POSITIONS)
            target = tokens[rows, None]
            logits = buffer[: len(target)]
            logits.copy_(low_states[rows] @ low_weight.T)
            logits.sub_(logits.amax(1, keepdim=True))
            chosen = logits.gather(1, target)
            own = scale[rows, None]
            if teacher is not None and share is not None:
                followed = (teacher[rows].to(dtype) @ low_weight.T).float().softmax(1)
                followed.mul_(share[rows, None])
                own = own * (1 - share[rows, None])
                chosen = chosen * (1 - share[rows, None]) + (followed * logits).sum(1, keepdim=True)
            total = logits.exp_().sum(1, keepdim=True)
            loss += ((total.log() - chosen) * scale[rows, None]).sum()
            if not any(needed):
                continue
            logits.mul_(scale[rows, None] / total)
            logits.scatter_add_(1, target, -own)
            if teacher is not None:
                logits.sub_(followed.mul_(scale[rows, None]))
            gradient = logits.to(dtype)
            if state_gradient is not None:
                state_gradient[rows] = gradient @ low_weight
            if weight_gradient is not None:
                weight_gradient += gradient.T @ low_states[rows]
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
