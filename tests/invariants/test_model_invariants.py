"""Invariants 1 and 2: what is expanded is all that the reward depends on."""

import numpy as np
import pytest
import torch

from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.reward import RewardModel
from tests.tiny_models import (
    DECODERS,
    DECODERS_WITH_MORE_HEAD,
    ENCODERS,
    byte_level_tokenizer,
    random_window,
    tiny_refrag,
)

TOLERANCE = 1e-4
L = 6
PAIRS = [
    *((decoder, encoder) for decoder in DECODERS for encoder in ENCODERS),
    *((decoder, "roberta") for decoder in DECODERS_WITH_MORE_HEAD),
]


def reward_model(decoder="llama", encoder="roberta", **options):
    chunk_tokenizer = ChunkTokenizer(byte_level_tokenizer(), start_token_id=1)
    return RewardModel(tiny_refrag(decoder, encoder), chunk_tokenizer, **options)


def windows_of_every_shape():
    return [
        random_window(0),
        random_window(1, prompt_position="before"),
        random_window(2, padding_chunks=3),
        random_window(3, prompt_length=0),
        random_window(4, prompt_length=9, output_length=2, prompt_position="before"),
        random_window(5, padding_chunks=L),
        random_window(6, padding_chunks=L, prompt_length=0),
    ]


def read_by_decoder(reward, window, context_embeddings):
    """The decoder's log-perplexity of the output behind bos and some context's embeddings."""
    decoder = reward.model.decoder
    embed = decoder.get_input_embeddings()
    bos = torch.tensor([reward.model.config.bos_token_id])
    prompt = embed(torch.from_numpy(window.prompt_ids))
    output = torch.from_numpy(window.output_ids)
    before = window.prompt_position == "before"
    context = [prompt, context_embeddings] if before else [context_embeddings, prompt]
    sequence = torch.cat([embed(bos), *context, embed(output)])
    logits = decoder(inputs_embeds=sequence[None]).logits[0, -len(output) - 1 : -1]
    return torch.nn.functional.cross_entropy(logits.float(), output).item()


@pytest.mark.parametrize(("decoder", "encoder"), PAIRS)
@torch.inference_mode()
def test_1_nothing_expanded_is_refrag_k(decoder, encoder):
    reward, windows = reward_model(decoder, encoder), windows_of_every_shape()
    found = reward.log_perplexity(windows, np.zeros((len(windows), L), dtype=bool))
    for window, log_perplexity in zip(windows, found, strict=True):
        chunks = torch.from_numpy(window.context_ids[window.chunk_mask])
        start = torch.full((len(chunks), 1), 1)
        inputs = torch.cat([start, chunks], dim=1)
        projected = reward.model.project(
            reward.model.encode_chunks(inputs, torch.ones_like(inputs))
        )
        expected = read_by_decoder(reward, window, projected)
        assert log_perplexity == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(("decoder", "encoder"), PAIRS)
@torch.inference_mode()
def test_1_everything_expanded_is_the_decoder_on_the_plain_tokens(decoder, encoder):
    reward, windows = reward_model(decoder, encoder), windows_of_every_shape()
    found = reward.log_perplexity(windows, np.ones((len(windows), L), dtype=bool))
    for window, log_perplexity in zip(windows, found, strict=True):
        context, prompt = window.context_tokens(), window.prompt_ids
        parts = [prompt, context] if window.prompt_position == "before" else [context, prompt]
        bos = reward.model.config.bos_token_id
        ids = torch.tensor([[bos, *np.concatenate([*parts, window.output_ids])]])
        scores = reward.model.decoder(ids).logits[0, :-1].float().log_softmax(-1)
        expected = -scores.gather(-1, ids[0, 1:, None])[-len(window.output_ids) :].mean().item()
        assert log_perplexity == pytest.approx(expected, abs=TOLERANCE)


def test_1_a_mixture_is_neither():
    reward, window = reward_model(), random_window(0)
    some = np.arange(L) % 2 == 0
    sets = np.stack([some, np.zeros_like(some), np.ones_like(some), ~some])
    assert len(set(reward.log_perplexity([window] * 4, sets))) == 4


@pytest.mark.parametrize("decoder", DECODERS + DECODERS_WITH_MORE_HEAD)
def test_2_the_reward_depends_on_no_companion_no_batch_size_and_no_order(decoder):
    windows = windows_of_every_shape() * 3
    rng = np.random.default_rng(0)
    sets = rng.random((len(windows), L)) < 0.5
    one_by_one = reward_model(decoder)
    alone = [
        one_by_one.log_perplexity([window], expanded[None])[0]
        for window, expanded in zip(windows, sets, strict=True)
    ]
    for batch_tokens in (1, 60, 200, 16384):
        order = rng.permutation(len(windows))
        reward = reward_model(decoder, batch_tokens=batch_tokens)
        found = reward.log_perplexity([windows[i] for i in order], sets[order])
        assert np.allclose(found, np.array(alone)[order], atol=TOLERANCE)


@pytest.mark.parametrize("decoder", DECODERS)
def test_2_padding_chunks_change_nothing(decoder):
    """A window with room for more chunks is the same window."""
    reward = reward_model(decoder)
    windows = [random_window(i, padding_chunks=2) for i in range(4)]
    sets = np.random.default_rng(0).random((4, L)) < 0.5
    shorter = [
        type(window)(
            **{
                **{name: getattr(window, name) for name in window.__slots__},
                "key": f"shorter {window.key}",
                "context_ids": window.context_ids[: L - 2],
                "chunk_mask": window.chunk_mask[: L - 2],
                "chunk_texts": window.chunk_texts[: L - 2],
            }
        )
        for window in windows
    ]
    expected = reward.log_perplexity(shorter, sets[:, : L - 2])
    assert np.allclose(reward.log_perplexity(windows, sets), expected, atol=TOLERANCE)
    assert np.allclose(
        reward.chunk_embeddings(windows)[:, : L - 2], reward.chunk_embeddings(shorter), atol=1e-5
    )


@pytest.mark.parametrize("encoder", ENCODERS)
def test_2_chunk_embeddings_depend_on_no_companion(encoder):
    windows = windows_of_every_shape()
    together = reward_model(encoder=encoder).chunk_embeddings(windows)
    for batch_tokens in (1, 33):
        reward = reward_model(encoder=encoder, batch_tokens=batch_tokens)
        apart = [reward.chunk_embeddings([window])[0] for window in windows]
        assert np.allclose(together, np.stack(apart), atol=1e-5)
