"""Encoders and decoders of many kinds: what a user may bring along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import XLNetConfig, XLNetModel

from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.checkpoint import join_refrag, load_refrag, save_refrag
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.pretraining.batch import stack
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.reward import RewardModel
from tests.tiny_models import (
    CHUNK_SIZE,
    VOCABULARY,
    byte_level_tokenizer,
    random_window,
    tiny_decoder,
    tiny_encoder,
)

HEADS = {"head_dim": 8}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
STATES = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
OPT = {"hidden_size": 32, "ffn_dim": 48, "num_attention_heads": 4, "max_position_embeddings": 256}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "num_experts": 4}
DECODERS = {
    "bert as decoder": {"family": "bert", "is_decoder": True},
    "bloom, ALiBi": {"family": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "deepseek_v3, latent attention and experts": {
        "family": "deepseek_v3",
        **EXPERTS,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
        "first_k_dense_replace": 1,
    },
    "falcon, ALiBi": {"family": "falcon", "alibi": True, "num_hidden_layers": 2},
    "falcon_h1, attention beside state space": {
        "family": "falcon_h1",
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
    },
    "gemma3_text, scaled embeddings and a local window": {
        "family": "gemma3_text",
        **HEADS,
        "sliding_window": 8,
    },
    "gpt_neo, local layers": {
        "family": "gpt_neo",
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
    },
    "gpt_neox": {"family": "gpt_neox"},
    "gpt_oss, sinks": {"family": "gpt_oss", **HEADS, "num_local_experts": 4, "sliding_window": 8},
    "gptj": {"family": "gptj", **GPT, "rotary_dim": 8},
    "llama4_text, chunked attention": {
        "family": "llama4_text",
        **HEADS,
        "num_local_experts": 2,
        "intermediate_size_mlp": 48,
    },
    "mamba": {"family": "mamba", **STATES},
    "modernbert-decoder": {"family": "modernbert-decoder", "local_attention": 8},
    "mpt": {"family": "mpt", "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "olmo2": {"family": "olmo2"},
    "opt, embeddings of another size": {"family": "opt", **OPT, "word_embed_proj_dim": 16},
    "phi3": {"family": "phi3"},
    "qwen3_moe": {"family": "qwen3_moe", **HEADS, **EXPERTS},
    "recurrent_gemma": {
        "family": "recurrent_gemma",
        **HEADS,
        "num_hidden_layers": 3,
        "attention_window_size": 16,
    },
    "rwkv": {"family": "rwkv", "hidden_size": 32, "num_hidden_layers": 2},
}
ENCODERS = {
    "albert": {"embedding_size": 16},
    "deberta-v2": {"relative_attention": True, "position_biased_input": False},
    "distilbert": {"dim": 24, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    "electra": {"embedding_size": 16},
    "modernbert": {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 8},
    "mpnet": {},
    "nomic_bert": {},
    "xlm-roberta": {},
}
WINDOWS = [random_window(0), random_window(1)]
CHUNKS = len(WINDOWS[0].chunk_mask)


def reward_model(model: RefragForCausalLM) -> RewardModel:
    return RewardModel(model, ChunkTokenizer(byte_level_tokenizer(), start_token_id=1))


def half_of_the_chunks() -> np.ndarray:
    return np.stack([np.arange(CHUNKS) % 2 == 0, np.arange(CHUNKS) % 2 == 1])


def join(decoder, encoder, **options) -> RefragForCausalLM:
    return RefragForCausalLM.from_encoder_decoder(
        encoder, decoder, CHUNK_SIZE, shared_tokenizer=True, bos_token_id=1, **options
    )


@pytest.mark.parametrize("name", DECODERS)
def test_decoders(name: str, tmp_path: Path) -> None:
    """Rewards, training loss and what is loaded again agree with the decoder as it is."""
    options = dict(DECODERS[name])
    decoder = tiny_decoder(options.pop("family"), **options)
    reward = reward_model(join(decoder, tiny_encoder("roberta")))
    everything = np.ones((len(WINDOWS), CHUNKS), dtype=bool)
    for window, found in zip(WINDOWS, reward.log_perplexity(WINDOWS, everything), strict=True):
        ids = [1, *window.context_tokens(), *window.prompt_ids, *window.output_ids]
        ids = torch.tensor([ids])
        with torch.inference_mode():
            scores = decoder(ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
        plain = -scores.gather(-1, ids[0, 1:, None])[-len(window.output_ids) :].mean().item()
        assert found == pytest.approx(plain, abs=1e-4)

    some = half_of_the_chunks()
    found = reward.log_perplexity(WINDOWS, some)
    loss = mixed_loss(reward.model, replace(stack(WINDOWS, some), prompt_weight=0.0))
    assert loss.item() == pytest.approx(found.mean(), abs=1e-4)
    loss.backward()
    gradients = [parameter.grad for parameter in reward.model.parameters()]
    assert all(each is not None and each.isfinite().all() for each in gradients)

    save_refrag(tmp_path / "model", join_refrag(reward.model, byte_level_tokenizer()))
    loaded = load_refrag(tmp_path / "model")
    again = RewardModel(loaded.model, loaded.chunk_tokenizer)
    assert np.array_equal(again.log_perplexity(WINDOWS, some), found)


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("family", ENCODERS)
def test_encoders(family: str, pooling: str, tmp_path: Path) -> None:
    """Chunks have embeddings that differ, the same in any batch and loaded again."""
    model = join(
        tiny_decoder("llama"),
        tiny_encoder(family, **ENCODERS[family]),
        encoder_pooling=pooling,
    )
    reward = reward_model(model)
    found = reward.chunk_embeddings(WINDOWS)
    assert found.std(axis=1).mean() > 1e-4
    alone = reward_model(model).chunk_embeddings(WINDOWS[1:])
    assert np.allclose(alone, found[1:], atol=1e-5)

    save_refrag(tmp_path / "model", join_refrag(model, byte_level_tokenizer()))
    loaded = load_refrag(tmp_path / "model")
    again = RewardModel(loaded.model, loaded.chunk_tokenizer)
    assert np.array_equal(again.chunk_embeddings(WINDOWS), found)


def test_an_encoder_of_characters_is_refused() -> None:
    with pytest.raises(UserError, match="no table of token embeddings"):
        join(tiny_decoder("llama"), tiny_encoder("canine"))


def test_an_encoder_without_a_limit_of_positions() -> None:
    sizes = {"d_model": 24, "n_layer": 2, "n_head": 2, "d_inner": 32}
    encoder = XLNetModel(XLNetConfig(vocab_size=VOCABULARY, **sizes)).eval()
    model = join(tiny_decoder("llama"), encoder)
    assert model.max_encoder_tokens is None
    assert reward_model(model).chunk_embeddings(WINDOWS).shape == (2, CHUNKS, 24)


def test_a_part_without_some_of_its_weights_is_refused(tmp_path: Path) -> None:
    tiny_encoder("roberta").save_pretrained(tmp_path / "encoder")
    folder = tmp_path / "decoder"
    decoder = tiny_decoder("llama")
    kept = {name: each for name, each in decoder.state_dict().items() if "layers.1" not in name}
    decoder.save_pretrained(folder, state_dict=kept)
    with pytest.raises(UserError, match=r"weights are missing \(model\.layers\.1"):
        join(folder, tmp_path / "encoder")
