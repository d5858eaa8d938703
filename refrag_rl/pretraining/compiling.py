"""``torch.compile`` for the bodies of encoder and decoder."""

from __future__ import annotations

from torch import nn
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from refrag_rl.errors import UserError


def require_compiler(device_type: str) -> None:
    """Require what ``torch.compile`` needs.

    Args:
        device_type: Where the model runs, such as ``"cpu"``.

    Raises:
        UserError: On a CPU: there is no C++ compiler.
    """
    if device_type != "cpu":
        return
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise UserError(
            "compile=true: no C++ compiler was found. Install one, such as g++ (or name it in the "
            "environment variable CXX), or give compile=false."
        ) from None


def compile_body(body: nn.Module) -> None:
    """Let a model without its output layer be compiled when it is first called.

    Sizes are kept open, so that batches of other shapes are not compiled again. Weights and their
    names stay as they are.
    """
    body.compile(dynamic=True)
