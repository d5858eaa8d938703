"""What transformers says that helps nobody here."""

from __future__ import annotations

from logging import ERROR, getLogger


def silence_kernel_advice() -> None:
    """Hide its advice, at the first convolution, to install a kernel that exists for GPUs only."""
    getLogger("transformers.integrations.hub_kernels").setLevel(ERROR)
