"""The prefill of a request: from the decoder's input to the first token and the cache behind it.

1. Eager: one forward pass of the decoder, its output layer at the last position only.
2. Captured: the same pass recorded once as a CUDA graph and replayed for every input of that
   length. A short prefill on a fast GPU takes less time than launching its kernels one by one from
   Python; serving engines replay graphs for that reason.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

_WARMUP = 3
"""Passes before a capture, as PyTorch advises: libraries set themselves up in them."""


class Prefilled(NamedTuple):
    """The first token and what further ones are generated from.

    Attributes:
        token: (1, 1) int64, the most probable next token.
        cache: Of all positions read; the caller's own, to be added to.
    """

    token: Tensor
    cache: DynamicCache


Prefill = Callable[[Tensor], Prefilled]
"""Reads ``inputs_embeds`` (1, T, d)."""


def next_token(decoder: PreTrainedModel, cache: DynamicCache, **inputs: Tensor) -> Tensor:
    """Return the most probable next token, (1, 1); what was read is added to the cache."""
    output = decoder(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    token: Tensor = output.logits[:, -1].argmax(-1, keepdim=True)
    return token


class EagerPrefill:
    """One forward pass.

    Args:
        decoder: A causal language model.
    """

    def __init__(self, decoder: PreTrainedModel) -> None:
        self._decoder = decoder

    def __call__(self, inputs_embeds: Tensor) -> Prefilled:
        """Return the first token and the cache."""
        cache = DynamicCache(config=self._decoder.config)
        return Prefilled(next_token(self._decoder, cache, inputs_embeds=inputs_embeds), cache)


class CapturedPrefill:
    """One forward pass, recorded at the first call.

    Args:
        decoder: A causal language model on a GPU, whose pass never waits for the GPU. All inputs
            have one length.
    """

    def __init__(self, decoder: PreTrainedModel) -> None:
        self._eager = EagerPrefill(decoder)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs_embeds: Tensor
        self._prefilled: Prefilled

    def __call__(self, inputs_embeds: Tensor) -> Prefilled:
        """Return the first token and the cache; the next call writes over both."""
        if self._graph is None:
            self._graph = self._capture(inputs_embeds)
        self._inputs_embeds.copy_(inputs_embeds)
        self._graph.replay()
        return Prefilled(self._prefilled.token, alike(self._prefilled.cache))

    def _capture(self, inputs_embeds: Tensor) -> torch.cuda.CUDAGraph:
        self._inputs_embeds = inputs_embeds.clone()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARMUP):
                self._eager(self._inputs_embeds)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._prefilled = self._eager(self._inputs_embeds)
        return graph


def alike(cache: DynamicCache) -> DynamicCache:
    """Return a cache of the same tensors: added to, it leaves the other as it is."""
    other = copy.copy(cache)
    other.layers = [copy.copy(layer) for layer in cache.layers]
    return other
