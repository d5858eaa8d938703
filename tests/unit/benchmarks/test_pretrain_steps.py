"""The variants of ``benchmark pretrain``."""

from __future__ import annotations

import pytest
import torch

from refrag_rl.benchmarks import pretrain

DECODER = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_the_plain_loop_is_measured_once_in_each_format(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool
) -> None:
    monkeypatch.setattr(pretrain, "computes_in_bfloat16", lambda device: has_bfloat16)
    rows = pretrain.measure(
        DECODER,
        batch=2,
        length=8,
        with_float32=True,
        with_compile=False,
        repeats=1,
        device=torch.device("cpu"),
        seed=0,
        side=64,
    )
    plain = [(row["variant"], row["dtype"]) for row in rows if "plain" in row["variant"]]
    expected = [("plain", "float32")]
    if has_bfloat16:
        expected = [("plain_float32", "float32"), ("plain", "bfloat16")]
    assert plain == expected
