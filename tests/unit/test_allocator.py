"""Large blocks: mapped one by one by default, kept in the heap once that was asked for."""

import os
import platform
import subprocess
import sys

import pytest

from refrag_rl.allocator import keep_large_blocks, return_large_blocks

# In a process of its own: a heap that has grown already may hold a free block of this size.
SCRIPT = """
import ctypes
from refrag_rl.allocator import keep_large_blocks, return_large_blocks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]

def is_mapped_alone():
    block = libc.malloc(2**26)
    # glibc marks such blocks in the second lowest bit of the size in front of them.
    mark = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value
    libc.free(block)
    return bool(mark & 2)

print(is_mapped_alone(), keep_large_blocks(), is_mapped_alone())
print(return_large_blocks(), is_mapped_alone())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_large_blocks_are_no_longer_mapped_one_by_one() -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MALLOC_", "GLIBC_"))
    }
    outcome = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert outcome.stdout.split() == ["True", "True", "False", "True", "True"]


def test_nothing_happens_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_large_blocks()
    assert not return_large_blocks()
