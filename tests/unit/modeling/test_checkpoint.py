import json

import pytest
import torch

from refrag_rl.errors import UserError
from refrag_rl.modeling import checkpoint
from refrag_rl.modeling.checkpoint import (
    LoadedRefrag,
    embedded_checkpoints,
    load_refrag,
    save_refrag,
)
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer
from tests.tiny_models import (
    CHUNK_SIZE,
    MULTI_BYTE_TEXT,
    byte_level_tokenizer,
    tiny_encoder,
    tiny_refrag,
    word_piece_tokenizer,
)


def tiny_loaded(shared=True):
    tokenizer = byte_level_tokenizer()
    model = tiny_refrag(shared_tokenizer=shared)
    encoder_tokenizer = None if shared else word_piece_tokenizer()
    chunk_tokenizer = ChunkTokenizer(tokenizer, encoder_tokenizer, start_token_id=1)
    return LoadedRefrag(model, tokenizer, chunk_tokenizer)


@pytest.fixture
def folder(tmp_path):
    save_refrag(tmp_path / "refrag", tiny_loaded(), card="# A tiny model\n")
    return tmp_path / "refrag"


@pytest.mark.parametrize("shared", [True, False])
def test_a_saved_folder_loads_as_it_was(tmp_path, shared):
    saved = tiny_loaded(shared)
    save_refrag(tmp_path, saved, card="# A tiny model\n")
    loaded = load_refrag(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# A tiny model\n"
    assert not loaded.model.training
    assert loaded.chunk_tokenizer.is_shared == shared
    for name, weight in saved.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)
    assert loaded.tokenizer(MULTI_BYTE_TEXT).input_ids == saved.tokenizer(MULTI_BYTE_TEXT).input_ids
    if not shared:
        saved_tokenizer = saved.chunk_tokenizer.encoder_tokenizer
        encoder_tokenizer = loaded.chunk_tokenizer.encoder_tokenizer
        assert encoder_tokenizer is not None and saved_tokenizer is not None
        text = MULTI_BYTE_TEXT
        assert encoder_tokenizer(text).input_ids == saved_tokenizer(text).input_ids


def test_weights_are_read_in_the_type_asked_for(tmp_path):
    loaded = tiny_loaded()
    loaded.model.to(dtype=torch.bfloat16)
    save_refrag(tmp_path, loaded)
    assert {weight.dtype for weight in load_refrag(tmp_path).model.parameters()} == {torch.float32}
    as_saved = load_refrag(tmp_path, dtype=torch.bfloat16).model
    assert {weight.dtype for weight in as_saved.parameters()} == {torch.bfloat16}


def test_a_bare_name_is_an_embedded_checkpoint(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "ASSETS", folder.parent)
    assert embedded_checkpoints() == ["refrag"]
    monkeypatch.chdir(folder)
    assert load_refrag("refrag").model.config.chunk_size == CHUNK_SIZE


def assert_refused(path, reason):
    with pytest.raises(UserError, match=reason) as caught:
        load_refrag(path)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    assert str(path) in message
    assert all(name in message for name in embedded_checkpoints()), "it lists what is allowed"


@pytest.fixture(autouse=True)
def _embedded(tmp_path, monkeypatch):
    """Let the package hold one checkpoint of a known name."""
    (tmp_path / "assets" / "known-name").mkdir(parents=True)
    (tmp_path / "assets" / "known-name" / "config.json").write_text("{}")
    monkeypatch.setattr(checkpoint, "ASSETS", tmp_path / "assets")


def test_a_missing_folder_is_refused(tmp_path):
    assert_refused(tmp_path / "nowhere", "does not exist")
    assert_refused("no-such-name", "known-name")


def test_a_file_is_refused(folder):
    assert_refused(folder / "config.json", "is a file")


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", r"no config\.json")


@pytest.mark.parametrize("text", ["{", "\x00", "[]"])
def test_a_damaged_configuration_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    assert_refused(folder, r"config\.json is")


def test_another_kind_of_model_is_refused(tmp_path):
    tiny_encoder("bert").save_pretrained(tmp_path / "bert")
    assert_refused(tmp_path / "bert", "model_type 'bert'")


def test_missing_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    assert_refused(folder, r"no model\.safetensors")


@pytest.mark.parametrize("size", [0, 5, 5000])
def test_truncated_weights_are_refused(folder, size):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    assert_refused(folder, "cannot be read")


def test_weights_of_another_shape_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["projector_hidden_size"] = 11
    (folder / "config.json").write_text(json.dumps(config))
    assert_refused(folder, "cannot be read")


def test_weights_that_lack_a_part_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["encoder"]["num_hidden_layers"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    assert_refused(folder, "weights are missing")


def test_a_missing_tokenizer_is_refused(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert_refused(folder, r"no tokenizer\.json")


def test_a_damaged_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").write_text("{")
    assert_refused(folder, r"tokenizer\.json cannot be read")


def test_a_missing_encoder_tokenizer_is_refused(tmp_path):
    save_refrag(tmp_path / "refrag", tiny_loaded(shared=False))
    for file in (tmp_path / "refrag" / "encoder_tokenizer").iterdir():
        file.unlink()
    assert_refused(tmp_path / "refrag", r"no encoder_tokenizer/tokenizer\.json")


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_a_tokenizer_of_more_tokens_than_its_model_knows_is_refused(tmp_path, part):
    saved = tiny_loaded(shared=False)
    tokenizer = saved.tokenizer if part == "decoder" else saved.chunk_tokenizer.encoder_tokenizer
    tokenizer.add_tokens([f"<{number}>" for number in range(320)])
    save_refrag(tmp_path, saved)
    assert_refused(tmp_path, f"the {part} knows 320")
