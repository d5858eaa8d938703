"""Gradient steps, as every agent takes them but PPO, whose steps are its library's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def weights_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return all that an optimizer trains, in its order."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all that an optimizer trains."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradient_step(
    policy: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, max_grad_norm: float
) -> Tensor:
    """Step down a loss; return the norm of its gradient, before it was scaled down."""
    optimizer.zero_grad()
    loss.backward()
    norm: Tensor = torch.nn.utils.clip_grad_norm_(policy.parameters(), max_grad_norm)
    optimizer.step()
    return norm
