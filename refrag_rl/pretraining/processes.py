"""The processes and devices that a pre-training runs on."""

from __future__ import annotations

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs


def build_accelerator(*, bfloat16: bool) -> Accelerator:
    """Return Hugging Face accelerate's view of this process.

    On a machine without a GPU or the like, several processes talk by gloo.

    Args:
        bfloat16: Matrix products in bfloat16.
    """
    return Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="bf16" if bfloat16 else "no",
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                # The encoder is not read in batches whose chunks are all expanded.
                find_unused_parameters=True,
            )
        ],
    )
