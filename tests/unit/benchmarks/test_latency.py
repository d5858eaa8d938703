"""Requests of ``benchmark latency``: what is read, what is encoded, what is cached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, RobertaConfig

from refrag_rl.benchmarks.generation import answer
from refrag_rl.benchmarks.latency import measure
from refrag_rl.benchmarks.latency_rows import LatencyRow
from refrag_rl.benchmarks.methods import Method, list_methods
from refrag_rl.benchmarks.policy_inputs import PolicyInputs
from refrag_rl.benchmarks.prefill import EagerPrefill
from refrag_rl.benchmarks.reading import Reader
from refrag_rl.benchmarks.requests import SPECIAL_TOKENS, Request
from refrag_rl.benchmarks.shapes import build_shape
from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.observation import CHUNK_FEATURES
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
    """The paper's: it reads chunk embeddings and nothing else."""
    return make_policy(model)


ONCE: dict[str, Any] = {
    "output_length": 2,
    "encoder_tokens": 50,
    "warmup": 0,
    "repeats": 1,
    "seed": 0,
    "name": "tiny",
    "dtype": "float32",
}
"""Of a measurement that is only to have been made."""


def make_policy(model: RefragForCausalLM, **reads: Any) -> PointerPolicy:
    torch.manual_seed(0)
    paper = {"features": (), "prompt_token": False, "budget_token": False}
    config = PointerConfig(model.embedding_size, width=8, **(paper | reads))
    return PointerPolicy(config).eval()


def reader(model: RefragForCausalLM, policy: PointerPolicy, method: Method) -> Reader:
    request = Request.draw(
        model, length=LENGTH, prompt_length=PROMPT, chunk_size=method.chunk_size, seed=0
    )
    return Reader(model, policy, method, request, encoder_tokens=50)


def list_rows(measured: Iterable[list[LatencyRow]]) -> list[LatencyRow]:
    return [row for rows in measured for row in rows]


def measure_once(model: RefragForCausalLM, policy: PointerPolicy, method: Method) -> LatencyRow:
    rows = list_rows(
        measure(
            model,
            policy,
            [Method(), method],
            lengths=[LENGTH],
            prompt_length=PROMPT,
            **ONCE,
        )
    )
    assert (rows[0]["computed"], rows[0]["selection_seconds"]) == ([], None)
    return rows[1]


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
    read = reader(model, policy, method)().inputs_embeds
    assert read.shape == (1, 1 + context + PROMPT, DECODER["hidden_size"])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_kv_cache_holds_what_was_read_and_generated(
    model: RefragForCausalLM, policy: PointerPolicy, method: Method
) -> None:
    given = answer(
        model.decoder, EagerPrefill(model.decoder), reader(model, policy, method), OUTPUT
    )
    assert len(given.tokens) == OUTPUT
    # The last token is generated, but not read.
    held = 1 + method.context_positions(LENGTH) + PROMPT + OUTPUT - 1
    layers, kv_heads, head_size, float32 = 3, 2, 16 // 4, 4
    assert given.kv_cache_bytes == 2 * layers * kv_heads * head_size * held * float32


class Passes:
    """Counts what the encoder and the decoder read while it is entered.

    Attributes:
        encoded: Shapes of the encoder's inputs.
        decoded: Positions that the decoder's body read.
    """

    def __init__(self, model: RefragForCausalLM) -> None:
        self.encoded: list[torch.Size] = []
        self.decoded = 0
        # Probed now, not within the count.
        assert model.head.is_plain
        self._parts = model.encoder, model.decoder.base_model

    def __enter__(self) -> Passes:
        encoder, body = self._parts
        self._hooks = [
            encoder.register_forward_pre_hook(self._encode, with_kwargs=True),
            body.register_forward_pre_hook(self._decode, with_kwargs=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _encode(self, module: object, args: object, inputs: dict[str, Tensor]) -> None:
        self.encoded.append(inputs["input_ids"].shape)

    def _decode(self, module: object, args: object, inputs: dict[str, Tensor]) -> None:
        self.decoded += inputs["inputs_embeds"].shape[:2].numel()


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_only_what_is_not_cached_is_encoded_in_a_request(
    model: RefragForCausalLM, policy: PointerPolicy, method: Method
) -> None:
    read = reader(model, policy, method)
    with Passes(model) as passes:
        read()
    if method.chunk_size is None or method.is_cached:
        assert not passes.encoded
        return
    assert sum(shape[0] for shape in passes.encoded) == LENGTH // method.chunk_size
    assert {shape[1] for shape in passes.encoded} == {method.chunk_size + SPECIAL_TOKENS}
    assert max(shape.numel() for shape in passes.encoded) <= 50


@pytest.mark.parametrize("is_cached", [True, False], ids=["cached", "uncached"])
@pytest.mark.parametrize(
    ("reads", "encoded", "decoded"),
    [
        ({}, 0, 0),
        ({"features": ("position", "passage_rank", "lexical", "suffix_match")}, 0, 0),
        ({"features": ("similarity",)}, 1, 0),
        ({"prompt_token": True}, 1, 0),
        ({"prompt_token": True, "features": ("similarity", "log_perplexity")}, 1, 1),
        ({"features": ("log_perplexity", "reconstruction_loss")}, 0, 2),
        ({"features": CHUNK_FEATURES, "prompt_token": True, "logits": "each_pick"}, 1, 2),
    ],
)
def test_a_row_says_what_was_computed_of_what_the_policy_reads(
    model: RefragForCausalLM,
    reads: dict[str, Any],
    encoded: int,
    decoded: int,
    is_cached: bool,
) -> None:
    # ``encoded``: whether the prompt has to be; ``decoded``: features that need the decoder.
    policy = make_policy(model, **reads)
    method = Method(8, is_cached, 2)
    read = reader(model, policy, method)
    with Passes(model) as passes:
        reading = read()
    chunks = LENGTH // 8
    pieces = [shape[0] for shape in passes.encoded]
    assert sum(pieces) == encoded * -(-PROMPT // 8) + (0 if is_cached else chunks)
    # A chunk's embedding is one position more.
    with_embedding = "reconstruction_loss" in reads.get("features", ())
    positions = decoded * chunks * (1 + 8) + with_embedding * chunks
    assert passes.decoded == (0 if is_cached else positions)
    stored = ("log_perplexity", "reconstruction_loss") if is_cached else ()
    expected = [] if is_cached else ["chunk_embeddings"]
    expected += ["prompt_embedding"] * encoded
    expected += [name for name in policy.config.features if name not in stored]
    assert reading.computed == (*expected, "policy")
    assert reading.selection_seconds is not None
    row = measure_once(model, policy, method)
    assert row["computed"] == list(reading.computed)
    assert 0 < row["selection_seconds"] < row["ttft_seconds"]


def test_a_policy_that_reads_passages_is_given_where_they_start(
    model: RefragForCausalLM,
) -> None:
    policy = make_policy(model, features=("position",), neighbours="passage")
    reading = reader(model, policy, Method(8, True, 2))()
    assert "passage_start" in reading.computed
    request = Request.draw(model, length=LENGTH, prompt_length=PROMPT, chunk_size=8, seed=0)
    inputs = PolicyInputs(model, policy.config, request, 8, lambda ids: ids, 50)
    chunk_embeddings = torch.zeros(LENGTH // 8, model.embedding_size)
    observation = inputs.observe(chunk_embeddings).observation
    with torch.inference_mode():
        assert torch.isfinite(policy(observation, torch.tensor([2]))).all()


def test_features_are_those_of_the_environment(model: RefragForCausalLM) -> None:
    policy = make_policy(model, features=CHUNK_FEATURES, prompt_token=True)
    request = Request.draw(model, length=LENGTH, prompt_length=PROMPT, chunk_size=8, seed=0)
    request = replace(request, prompt_ids=request.context_ids[20 : 20 + PROMPT])

    def encode(ids: Tensor) -> Tensor:
        return model.encode_chunks(ids, torch.ones_like(ids))

    inputs = PolicyInputs(model, policy.config, request, 8, encode, 50)
    with torch.inference_mode():
        chunk_embeddings = encode(request.encoder_ids)
        found = inputs.observe(chunk_embeddings).observation
        inputs.store(chunk_embeddings)
        from_store = inputs.observe(chunk_embeddings).observation
    torch.testing.assert_close(found, from_store)
    features = {name: found["features"][0, :, i] for i, name in enumerate(CHUNK_FEATURES)}
    assert torch.isfinite(found["features"]).all()
    # Tokens 20 to 24 end in the fourth chunk of 8.
    assert features["suffix_match"].argmax() == 3
    assert features["suffix_match"].max() == 1
    prompt = encode(request.prompt_encoder_ids).mean(0)
    torch.testing.assert_close(found["prompt_embedding"], prompt[None])
    torch.testing.assert_close(
        features["similarity"], torch.cosine_similarity(chunk_embeddings, prompt, dim=-1)
    )
    chunk = request.context_ids[:8]
    bos = torch.tensor([model.config.bos_token_id])
    logits = model.decoder(torch.cat([bos, chunk])[None]).logits[0, :-1]
    torch.testing.assert_close(
        features["log_perplexity"][0], torch.nn.functional.cross_entropy(logits, chunk)
    )


@pytest.mark.parametrize("rate", [None, 2])
def test_cached_and_not_cached_give_the_same_answer(
    model: RefragForCausalLM, policy: PointerPolicy, rate: float | None
) -> None:
    reads = [reader(model, policy, Method(8, cached, rate)) for cached in (True, False)]
    torch.testing.assert_close(reads[0]().inputs_embeds, reads[1]().inputs_embeds)
    answers = [answer(model.decoder, EagerPrefill(model.decoder), read, OUTPUT) for read in reads]
    assert answers[0].tokens.equal(answers[1].tokens)


def test_the_full_context_is_answered_as_generate_does(
    model: RefragForCausalLM, policy: PointerPolicy
) -> None:
    read = reader(model, policy, Method())
    expected = model.decoder.generate(
        inputs_embeds=read().inputs_embeds,
        attention_mask=torch.ones(1, 1 + LENGTH + PROMPT),
        max_new_tokens=OUTPUT,
        min_new_tokens=OUTPUT,
        eos_token_id=-1,
        pad_token_id=0,
        do_sample=False,
    )
    assert (
        answer(model.decoder, EagerPrefill(model.decoder), read, OUTPUT).tokens.tolist()
        == expected[0].tolist()
    )


def test_rows_relate_to_the_full_context_of_their_length(
    model: RefragForCausalLM, policy: PointerPolicy
) -> None:
    rows = list_rows(
        measure(
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
        list_rows(
            measure(
                model,
                policy,
                list_methods(sizes, []),
                lengths=lengths,
                prompt_length=0,
                **ONCE,
            )
        )
