"""Whether a device computes in bfloat16, or only imitates it, and which number format to take."""

from __future__ import annotations

import logging
from typing import Literal

import torch

Format = Literal["float32", "bfloat16"]

logger = logging.getLogger(__name__)

_IMITATED_BY = frozenset({"NO AVX", "AVX2"})
"""What PyTorch calls the x86 CPUs without AVX-512, for which it has no kernels in bfloat16."""


def computes_in_bfloat16(device: str) -> bool:
    """Return whether bfloat16 gains time on a device such as ``cpu``, ``cuda`` or ``cuda:0``."""
    if device == "cpu":
        return torch.backends.cpu.get_cpu_capability() not in _IMITATED_BY
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return True


def number_format(dtype: str, device: str) -> Format:
    """Return ``float32`` or ``bfloat16`` for one of these, or ``auto``.

    Args:
        dtype: As in the config. ``auto``: bfloat16 on a GPU that computes in it, else float32.
        device: Such as ``cpu``, ``cuda`` or ``cuda:0``.
    """
    is_fast = device != "cpu" and computes_in_bfloat16(device)
    return "bfloat16" if dtype == "bfloat16" or (dtype == "auto" and is_fast) else "float32"


def warn_of_imitated_bfloat16(key: str, instead: str, device: str) -> None:
    """Say so where bfloat16 is asked for on a device that only imitates it.

    Args:
        key: That asked for it, as on the command line: ``refrag.dtype=bfloat16``.
        instead: What to give: ``refrag.dtype=float32``.
        device: That it is asked for on.
    """
    if not computes_in_bfloat16(device):
        lacking = "CPU has no AVX-512" if device == "cpu" else "GPU is older than bfloat16"
        logger.warning(
            "%s: this %s, and imitates it far slower than it computes in float32; give %s",
            key,
            lacking,
            instead,
        )
