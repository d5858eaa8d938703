"""``torch.compile`` for what encoder and decoder do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import nn

from refrag_rl.errors import UserError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def require_compiler(key: str, device_type: str) -> None:
    """Require what ``torch.compile`` needs.

    Args:
        key: That asked for it, as on the command line: ``compile``.
        device_type: Where the model runs, such as ``"cpu"``.

    Raises:
        UserError: There is no C++ compiler; on a GPU: no Triton, or no C compiler.
    """
    if device_type != "cpu":
        _require_triton(key)
        return
    # Takes a second, which no command is to wait for that does not compile.
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise UserError(
            f"{key}=true: no C++ compiler was found. Install one, such as g++ (or name it in the "
            f"environment variable CXX), or give {key}=false."
        ) from None


def _require_triton(key: str) -> None:
    from torch.utils._triton import has_triton

    if not has_triton():
        raise UserError(
            f"{key}=true: Triton was not found, or does not know this GPU. Install a PyTorch that "
            f"has one, or give {key}=false."
        )
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        raise UserError(
            f"{key}=true: no C compiler was found. Install one, such as gcc (or name it in the "
            f"environment variable CC), or give {key}=false."
        )


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function, or a module, that is compiled when it is first called.

    Sizes are kept open, so that batches of other shapes are not compiled again (a size of 1 is).
    What was given stays as it is.
    """
    return torch.compile(function, dynamic=True)


def compile_body(body: nn.Module) -> None:
    """Let a model without its output layer be compiled when it is first called.

    Sizes are kept open, so that batches of other shapes are not compiled again. Weights and their
    names stay as they are.
    """
    body.compile(dynamic=True)
