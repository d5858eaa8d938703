"""One gradient step, as every agent takes it but PPO, whose steps are its library's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def gradient_step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, max_grad_norm: float
) -> Tensor:
    """Step down a loss; return the norm of its gradient, before it was scaled down."""
    optimizer.zero_grad()
    loss.backward()
    norm: Tensor = torch.nn.utils.clip_grad_norm_(policy.parameters(), max_grad_norm)
    optimizer.step()
    return norm
