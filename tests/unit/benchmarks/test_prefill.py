"""The prefill: caches that branch, and on a GPU graphs that give what the pass itself gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from refrag_rl.benchmarks.prefill import CapturedPrefill, EagerPrefill, Prefill, alike, next_token
from tests.tiny_models import tiny_decoder


def generate(decoder: PreTrainedModel, prefill: Prefill, inputs_embeds: Tensor) -> list[int]:
    """Return four tokens that follow an input."""
    token, cache = prefill(inputs_embeds)
    tokens = [token]
    while len(tokens) < 4:
        tokens.append(next_token(decoder, cache, input_ids=tokens[-1]))
    return torch.cat(tokens, dim=1)[0].tolist()


@torch.inference_mode()
def test_what_is_added_to_a_cache_that_is_alike_is_not_added_to_the_other() -> None:
    decoder = tiny_decoder("llama")
    inputs_embeds = torch.randn(1, 5, decoder.config.hidden_size)
    token, cache = EagerPrefill(decoder)(inputs_embeds)
    other = alike(cache)
    first = next_token(decoder, other, input_ids=token)
    assert (cache.get_seq_length(), other.get_seq_length()) == (5, 6)
    assert torch.equal(next_token(decoder, alike(cache), input_ids=token), first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@torch.inference_mode()
def test_a_captured_prefill_gives_the_tokens_of_an_eager_one() -> None:
    decoder = tiny_decoder("llama").to("cuda")
    captured, eager = CapturedPrefill(decoder), EagerPrefill(decoder)
    for _ in range(3):
        inputs_embeds = torch.randn(1, 40, decoder.config.hidden_size, device="cuda")
        assert generate(decoder, captured, inputs_embeds) == generate(decoder, eager, inputs_embeds)
