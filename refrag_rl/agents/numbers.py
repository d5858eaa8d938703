"""Gradients and weights that are NaN or infinite stop a training; nothing takes their place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from refrag_rl.agents.optimization import weights_of
from refrag_rl.errors import NotFiniteError


def stop_at_non_finite(optimizer: Optimizer) -> None:
    """Check the weights now and after each step of the optimizer, the gradients before each.

    Through the optimizer's hooks, because a library's training loop has no other place for it.

    Raises:
        NotFiniteError: A weight is not finite; later, out of ``optimizer.step()``, also a gradient.
    """
    _require("weight", "before the first step", weights_of(optimizer))
    optimizer.register_step_pre_hook(_check_gradients)
    optimizer.register_step_post_hook(_check_weights)


def _check_gradients(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    gradients = (weight.grad for weight in weights_of(optimizer) if weight.grad is not None)
    _require("gradient", "in this step", gradients)


def _check_weights(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    _require("weight", "after this step", weights_of(optimizer))


def _require(what: str, when: str, tensors: Iterable[Tensor]) -> None:
    # One answer for all tensors: an accelerator is waited for once.
    finite = [torch.isfinite(tensor.detach()).all() for tensor in tensors]
    if finite and not torch.stack(finite).all():
        raise NotFiniteError(f"a {what} of the policy is NaN or infinite {when}")
