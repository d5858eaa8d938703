"""Errors that mean that there is too little memory, of a GPU or of the machine."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be allocated.

    PyTorch says so on a CPU with a plain ``RuntimeError``, and elsewhere with a class of its own,
    which is known by its name here: a command that ends early does not load PyTorch.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
