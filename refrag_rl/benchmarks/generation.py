"""Answering a request token by token, with the times that the paper reports.

1. Time to the first token (TTFT): from the request to the first generated token, so everything that
   makes the decoder's input, and the prefill (``prefill``).
2. Time per further token (TTIT): the rest over the further tokens.
3. Throughput: all generated tokens over the whole time.

Decoding is greedy, with the cache of ``transformers``, one sequence at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from refrag_rl.benchmarks.machine import wait_for
from refrag_rl.benchmarks.prefill import Prefill, next_token
from refrag_rl.benchmarks.reading import Reading


class Answer(NamedTuple):
    """A request answered.

    Attributes:
        tokens: (o,) int64, generated.
        positions: That the decoder read in the prefill.
        kv_cache_bytes: Of keys and values, once the last token was generated.
        ttft: Seconds to the first token.
        ttit: Seconds per further token.
        selection_seconds: Of ``ttft``; see ``Reading``.
        computed: See ``Reading``.
    """

    tokens: Tensor
    positions: int
    kv_cache_bytes: int
    ttft: float
    ttit: float
    selection_seconds: float | None
    computed: tuple[str, ...]

    @property
    def tokens_per_second(self) -> float:
        """Throughput: generated tokens over the whole time."""
        further = len(self.tokens) - 1
        return len(self.tokens) / (self.ttft + further * self.ttit)


@torch.inference_mode()
def answer(
    decoder: PreTrainedModel, prefill: Prefill, read: Callable[[], Reading], output_length: int
) -> Answer:
    """Generate tokens; the device is waited for at the start, after the first token, at the end.

    Args:
        decoder: A causal language model.
        prefill: Reads what ``read`` makes.
        read: Makes the decoder's ``inputs_embeds``.
        output_length: ``o``, 2 or more.
    """
    device = decoder.device
    wait_for(device)
    started = time.perf_counter()
    reading = read()
    token, cache = prefill(reading.inputs_embeds)
    tokens = [token]
    wait_for(device)
    first = time.perf_counter()
    while len(tokens) < output_length:
        tokens.append(next_token(decoder, cache, input_ids=tokens[-1]))
    wait_for(device)
    ended = time.perf_counter()
    return Answer(
        tokens=torch.cat(tokens, dim=1)[0].cpu(),
        positions=reading.inputs_embeds.shape[1],
        kv_cache_bytes=cache_bytes(cache),
        ttft=first - started,
        ttit=(ended - first) / (output_length - 1),
        selection_seconds=reading.selection_seconds,
        computed=reading.computed,
    )


def cache_bytes(cache: DynamicCache) -> int:
    """Return the size of a cache's keys and values; what other layers keep is not counted."""
    held = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    return sum(tensor.nbytes for tensor in held if isinstance(tensor, Tensor))
