"""A model that starts able to read chunk embeddings makes a chunk's tokens likelier."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.pretraining.chunk_reading import start_with_chunk_reading
from refrag_rl.pretraining.initialization import start_with_induction

VOCABULARY, WIDTH, CHUNK_SIZE = 300, 128, 8


def make(pooling: str = "mean", **decoder_options: object) -> RefragForCausalLM:
    torch.manual_seed(0)
    decoder = AutoConfig.for_model(
        "lfm2",
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        block_auto_adjust_ff_dim=False,
        num_hidden_layers=4,
        layer_types=["conv", "full_attention", "conv", "full_attention"],
        num_attention_heads=2,
        num_key_value_heads=2,
        conv_L_cache=3,
        conv_bias=True,
        tie_word_embeddings=True,
        **decoder_options,
    )
    encoder = AutoConfig.for_model(
        "roberta",
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CHUNK_SIZE + 8,
    )
    model = RefragForCausalLM.from_encoder_decoder(
        AutoModel.from_config(encoder),
        AutoModelForCausalLM.from_config(decoder),
        CHUNK_SIZE,
        encoder_pooling=pooling,  # type: ignore[arg-type]
        shared_tokenizer=True,
        bos_token_id=1,
        cls_token_id=0,
    )
    start_with_induction(model.decoder, embedding_scale=0.1)
    return model.eval()


@torch.no_grad()
def rank_of_the_chunks_tokens(model: RefragForCausalLM) -> float:
    """Return the mean rank of a chunk's other tokens once one of them was read, 0 the best."""
    generator = torch.Generator().manual_seed(0)
    chunks = torch.stack(
        [torch.randperm(VOCABULARY - 10, generator=generator)[:CHUNK_SIZE] + 10 for _ in range(32)]
    )
    ids = torch.cat([torch.zeros(len(chunks), 1, dtype=torch.long), chunks], dim=1)
    layout = model.lay_out(
        chunks[:, None],
        torch.ones(len(chunks), 1, dtype=torch.bool),
        torch.zeros(len(chunks), 1, dtype=torch.bool),
        chunks[:, :1],
        chunks[:, 1:2],
    )
    embeddings = model.encode_chunks(ids, torch.ones_like(ids))[:, None]
    logits = model.decoder(inputs_embeds=model.embed(layout, embeddings)).logits[:, 2]
    others = logits.gather(1, chunks[:, 1:])
    return float((logits[:, None] > others[:, :, None]).sum(-1).float().mean())


def test_a_chunks_tokens_are_likelier_before_any_training() -> None:
    model = make()
    before = rank_of_the_chunks_tokens(model)
    start_with_chunk_reading(model)
    assert before > VOCABULARY / 3
    assert rank_of_the_chunks_tokens(model) < VOCABULARY / 5


def test_the_induction_head_still_works() -> None:
    model = make()
    start_with_chunk_reading(model)
    generator = torch.Generator().manual_seed(0)
    once = torch.stack([torch.randperm(VOCABULARY, generator=generator)[:40] for _ in range(8)])
    with torch.no_grad():
        logits = model.decoder(torch.cat([once, once], dim=1)).logits[:, 40:-1]
    right = logits.gather(2, once[:, 1:, None])
    assert float((logits > right).sum(-1).float().mean()) < VOCABULARY / 8


@pytest.mark.parametrize("options", [{"pooling": "first"}])
def test_unfit_models_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match="chunk_reading_start"):
        start_with_chunk_reading(make(**options))
