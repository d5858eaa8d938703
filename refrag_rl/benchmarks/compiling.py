"""``torch.compile`` for the body of a decoder."""

from __future__ import annotations

from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from transformers import PreTrainedModel


def has_compiler() -> bool:
    """Return whether there is a C++ compiler, which ``torch.compile`` needs on a CPU."""
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def compile_body(decoder: PreTrainedModel) -> PreTrainedModel:
    """Let a decoder's body be compiled when it is first called; return the decoder.

    Sizes are kept open, so that batches of other shapes are not compiled again.
    """
    decoder.base_model.compile(dynamic=True)
    return decoder
