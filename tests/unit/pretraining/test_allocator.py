"""Memory that is kept with the process."""

from __future__ import annotations

import platform

import pytest

from refrag_rl.pretraining.allocator import keep_large_blocks, return_large_blocks


def test_nothing_happens_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_large_blocks()
    assert not return_large_blocks()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_large_blocks_are_no_longer_mapped_one_by_one() -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]

    def is_mapped_alone() -> bool:
        size = 2**26
        block = libc.malloc(size)
        # glibc marks such blocks in the second lowest bit of the size in front of them.
        mark = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value
        libc.free(block)
        return bool(mark & 2)

    try:
        assert keep_large_blocks()
        assert not is_mapped_alone()
    finally:
        assert return_large_blocks()
    assert is_mapped_alone()
