"""bfloat16 that a CPU only imitates is announced, and nothing else is."""

from __future__ import annotations

import logging

import pytest
import torch

from refrag_rl.modeling.bfloat16 import computes_in_bfloat16, warn_of_imitated_bfloat16


@pytest.mark.parametrize(
    ("capability", "device", "computes"),
    [
        ("AVX2", "cpu", False),
        ("AVX512", "cpu", True),
        ("DEFAULT", "cpu", True),
        ("AVX2", "cuda", True),
        ("AVX2", "cuda:0", True),
    ],
)
def test_only_imitated_bfloat16_is_announced(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capability: str,
    device: str,
    computes: bool,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert computes_in_bfloat16(device) == computes
    with caplog.at_level(logging.WARNING):
        warn_of_imitated_bfloat16("refrag.dtype=bfloat16", "refrag.dtype=float32", device)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (not computes)
    assert all("refrag.dtype=bfloat16" in each and "float32" in each for each in said)
