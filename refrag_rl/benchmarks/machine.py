"""What the machine can do, and how much work a model's pass is.

The share of the machine's limit that a measurement reaches (model FLOPs utilization, MFU) is the
model's FLOPs over its time, divided by the rate of a large matrix product in the same number format
in the same run. A multiplication and an addition are two FLOPs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from refrag_rl.modeling.bfloat16 import Format

_SIDES = {"cpu": 2048, "cuda": 8192}
_PRODUCTS = 4


def describe_device(device: torch.device) -> str:
    """Return ``cpu``, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Return the wall-clock time of a call, in seconds; waits for the device on both sides."""
    wait_for(device)
    started = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - started


def wait_for(device: torch.device) -> None:
    """Return once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class MatrixProduct:
    """A few large square matrix products of random numbers, the yardstick of MFU.

    Random, as a GPU is faster on numbers that are all alike.

    Args:
        number_format: Of both factors and the result.
        device: Where it runs.
        side: Rows and columns; ``None``: 2048 on a CPU, 8192 on a GPU.

    Attributes:
        flops: FLOPs of a call.
    """

    def __init__(
        self, number_format: Format, device: torch.device, side: int | None = None
    ) -> None:
        side = side or _SIDES.get(device.type, 2048)
        dtype = getattr(torch, number_format)
        self.flops = _PRODUCTS * 2.0 * side**3
        self._left, self._right = torch.randn(2, side, side, dtype=dtype, device=device)

    def __call__(self) -> torch.Tensor:
        """Multiply, and return the product."""
        for _ in range(_PRODUCTS):
            product = self._left @ self._right
        return product


def count_flops(run: Callable[[], object]) -> int:
    """Return the FLOPs of the matrix products and convolutions of a call.

    Attention is counted as its two products over all pairs of positions, as is usual for MFU,
    whether or not a kernel leaves out the pairs that a causal model masks.

    Args:
        run: Called once.
    """
    # PyTorch knows no FLOPs of its fused attention kernels on a CPU, but those of their parts.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return int(counter.get_total_flops())
