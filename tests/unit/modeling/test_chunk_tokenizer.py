import numpy as np
import pytest

from refrag_rl.errors import UserError
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer, Piece
from tests.tiny_models import (
    MULTI_BYTE_TEXT,
    byte_level_tokenizer,
    chunks_of_text,
    word_piece_tokenizer,
)

START = 1


def rows(inputs):
    return [
        ids[: mask.sum()].tolist()
        for ids, mask in zip(inputs.input_ids, inputs.attention_mask, strict=True)
    ]


def test_a_shared_tokenizer_reads_the_ids_themselves():
    chunks = ChunkTokenizer(byte_level_tokenizer(), start_token_id=START)
    pieces = [Piece(np.array([5, 6, 7]), ""), Piece(np.array([8]), "")]
    inputs = chunks.encode(pieces)
    assert rows(inputs) == [[START, 5, 6, 7], [START, 8]]
    assert inputs.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 16])
def test_chunk_boundaries_do_not_drift_between_tokenizers(chunk_size):
    decoder_tokenizer, encoder_tokenizer = byte_level_tokenizer(), word_piece_tokenizer()
    ids, texts = chunks_of_text(decoder_tokenizer, MULTI_BYTE_TEXT * 3, chunk_size)
    chunks = ChunkTokenizer(decoder_tokenizer, encoder_tokenizer, start_token_id=START)
    found = rows(chunks.encode([Piece(*piece) for piece in zip(ids, texts, strict=True)]))
    assert (MULTI_BYTE_TEXT * 3).startswith("".join(texts)), "a character is lost or doubled"
    assert found == [encoder_tokenizer(text)["input_ids"] for text in texts]
    # Decoding would not have kept them: some chunk ends inside a character.
    decoded = [decoder_tokenizer.decode(row) for row in ids]
    if chunk_size < 16:
        assert any("\ufffd" in text for text in decoded)
    assert not any("\ufffd" in text for text in texts)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("length", [1, 4, 5, 8, 11])
def test_a_prompt_is_cut_from_its_end(shared, length):
    tokenizer = byte_level_tokenizer()
    chunks = ChunkTokenizer(
        tokenizer, None if shared else word_piece_tokenizer(), start_token_id=START
    )
    text = "".join("tea, they say "[i % 14] for i in range(length))
    ids = np.array(tokenizer(text, add_special_tokens=False)["input_ids"])
    pieces = chunks.cut_prompt(ids, text, 4)
    if shared:
        assert np.concatenate([piece.ids for piece in pieces]).tolist() == ids.tolist()
        assert [len(piece.ids) for piece in pieces][1:] == [4] * (len(pieces) - 1)
        assert 1 <= len(pieces[0].ids) <= 4
    else:
        assert "".join(piece.text for piece in pieces) == text
    assert len(pieces) == -(-len(ids) // 4)


def test_no_prompt_has_no_pieces():
    chunks = ChunkTokenizer(byte_level_tokenizer(), start_token_id=START)
    assert chunks.cut_prompt(np.zeros(0, dtype=np.int64), "", 4) == []
    assert chunks.encode([]).input_ids.shape == (0, 0)


def test_a_prompt_of_multi_byte_characters_loses_none():
    chunks = ChunkTokenizer(byte_level_tokenizer(), word_piece_tokenizer(), start_token_id=START)
    pieces = chunks.cut_prompt(np.arange(9), MULTI_BYTE_TEXT, 3)
    assert "".join(piece.text for piece in pieces) == MULTI_BYTE_TEXT


def test_a_chunk_longer_than_the_encoder_reads_is_cut_at_its_end():
    encoder_tokenizer = word_piece_tokenizer()
    chunks = ChunkTokenizer(
        byte_level_tokenizer(), encoder_tokenizer, start_token_id=START, max_tokens=6
    )
    (row,) = rows(chunks.encode([Piece(np.zeros(0, dtype=np.int64), MULTI_BYTE_TEXT)]))
    whole = encoder_tokenizer(MULTI_BYTE_TEXT)["input_ids"]
    assert row == [*whole[:5], encoder_tokenizer.sep_token_id]


def test_a_chunk_without_text_is_still_a_row():
    for encoder_tokenizer in (word_piece_tokenizer(), byte_level_tokenizer()):
        chunks = ChunkTokenizer(byte_level_tokenizer(), encoder_tokenizer, start_token_id=START)
        inputs = chunks.encode([Piece(np.array([200]), ""), Piece(np.array([5]), "tea")])
        assert inputs.attention_mask.sum(1).min() >= 1


def test_a_decoder_tokenizer_without_offsets_is_refused():
    slow = byte_level_tokenizer()
    type_without_offsets = type("Slow", (), {"is_fast": False})
    with pytest.raises(UserError, match="fast tokenizer"):
        ChunkTokenizer(type_without_offsets(), slow, start_token_id=START)
