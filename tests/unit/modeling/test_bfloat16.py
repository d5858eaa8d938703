"""bfloat16 that a CPU only imitates is announced, and nothing else is."""

from __future__ import annotations

import logging

import pytest
import torch

from refrag_rl.modeling.bfloat16 import (
    computes_in_bfloat16,
    number_format,
    warn_of_imitated_bfloat16,
)


@pytest.mark.parametrize(
    ("capability", "gpu", "device", "computes", "automatic"),
    [
        ("AVX2", True, "cpu", False, "float32"),
        ("AVX512", True, "cpu", True, "float32"),
        ("DEFAULT", False, "cpu", True, "float32"),
        ("AVX2", True, "cuda", True, "bfloat16"),
        ("AVX2", True, "cuda:0", True, "bfloat16"),
        ("AVX512", False, "cuda:0", False, "float32"),
    ],
)
def test_only_imitated_bfloat16_is_announced(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capability: str,
    gpu: bool,
    device: str,
    computes: bool,
    automatic: str,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu)
    assert computes_in_bfloat16(device) == computes
    assert number_format("auto", device) == automatic
    with caplog.at_level(logging.WARNING):
        warn_of_imitated_bfloat16("refrag.dtype=bfloat16", "refrag.dtype=float32", device)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (not computes)
    assert all("refrag.dtype=bfloat16" in each and "float32" in each for each in said)
    assert all(("CPU" if device == "cpu" else "GPU") in each for each in said)


@pytest.mark.parametrize("given", ["float32", "bfloat16"])
def test_a_number_format_that_is_named_is_taken(given: str) -> None:
    assert number_format(given, "cpu") == given
