from dataclasses import replace

import numpy as np
import pytest
import torch

from refrag_rl.errors import UserError
from refrag_rl.lru_cache import LruCache
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from refrag_rl.reward import RewardModel
from tests.tiny_models import (
    CHUNK_SIZE,
    MULTI_BYTE_TEXT,
    byte_level_tokenizer,
    chunks_of_text,
    random_window,
    tiny_refrag,
    word_piece_tokenizer,
)

START = 1
L = 6


def tiny_reward(model=None, **options):
    model = tiny_refrag() if model is None else model
    return RewardModel(
        model, ChunkTokenizer(byte_level_tokenizer(), start_token_id=START), **options
    )


def random_sets(count, seed=0):
    return np.random.default_rng(seed).random((count, L)) < 0.4


def some_windows():
    return [
        random_window(0),
        random_window(1, padding_chunks=2),
        random_window(2, prompt_length=0),
        random_window(3, prompt_position="before"),
        random_window(4, output_length=3),
        random_window(5),
    ]


def test_a_window_without_output_is_an_error_that_names_it():
    reward, window = tiny_reward(), random_window(7, output_length=0)
    nothing = np.zeros((1, L), dtype=bool)
    for score in (
        lambda: reward.log_perplexity([window], nothing),
        lambda: reward.token_log_likelihood([window], nothing),
        lambda: reward.log_perplexity_of_last_tokens([window], 4),
    ):
        with pytest.raises(UserError, match=f"{window.key} has no output"):
            score()


def test_log_perplexity_is_the_mean_over_the_output_of_the_model_s_own_forward():
    reward, windows = tiny_reward(), some_windows()
    sets = random_sets(len(windows))
    found = reward.log_perplexity(windows, sets)
    assert found.dtype == np.float32
    for window, expanded, log_perplexity in zip(windows, sets, found, strict=True):
        context = torch.from_numpy(window.context_ids)[None]
        start = torch.full((1, L, 1), START)
        with torch.inference_mode():
            result = reward.model(
                context,
                torch.from_numpy(window.chunk_mask)[None],
                torch.from_numpy(expanded)[None],
                torch.from_numpy(window.prompt_ids)[None],
                torch.from_numpy(window.output_ids)[None],
                encoder_input_ids=torch.cat([start, context], -1),
                encoder_attention_mask=torch.ones(1, L, CHUNK_SIZE + 1),
                prompt_position=window.prompt_position,
            )
        assert log_perplexity == pytest.approx(result.loss.item(), abs=1e-4)


def test_token_log_likelihood_is_what_log_perplexity_is_the_mean_of():
    reward, windows = tiny_reward(), some_windows()
    sets = random_sets(len(windows))
    tokens = reward.token_log_likelihood(windows, sets)
    assert [len(row) for row in tokens] == [len(window.output_ids) for window in windows]
    means = [-row.mean() for row in tokens]
    assert np.allclose(reward.log_perplexity(windows, sets), means, atol=1e-6)


def test_a_set_is_scored_once_also_within_one_call():
    reward = tiny_reward()
    one, other = random_window(0), random_window(1)
    sets = random_sets(3)
    windows = [one, one, other, one]
    rows = np.stack([sets[0], sets[1], sets[0], sets[0]])
    first = reward.log_perplexity(windows, rows)
    assert reward.sets_scored == 3, "the last row repeats the first"
    assert first[0] == first[3] and first[0] != first[1] and first[0] != first[2]
    assert np.array_equal(reward.log_perplexity(windows[::-1], rows[::-1]), first[::-1])
    assert reward.sets_scored == 3
    reward.log_perplexity([one, one], sets[1:])
    assert reward.sets_scored == 4


def test_sets_that_differ_in_padding_chunks_alone_are_one_set():
    reward, window = tiny_reward(), random_window(0, padding_chunks=2)
    sets = np.zeros((2, L), dtype=bool)
    sets[1, -2:] = True
    log_perplexity = reward.log_perplexity([window, window], sets)
    assert log_perplexity[0] == log_perplexity[1]
    assert reward.sets_scored == 1


def test_a_small_cache_forgets_but_answers_rightly():
    large, small = tiny_reward(), tiny_reward(cache_windows=1, cache_sets=2)
    windows = [random_window(i) for i in range(5)]
    sets = random_sets(5)
    expected = large.log_perplexity(windows, sets)
    assert np.allclose(small.log_perplexity(windows, sets), expected, atol=1e-5)
    assert np.allclose(small.chunk_embeddings(windows), large.chunk_embeddings(windows), atol=1e-5)
    small.log_perplexity(windows[3:], sets[3:])
    assert small.sets_scored == 5, "the last two are still known"
    small.log_perplexity(windows[:1], sets[:1])
    assert small.sets_scored == 6


def test_clear_forgets_what_the_old_weights_said():
    reward, window = tiny_reward(), random_window(0)
    sets = random_sets(1)
    embeddings = reward.chunk_embeddings([window])
    before = reward.log_perplexity([window], sets)
    with torch.no_grad():
        for weight in reward.model.parameters():
            weight.mul_(1.1)
    assert reward.log_perplexity([window], sets) == before
    reward.clear()
    assert reward.log_perplexity([window], sets) != before
    assert not np.allclose(reward.chunk_embeddings([window]), embeddings)


def test_chunks_are_encoded_once_a_window(monkeypatch):
    reward, windows = tiny_reward(), some_windows()
    encoded = []
    encode = reward.model.encode_chunks
    monkeypatch.setattr(
        reward.model,
        "encode_chunks",
        lambda ids, mask: encoded.append(len(ids)) or encode(ids, mask),
    )
    reward.chunk_embeddings([*windows, windows[0]])
    reward.log_perplexity(windows, random_sets(len(windows)))
    reward.log_perplexity(windows, random_sets(len(windows), seed=1))
    assert sum(encoded) == sum(window.chunk_mask.sum() for window in windows)


def test_chunk_embeddings_are_zero_in_padding_chunks_alone():
    embeddings = tiny_reward().chunk_embeddings(some_windows())
    assert embeddings.shape == (6, L, 24) and embeddings.dtype == np.float32
    masks = np.stack([window.chunk_mask for window in some_windows()])
    assert np.array_equal(np.abs(embeddings).sum(-1) > 0, masks)


def test_a_prompt_embedding_is_the_mean_of_its_pieces_cut_from_the_end():
    reward = tiny_reward()
    window = random_window(0, prompt_length=CHUNK_SIZE + 1)
    pieces = [window.prompt_ids[:1], window.prompt_ids[1:]]
    with torch.inference_mode():
        expected = [
            reward.model.encode_chunks(ids[None], torch.ones(1, len(ids)))[0].numpy()
            for ids in (torch.tensor([START, *piece]) for piece in pieces)
        ]
    found = reward.prompt_embeddings([window, random_window(1, prompt_length=0)])
    assert np.allclose(found[0], np.mean(expected, 0), atol=1e-5)
    assert (found[1] == 0).all()


def test_chunk_log_perplexity_is_of_the_chunk_alone_behind_bos():
    reward, window = tiny_reward(), random_window(0, padding_chunks=1)
    (found,) = reward.chunk_log_perplexity([window])
    for index in range(L - 1):
        ids = torch.tensor([[reward.model.config.bos_token_id, *window.context_ids[index]]])
        with torch.inference_mode():
            expected = reward.model.decoder(ids, labels=ids).loss.item()
        assert found[index] == pytest.approx(expected, abs=1e-4)
    assert found[-1] == 0


@pytest.mark.parametrize("position", ["after", "before"])
@pytest.mark.parametrize("tokens", [0, 3, CHUNK_SIZE * 4, 1000])
def test_last_tokens_are_read_by_the_plain_decoder(tokens, position):
    reward = tiny_reward()
    windows = [
        random_window(0, prompt_position=position),
        random_window(1, prompt_position=position, padding_chunks=2),
        random_window(2, prompt_position=position, prompt_length=0),
    ]
    found = reward.log_perplexity_of_last_tokens(windows, tokens)
    for window, log_perplexity in zip(windows, found, strict=True):
        context = window.context_tokens()
        context = context[len(context) - min(tokens, len(context)) :]
        parts = (
            [context, window.prompt_ids] if position == "after" else [window.prompt_ids, context]
        )
        ids = torch.tensor([[START, *np.concatenate([*parts, window.output_ids])]])
        with torch.inference_mode():
            scores = reward.model.decoder(ids).logits[0, :-1].log_softmax(-1)
        scores = scores.gather(-1, ids[0, 1:, None])[-len(window.output_ids) :]
        assert log_perplexity == pytest.approx(-scores.mean().item(), abs=1e-4)
    assert reward.sets_scored == 0


def test_bfloat16_is_close_and_keeps_the_weights():
    windows, sets = some_windows(), random_sets(6)
    exact = tiny_reward().log_perplexity(windows, sets)
    reward = tiny_reward(dtype="bfloat16")
    rough = reward.log_perplexity(windows, sets)
    assert np.allclose(rough, exact, atol=0.15) and not np.array_equal(rough, exact)
    assert {weight.dtype for weight in reward.model.parameters()} == {torch.float32}


@pytest.mark.slow
# PyTorch warns of its own code and of what it finds in that of transformers.
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_decoder_scores_alike_in_batches_of_all_sizes():
    windows, sets = some_windows(), random_sets(6)
    model = tiny_refrag()
    plain = tiny_reward(model, dtype="bfloat16").log_perplexity(windows, sets)
    compiled = tiny_reward(model, dtype="bfloat16", compile=True)
    assert np.allclose(compiled.log_perplexity(windows, sets), plain, atol=0.05)
    compiled.clear()
    one_by_one = [
        compiled.log_perplexity([window], row[None])[0]
        for window, row in zip(windows, sets, strict=True)
    ]
    assert np.allclose(one_by_one, plain, atol=0.05)
    # The decoder that others have is read as before.
    again = tiny_reward(model, dtype="bfloat16").log_perplexity(windows, sets)
    assert np.array_equal(again, plain)


def test_another_number_format_is_compiled_as_the_first_unless_told_otherwise(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "refrag_rl.modeling.scoring.ScoringHead.compiled", lambda head: asked.append(1) or head
    )
    reward, windows, sets = tiny_reward(compile=True), some_windows()[:1], random_sets(1)
    reward.with_dtype("float32", compile=False).log_perplexity(windows, sets)
    assert not asked
    reward.with_dtype("float32").log_perplexity(windows, sets)
    assert asked


def test_scoring_leaves_no_gradient_and_no_dropout():
    model = tiny_refrag()
    model.encoder.config.hidden_dropout_prob = model.decoder.config.attention_dropout = 0.5
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.train()
    windows, sets = some_windows(), random_sets(6)
    first, second = tiny_reward(model), tiny_reward(model)
    assert np.array_equal(first.log_perplexity(windows, sets), second.log_perplexity(windows, sets))
    assert np.array_equal(first.chunk_embeddings(windows), second.chunk_embeddings(windows))
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_an_encoder_with_a_tokenizer_of_its_own_reads_the_chunks_texts():
    decoder_tokenizer, encoder_tokenizer = byte_level_tokenizer(), word_piece_tokenizer()
    ids, texts = chunks_of_text(decoder_tokenizer, MULTI_BYTE_TEXT * 2, CHUNK_SIZE)
    window = replace(
        random_window(0), context_ids=ids[:L], chunk_texts=texts[:L], prompt_text="tea"
    )
    chunk_tokenizer = ChunkTokenizer(decoder_tokenizer, encoder_tokenizer, start_token_id=START)
    model = tiny_refrag(encoder="bert", shared_tokenizer=False)
    reward = RewardModel(model, chunk_tokenizer)
    (embeddings,) = reward.chunk_embeddings([window])
    for text, embedding in zip(texts[:L], embeddings, strict=True):
        inputs = encoder_tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            expected = model.encode_chunks(inputs["input_ids"], inputs["attention_mask"])
        assert np.allclose(embedding, expected[0], atol=1e-5)
    assert np.abs(reward.prompt_embeddings([window])).sum() > 0
    assert np.isfinite(reward.log_perplexity([window], random_sets(1))).all()


def test_time_in_the_decoder_is_counted():
    reward = tiny_reward()
    reward.chunk_embeddings(some_windows())
    assert reward.seconds == 0
    reward.log_perplexity(some_windows(), random_sets(6))
    assert reward.seconds > 0


def test_windows_of_another_chunk_size_are_refused():
    with pytest.raises(UserError, match="chunk_size=4"):
        tiny_reward().log_perplexity([random_window(0, chunk_size=5)], random_sets(1))


def test_a_sequence_longer_than_the_decoder_reads_is_refused():
    window = random_window(0, output_length=300)
    with pytest.raises(UserError, match="longer than the 256"):
        tiny_reward().log_perplexity([window], random_sets(1))


@pytest.mark.parametrize("options", [{"dtype": "float8"}, {"batch_tokens": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"choose|give"):
        tiny_reward(**options)


def test_the_cache_forgets_the_least_recently_used():
    cache: LruCache[int] = LruCache(2)
    asked: list[int] = []

    def square(items):
        asked.extend(items)
        return [item * item for item in items]

    for keys in ([1, 2], [1], [3], [1, 2]):
        assert cache.collect(keys, keys, square) == [key * key for key in keys]
    assert asked == [1, 2, 3, 2], "2 was forgotten for 3, since 1 had been used after it"


def test_reconstruction_loss_is_that_of_the_chunk_behind_its_own_embedding():
    reward, window = tiny_reward(), random_window(3, padding_chunks=2)
    (found,) = reward.chunk_reconstruction_loss([window])
    assert not found[-2:].any()
    for chunk in range(4):
        alone = random_window(3, num_chunks=1, prompt_length=0)
        given = replace(
            alone,
            key=f"chunk-{chunk}",
            context_ids=window.context_ids[chunk : chunk + 1],
            output_ids=window.context_ids[chunk],
        )
        expected = reward.log_perplexity([given], np.zeros((1, 1), dtype=bool))
        assert found[chunk] == pytest.approx(expected[0], abs=1e-4)
    assert not np.allclose(found[:4], reward.chunk_log_perplexity([window])[0][:4])


def test_projected_embeddings_are_what_the_decoder_reads():
    reward, window = tiny_reward(), random_window(3, padding_chunks=2)
    embeddings = torch.from_numpy(reward.chunk_embeddings([window]))
    with torch.no_grad():
        expected = reward.model.project(embeddings).numpy()
    projected = reward.projected_chunk_embeddings([window])
    assert projected.shape[-1] == reward.projected_size
    assert np.allclose(projected[:, :4], expected[:, :4], atol=1e-6)
    assert not projected[:, 4:].any()
    silent = random_window(3, prompt_length=0)
    assert not reward.projected_prompt_embeddings([silent]).any()


def test_a_fingerprint_follows_the_weights():
    reward, same = tiny_reward(), tiny_reward()
    assert reward.fingerprint == same.fingerprint
    with torch.no_grad():
        same.model.projector.down.bias += 1e-3
    assert reward.fingerprint != same.fingerprint


def test_a_window_of_many_sets_is_encoded_once_a_call():
    reward, windows = tiny_reward(), some_windows()
    encoded = []
    encode = reward.chunk_embeddings
    reward.chunk_embeddings = lambda asked: encoded.extend(w.key for w in asked) or encode(asked)
    many = [window for window in windows for _ in range(4)]
    reward.log_perplexity(many, random_sets(len(many)))
    assert sorted(encoded) == sorted(window.key for window in windows)
