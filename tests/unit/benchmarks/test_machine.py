"""FLOPs, against counts by hand."""

from __future__ import annotations

import torch

from refrag_rl.benchmarks.machine import MatrixProduct, count_flops
from refrag_rl.benchmarks.turns import median_seconds
from tests.tiny_models import VOCABULARY, tiny_decoder


def test_flops_of_a_decoder_are_those_counted_by_hand() -> None:
    decoder = tiny_decoder("llama")
    config = decoder.config
    rows, length, width = 2, 10, config.hidden_size
    kv_width = width // config.num_attention_heads * config.num_key_value_heads
    a_layer = 2 * width * width + 2 * width * kv_width + 3 * width * config.intermediate_size
    matrices = config.num_hidden_layers * a_layer + width * VOCABULARY
    attention = config.num_hidden_layers * 2 * length * width  # per token: Q K^T and weights V
    rotary = width // config.num_attention_heads // 2 * length  # angles, once
    with torch.inference_mode():
        flops = count_flops(lambda: decoder(input_ids=torch.ones(rows, length, dtype=torch.int64)))
    assert abs(flops - 2 * rows * length * (matrices + attention)) <= 2 * rows * rotary


def test_flops_of_a_matrix_product() -> None:
    product = MatrixProduct("bfloat16", torch.device("cpu"), side=16)
    assert product.flops == count_flops(product)
    assert product().dtype == torch.bfloat16


def test_calls_take_turns() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = median_seconds(calls, 2, torch.device("cpu"))
    assert order == ["a", "a", "b", "b"] * 2
    assert all(value >= 0 for value in seconds.values())
