"""The rows of ``benchmark latency``: medians and accelerations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TypedDict

from refrag_rl.benchmarks.generation import Answer
from refrag_rl.benchmarks.methods import Method


class LatencyRow(TypedDict):
    """One method at one context length.

    Attributes:
        context_length: ``s``, tokens.
        method: Its name.
        chunk_size: ``k``; ``None`` for the full context.
        cached: Whether the chunk embeddings were computed beforehand; ``None``: full context.
        policy_rate: Rate that the policy was asked for; ``None`` without one.
        compression_rate: ``s`` over the positions read for the context.
        positions: That the decoder reads in the prefill: bos, context and prompt.
        computed: What is computed in the request before the prefill, and in its times; see
            ``Reading``. What a method reads beside it was computed beforehand.
        selection_seconds: Of the time to the first token, from the chunk embeddings to the chunks
            picked; ``None`` without a policy.
        ttft_seconds: Time to the first token.
        ttit_seconds: Time per further token.
        tokens_per_second: Throughput of one request.
        kv_cache_bytes: Of keys and values at the end of a request.
        ttft_acceleration: TTFT of the full context over this one's.
        ttit_acceleration: The same of TTIT.
        throughput_acceleration: This one's throughput over that of the full context.
        model: Name of the shape.
        dtype: Number format of weights and products.
        device: What all ran on.
    """

    context_length: int
    method: str
    chunk_size: int | None
    cached: bool | None
    policy_rate: float | None
    compression_rate: float
    positions: int
    computed: list[str]
    selection_seconds: float | None
    ttft_seconds: float
    ttit_seconds: float
    tokens_per_second: float
    kv_cache_bytes: int
    ttft_acceleration: float
    ttit_acceleration: float
    throughput_acceleration: float
    model: str
    dtype: str
    device: str


def latency_rows(
    length: int, answers: Mapping[Method, Sequence[Answer]], *, name: str, dtype: str, device: str
) -> Iterator[LatencyRow]:
    """Give the medians of each method, and what they are over those of the full context.

    Args:
        length: ``s``, tokens.
        answers: Of each method, the full context among them.
        name: Of the model.
        dtype: Of the model.
        device: What all ran on.
    """
    full = answers[Method()]
    ttft = median(given.ttft for given in full)
    ttit = median(given.ttit for given in full)
    throughput = median(given.tokens_per_second for given in full)
    for method, given in answers.items():
        own_ttft = median(each.ttft for each in given)
        own_ttit = median(each.ttit for each in given)
        own_throughput = median(each.tokens_per_second for each in given)
        selection = [each.selection_seconds for each in given if each.selection_seconds is not None]
        yield LatencyRow(
            context_length=length,
            method=method.label,
            chunk_size=method.chunk_size,
            cached=None if method.chunk_size is None else method.is_cached,
            policy_rate=method.policy_rate,
            compression_rate=length / method.context_positions(length),
            positions=given[0].positions,
            computed=list(given[0].computed),
            selection_seconds=median(selection) if selection else None,
            ttft_seconds=own_ttft,
            ttit_seconds=own_ttit,
            tokens_per_second=own_throughput,
            kv_cache_bytes=given[0].kv_cache_bytes,
            ttft_acceleration=ttft / own_ttft,
            ttit_acceleration=ttit / own_ttit,
            throughput_acceleration=own_throughput / throughput,
            model=name,
            dtype=dtype,
            device=device,
        )
