"""The model that a pre-training starts from: what fits together is made, what does not is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from refrag_rl import atomic
from refrag_rl.corpora.documents import Document
from refrag_rl.errors import UserError
from refrag_rl.modeling.checkpoint import save_refrag
from refrag_rl.pretraining.assembly import build_model, decoder_tokenizer
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.settings import ModelSection, PretrainConfig, TokenizerSection
from tests.stage_runs import small_batches
from tests.tiny_models import (
    CHUNK_SIZE,
    MULTI_BYTE_TEXT,
    VOCABULARY,
    byte_level_tokenizer,
    save_tiny_pair,
    tiny_decoder,
    tiny_encoder,
    word_piece_tokenizer,
)

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
DECODER = {"model_type": "llama", **SMALL, "max_position_embeddings": 128}
ENCODER = {"model_type": "roberta", **SMALL, "max_position_embeddings": 40}


def section(**options: Any) -> ModelSection:
    """Return a model from scratch."""
    given = {
        "chunk_size": CHUNK_SIZE,
        "encoder_pooling": "mean",
        "induction_start": False,
        "chunk_reading_start": False,
        "embedding_scale": 0.1,
        "decoder": DECODER,
        "encoder": ENCODER,
    }
    return ModelSection(**{**given, **options})


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, Path]:
    """Save an encoder and a decoder, each with the same tokenizer."""
    encoder, decoder = save_tiny_pair(tmp_path, "llama", "roberta")
    for folder in (encoder, decoder):
        byte_level_tokenizer().save_pretrained(folder)
    return {"encoder": encoder, "decoder": decoder}


def without_padding() -> PreTrainedTokenizerFast:
    tokenizer = byte_level_tokenizer()
    tokenizer.pad_token = None
    return tokenizer


def with_padding_at_the_end() -> PreTrainedTokenizerFast:
    tokenizer = without_padding()
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id > ENCODER["max_position_embeddings"]
    return tokenizer


@pytest.mark.parametrize("make", [without_padding, with_padding_at_the_end])
def test_an_encoder_from_scratch_reads_chunks_whatever_the_padding(
    make: Callable[[], PreTrainedTokenizerFast],
) -> None:
    refrag = build_model(section(), make())
    batches = small_batches()
    batch = next(b for step in range(20) if (b := batches(step, 0.0)).name == "reconstruction-4")
    mixed_loss(refrag.model, batch, refrag.chunk_tokenizer).backward()
    embeddings: Any = refrag.model.encoder.get_input_embeddings()
    read = batch.context_ids.unique()
    assert (embeddings.weight.grad[read].abs().amax(1) > 0).all()
    first = torch.zeros(1, 1 + CHUNK_SIZE, dtype=torch.int64)
    embeddings.weight.grad = None
    refrag.model.encode_chunks(first, torch.ones_like(first)).square().sum().backward()
    assert embeddings.weight.grad[0].abs().max() > 0


def test_a_small_padding_token_is_the_encoders(pair: dict[str, Path]) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.pad_token = "</s>"
    assert build_model(section(), tokenizer).model.encoder.config.pad_token_id == 2


def test_a_tokenizer_of_more_tokens_than_the_decoder_knows_is_refused(
    pair: dict[str, Path],
) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(100)])
    given = section(decoder=str(pair["decoder"]), encoder=str(pair["encoder"]))
    with pytest.raises(UserError, match="the decoder knows 320"):
        build_model(given, tokenizer)


def test_a_tokenizer_of_more_tokens_than_the_encoder_knows_is_refused(
    pair: dict[str, Path],
) -> None:
    tokenizer = word_piece_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(320)])
    tokenizer.save_pretrained(pair["encoder"])
    given = section(decoder=str(pair["decoder"]), encoder=str(pair["encoder"]))
    with pytest.raises(UserError, match="the encoder knows 320"):
        build_model(given, byte_level_tokenizer())


def test_what_reads_the_ids_of_a_decoder_with_a_padded_table_has_its_rows(
    pair: dict[str, Path], tmp_path: Path
) -> None:
    padded = tiny_decoder("llama")
    padded.resize_token_embeddings(VOCABULARY + 32)
    padded.save_pretrained(tmp_path / "padded")
    tokenizer = byte_level_tokenizer()
    new = build_model(section(decoder=str(tmp_path / "padded")), tokenizer).model
    assert new.config.shared_tokenizer
    assert new.encoder.config.vocab_size == VOCABULARY + 32
    given = section(decoder=str(tmp_path / "padded"), encoder=str(pair["encoder"]))
    assert not build_model(given, tokenizer).model.config.shared_tokenizer


def test_tokenizers_with_other_added_tokens_cut_text_in_other_ways(pair: dict[str, Path]) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.add_tokens(["  "])
    own = tiny_encoder("roberta")
    own.resize_token_embeddings(len(tokenizer))
    own.save_pretrained(pair["encoder"])
    tokenizer.save_pretrained(pair["encoder"])
    given = section(decoder=str(pair["decoder"]), encoder=str(pair["encoder"]))
    assert not build_model(given, byte_level_tokenizer()).model.config.shared_tokenizer


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transformers_weights", "adapter_model.bin"),
        ("attn_implementation", "kernels-community/flash-attn"),
    ],
)
def test_a_part_that_leads_to_other_weights_or_to_code_is_refused(
    pair: dict[str, Path], part: str, key: str, value: str
) -> None:
    path = pair[part] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    given = section(decoder=str(pair["decoder"]), encoder=str(pair["encoder"]))
    with pytest.raises(UserError, match=rf"model\.{part}: .*cannot be loaded: its config.json"):
        build_model(given, byte_level_tokenizer())


def test_an_index_that_leads_out_of_the_folder_is_refused(pair: dict[str, Path]) -> None:
    folder = pair["encoder"]
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    index = {"metadata": {}, "weight_map": {"weight": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    given = section(decoder=str(pair["decoder"]), encoder=str(folder))
    with pytest.raises(UserError, match="leads out of the folder"):
        build_model(given, byte_level_tokenizer())


def test_parts_are_found_in_the_home_folder(
    pair: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(pair["encoder"].parent))
    given = section(decoder="~/decoder", encoder="~/encoder")
    assert build_model(given, byte_level_tokenizer()).model.config.shared_tokenizer


def test_a_pair_with_one_tokenizer_shares_it_and_another_does_not(pair: dict[str, Path]) -> None:
    given = section(decoder=str(pair["decoder"]), encoder=str(pair["encoder"]))
    assert build_model(given, byte_level_tokenizer()).model.config.shared_tokenizer
    word_piece_tokenizer().save_pretrained(pair["encoder"])
    apart = build_model(given, byte_level_tokenizer())
    assert not apart.model.config.shared_tokenizer
    assert not apart.chunk_tokenizer.is_shared


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"chunk_reading_start": True}, "needs model.induction_start=true"),
        ({"induction_start": True, "decoder": "folder"}, "model.decoder=folder has weights"),
        (
            {"induction_start": True, "chunk_reading_start": True, "encoder": "folder"},
            "model.encoder=folder has weights",
        ),
    ],
)
def test_first_weights_are_written_where_there_are_none(
    options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        build_model(section(**options), byte_level_tokenizer())
    assert len(str(caught.value).splitlines()) <= 2


def test_a_checkpoint_is_gone_on_from_with_its_own_pooling(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    save_refrag(tmp_path / "mean", build_model(section(), tokenizer))
    given = {"refrag": str(tmp_path / "mean")}
    assert build_model(section(**given), tokenizer).model.config.encoder_pooling == "mean"
    with pytest.raises(UserError, match=r"Give model\.encoder_pooling=mean"):
        build_model(section(**given, encoder_pooling="first"), tokenizer)


def config() -> PretrainConfig:
    tokenizer = TokenizerSection(vocabulary_size=300, share=1.0)
    return PretrainConfig(model=section(), tokenizer=tokenizer, seed=0)


DOCUMENTS = [Document("d", "x", MULTI_BYTE_TEXT)]


def test_a_tokenizer_that_was_not_wholly_written_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(path: Path) -> None:
        raise Killed

    folder = tmp_path / "tokenizer"
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "sync", kill)
        with pytest.raises(Killed):
            decoder_tokenizer(config(), DOCUMENTS, folder)
    assert not folder.exists()
    trained = decoder_tokenizer(config(), DOCUMENTS, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]
    found = decoder_tokenizer(config(), [], folder)
    assert found(MULTI_BYTE_TEXT).input_ids == trained(MULTI_BYTE_TEXT).input_ids


def test_a_damaged_tokenizer_of_the_run_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    decoder_tokenizer(config(), DOCUMENTS, folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="tokenizer of this run cannot be read") as caught:
        decoder_tokenizer(config(), DOCUMENTS, folder)
    assert len(str(caught.value).splitlines()) <= 2
