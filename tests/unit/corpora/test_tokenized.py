"""Tokens and characters: consecutive token ranges part the text, without loss or repetition."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from refrag_rl.corpora import tokenized
from refrag_rl.corpora.cutting import pieces_of
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.tokenized import TokenizedCorpus


def test_tokens_decode_to_the_text(corpus: TokenizedCorpus) -> None:
    for document in corpus:
        assert corpus.tokenizer.decode(document.token_ids) == document.text


def test_chunks_part_the_text(corpus: TokenizedCorpus) -> None:
    for document in corpus:
        for size in (1, 3, 16):
            cuts = [*range(0, len(document), size), len(document)]
            texts = [document.text_of(a, b) for a, b in pairwise(cuts)]
            assert "".join(texts) == document.text


def test_text_of_whole_characters_is_what_the_tokens_decode_to(corpus: TokenizedCorpus) -> None:
    document = corpus[0]
    agreeing = 0
    for start in range(0, len(document) - 16, 16):
        decoded = corpus.tokenizer.decode(document.token_ids[start : start + 16])
        if "\ufffd" not in decoded:
            agreeing += 1
            assert document.text_of(start, start + 16) == decoded
    assert agreeing > 20


@given(text=st.text(max_size=400), cuts=st.lists(st.integers(0, 500), max_size=6))
def test_any_text_is_parted(tokenizer: PreTrainedTokenizerFast, text: str, cuts: list[int]) -> None:
    (document,) = TokenizedCorpus([Document("d", "x", text)], tokenizer)
    places = sorted({0, len(document), *(cut % (len(document) + 1) for cut in cuts)})
    parts = [document.text_of(a, b) for a, b in pairwise(places)]
    assert "".join(parts) == text


def test_long_document_is_tokenized_in_pieces_without_loss(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    text = (
        "".join(f"line {number} 東京 {'x' * (number % 90)}\n" for number in range(900)) + "y" * 9000
    )
    (document,) = TokenizedCorpus([Document("d", "x", text)], tokenizer)
    assert tokenizer.decode(document.token_ids) == text
    middle = len(document) // 2
    assert document.text_of(0, middle) + document.text_of(middle, len(document)) == text


@pytest.mark.parametrize("prefixing", ["metaspace", "prepend"])
def test_a_tokenizer_that_puts_a_space_before_a_text_puts_it_before_no_piece(
    prefixing: str,
) -> None:
    """As those of Llama 2 do."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    if prefixing == "metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
    else:
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        backend.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    text = "".join(f"line {number} of many\n" for number in range(900))
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    backend.train_from_iterator([text], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    (document,) = TokenizedCorpus([Document("d", "x", text)], tokenizer)
    assert len(pieces_of(text)) > 3
    assert tokenizer.decode(document.token_ids) == text
    cuts = [*range(0, len(document), 7), len(document)]
    assert "".join(document.text_of(a, b) for a, b in pairwise(cuts)) == text


def test_long_documents_are_tokenized_a_few_at_a_time(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenized, "_CHARACTERS_AT_ONCE", 1000)
    documents = [Document(str(number), "x", "words " * 300) for number in range(6)]
    read: list[str] = []

    def one_by_one() -> Iterator[Document]:
        for document in documents:
            read.append(document.id)
            yield document

    for done, (document, _) in enumerate(tokenized._tokenize(one_by_one(), tokenizer), start=1):
        assert document is documents[done - 1]
        assert len(read) == done


def test_a_tokenizer_saved_with_truncation_and_padding_loses_and_adds_nothing(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    documents = [Document("long", "x", "many words " * 900), Document("short", "x", "few words")]
    plain = [document.token_ids.tolist() for document in TokenizedCorpus(documents, tokenizer)]
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    backend = Tokenizer.from_file(str(path))
    backend.enable_truncation(16)
    backend.enable_padding(length=16)
    backend.save(str(path))
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.backend_tokenizer.truncation is not None
    corpus = TokenizedCorpus(documents, saved)
    assert [document.token_ids.tolist() for document in corpus] == plain
    saved("words", truncation=True, padding="max_length", max_length=2)
    assert corpus[0].text_of(0, len(corpus[0])) == documents[0].text
    assert corpus[0].text_of(7, 9) == TokenizedCorpus(documents, tokenizer)[0].text_of(7, 9)


def test_domains_part_the_corpus(corpus: TokenizedCorpus) -> None:
    assert corpus.domains == ("left", "right")
    left, right = corpus.of_domain("left"), corpus.of_domain("right")
    assert len(left) + len(right) == len(corpus)
    assert left.num_tokens + right.num_tokens == corpus.num_tokens
    assert np.array_equal(left[0].token_ids, corpus[0].token_ids)
