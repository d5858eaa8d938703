"""Requests of ``benchmark latency``: what is read, what is encoded, what is cached."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, RobertaConfig

from refrag_rl.benchmarks.generation import answer
from refrag_rl.benchmarks.latency import measure
from refrag_rl.benchmarks.methods import Method, list_methods
from refrag_rl.benchmarks.requests import SPECIAL_TOKENS, Reader, Request
from refrag_rl.benchmarks.shapes import build_shape
from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy

LENGTH, PROMPT, OUTPUT = 64, 5, 4
DECODER = {
    "model_type": LlamaConfig.model_type,
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.5,
}
ENCODER = {
    "model_type": RobertaConfig.model_type,
    "vocab_size": 40,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 36,
}


@pytest.fixture(scope="module")
def model() -> RefragForCausalLM:
    cpu = torch.device("cpu")
    return build_shape(DECODER, ENCODER, 16, seed=0, device=cpu, dtype=torch.float32)


@pytest.fixture(scope="module")
def policy(model: RefragForCausalLM) -> PointerPolicy:
    torch.manual_seed(0)
    config = PointerConfig(
        model.embedding_size, features=(), prompt_token=False, budget_token=False, width=8
    )
    return PointerPolicy(config).eval()


def reader(model: RefragForCausalLM, policy: PointerPolicy, method: Method) -> Reader:
    request = Request.draw(
        model, length=LENGTH, prompt_length=PROMPT, chunk_size=method.chunk_size, seed=0
    )
    return Reader(model, policy, method, request, encoder_tokens=50)


METHODS = list_methods([4, 8, 16], [4, 2])


def test_every_chunk_size_comes_cached_and_not_with_every_rate_below_it() -> None:
    labels = [method.label for method in METHODS]
    assert len(set(labels)) == len(labels) == 1 + 2 * (2 + 3 + 3)
    assert labels[0] == "full context"
    assert "k=8 4x cached" in labels
    assert "k=4 4x" not in labels


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_effective_length(model: RefragForCausalLM, policy: PointerPolicy, method: Method) -> None:
    context = LENGTH if method.chunk_size is None else LENGTH // method.chunk_size
    if method.chunk_size is not None and method.policy_rate is not None:
        chunks, size = context, method.chunk_size
        fraction = (size / method.policy_rate - 1) / (size - 1)
        context = chunks + round(fraction * chunks) * (size - 1)
    assert method.context_positions(LENGTH) == context
    read = reader(model, policy, method)()
    assert read.shape == (1, 1 + context + PROMPT, DECODER["hidden_size"])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_kv_cache_holds_what_was_read_and_generated(
    model: RefragForCausalLM, policy: PointerPolicy, method: Method
) -> None:
    given = answer(model.decoder, reader(model, policy, method), OUTPUT)
    assert len(given.tokens) == OUTPUT
    # The last token is generated, but not read.
    held = 1 + method.context_positions(LENGTH) + PROMPT + OUTPUT - 1
    layers, kv_heads, head_size, float32 = 3, 2, 16 // 4, 4
    assert given.kv_cache_bytes == 2 * layers * kv_heads * head_size * held * float32


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_only_what_is_not_cached_is_encoded_in_a_request(
    model: RefragForCausalLM, policy: PointerPolicy, method: Method
) -> None:
    read = reader(model, policy, method)
    encoded: list[torch.Size] = []
    hook = model.encoder.register_forward_pre_hook(
        lambda module, args, inputs: encoded.append(inputs["input_ids"].shape), with_kwargs=True
    )
    try:
        read()
    finally:
        hook.remove()
    if method.chunk_size is None or method.is_cached:
        assert not encoded
        return
    assert sum(shape[0] for shape in encoded) == LENGTH // method.chunk_size
    assert {shape[1] for shape in encoded} == {method.chunk_size + SPECIAL_TOKENS}
    assert max(shape.numel() for shape in encoded) <= 50


@pytest.mark.parametrize("rate", [None, 2])
def test_cached_and_not_cached_give_the_same_answer(
    model: RefragForCausalLM, policy: PointerPolicy, rate: float | None
) -> None:
    reads = [reader(model, policy, Method(8, cached, rate)) for cached in (True, False)]
    torch.testing.assert_close(reads[0](), reads[1]())
    answers = [answer(model.decoder, read, OUTPUT) for read in reads]
    assert answers[0].tokens.equal(answers[1].tokens)


def test_the_full_context_is_answered_as_generate_does(
    model: RefragForCausalLM, policy: PointerPolicy
) -> None:
    read = reader(model, policy, Method())
    expected = model.decoder.generate(
        inputs_embeds=read(),
        attention_mask=torch.ones(1, 1 + LENGTH + PROMPT),
        max_new_tokens=OUTPUT,
        min_new_tokens=OUTPUT,
        eos_token_id=-1,
        pad_token_id=0,
        do_sample=False,
    )
    assert answer(model.decoder, read, OUTPUT).tokens.tolist() == expected[0].tolist()


def test_rows_relate_to_the_full_context_of_their_length(
    model: RefragForCausalLM, policy: PointerPolicy
) -> None:
    rows = measure(
        model,
        policy,
        METHODS,
        lengths=[32, LENGTH],
        prompt_length=PROMPT,
        output_length=OUTPUT,
        encoder_tokens=50,
        warmup=0,
        repeats=1,
        seed=0,
        name="tiny",
        dtype="float32",
    )
    assert [(row["context_length"], row["method"]) for row in rows] == [
        (length, method.label) for length in (32, LENGTH) for method in METHODS
    ]
    full = {row["context_length"]: row for row in rows if row["chunk_size"] is None}
    for row in rows:
        whole = full[row["context_length"]]
        assert row["ttft_acceleration"] == whole["ttft_seconds"] / row["ttft_seconds"]
        assert row["ttit_acceleration"] == whole["ttit_seconds"] / row["ttit_seconds"]
        assert row["positions"] == 1 + PROMPT + round(
            row["context_length"] / row["compression_rate"]
        )
        # With one repeat the three times are of one request.
        seconds = row["ttft_seconds"] + (OUTPUT - 1) * row["ttit_seconds"]
        assert row["tokens_per_second"] == pytest.approx(OUTPUT / seconds)


@pytest.mark.parametrize(
    ("lengths", "sizes", "said"), [([512], [8], "positions"), ([64], [64], "chunk_sizes")]
)
def test_more_than_a_part_can_read(
    model: RefragForCausalLM,
    policy: PointerPolicy,
    lengths: list[int],
    sizes: list[int],
    said: str,
) -> None:
    with pytest.raises(UserError, match=said):
        measure(
            model,
            policy,
            list_methods(sizes, []),
            lengths=lengths,
            prompt_length=0,
            output_length=2,
            encoder_tokens=50,
            warmup=0,
            repeats=1,
            seed=0,
            name="tiny",
            dtype="float32",
        )
