"""A short name for the weights of a model: what a policy was trained on, and must be used with."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

VALUES = 64
"""Values of each tensor that are read."""


@torch.no_grad()
def fingerprint(model: nn.Module) -> str:
    """Return 16 hexadecimal digits that change with the weights.

    Of every tensor its name, its shape and at most ``VALUES`` of its ``n`` values, every
    ``n // VALUES``-th from the first on and as float32: training changes all of them, reading them
    takes no time, and neither the device nor the format of the file matters.

    Args:
        model: On any device.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        step = max(1, tensor.numel() // VALUES)
        values = tensor.reshape(-1)[::step][:VALUES]
        digest.update(values.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
