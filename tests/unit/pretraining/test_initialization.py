"""The induction head that is written into a decoder's first weights finds what follows a repeat."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from refrag_rl.errors import UserError
from refrag_rl.pretraining.initialization import start_with_induction
from tests.tiny_models import tiny_decoder

VOCABULARY = 400


def make(**options: object) -> PreTrainedModel:
    torch.manual_seed(0)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 128,
        "block_auto_adjust_ff_dim": False,
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "conv_L_cache": 3,
        "conv_bias": True,
        "tie_word_embeddings": True,
        **options,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("lfm2", **settings)).eval()


@torch.no_grad()
def rank_of_the_repeated(decoder: PreTrainedModel) -> float:
    """Return the mean rank of the token that followed earlier, 0 the best."""
    generator = torch.Generator().manual_seed(0)
    once = torch.stack([torch.randperm(VOCABULARY, generator=generator)[:40] for _ in range(8)])
    logits = decoder(torch.cat([once, once], dim=1)).logits[:, 40:-1]
    right = logits.gather(2, once[:, 1:, None])
    return float((logits > right).sum(-1).float().mean())


def test_repeats_are_continued_before_any_training() -> None:
    decoder = make()
    before = rank_of_the_repeated(decoder)
    start_with_induction(decoder, embedding_scale=0.1)
    assert before > VOCABULARY / 4
    assert rank_of_the_repeated(decoder) < VOCABULARY / 8


def test_start_stays_trainable() -> None:
    decoder = make()
    start_with_induction(decoder, embedding_scale=0.1)
    ids = torch.randint(VOCABULARY, (2, 20))
    decoder(ids, labels=ids).loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in decoder.parameters() if p.grad is not None)
    assert all(p.requires_grad for p in decoder.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"conv_bias": False},
        {"num_key_value_heads": 1},
        {"layer_types": ["full_attention", "conv", "conv", "full_attention"]},
    ],
)
def test_unfit_decoders_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match="induction_start"):
        start_with_induction(make(**options), embedding_scale=0.1)


def test_other_architectures_are_refused() -> None:
    with pytest.raises(UserError, match="lfm2 only"):
        start_with_induction(tiny_decoder("llama"), embedding_scale=0.1)
