"""Whether a device computes in bfloat16, or only imitates it."""

from __future__ import annotations

import logging

import torch

logger = logging.getLogger(__name__)

_IMITATED_BY = frozenset({"NO AVX", "AVX2"})
"""What PyTorch calls the x86 CPUs without AVX-512, for which it has no kernels in bfloat16."""


def computes_in_bfloat16(device: str) -> bool:
    """Return whether bfloat16 gains time on a device such as ``cpu``, ``cuda`` or ``cuda:0``."""
    return device != "cpu" or torch.backends.cpu.get_cpu_capability() not in _IMITATED_BY


def warn_of_imitated_bfloat16(key: str, instead: str, device: str) -> None:
    """Say so where bfloat16 is asked for on a CPU that only imitates it.

    Args:
        key: That asked for it, as on the command line: ``refrag.dtype=bfloat16``.
        instead: What to give: ``refrag.dtype=float32``.
        device: That it is asked for on.
    """
    if not computes_in_bfloat16(device):
        logger.warning(
            "%s: this CPU has no AVX-512, and imitates bfloat16 tens of times slower than it "
            "computes in float32; give %s",
            key,
            instead,
        )
