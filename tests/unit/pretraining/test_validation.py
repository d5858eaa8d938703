"""Held-out windows are cut for every chunk size, document length and decoder, or said to be not."""

from __future__ import annotations

import pytest
import torch

from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.pretraining.batch import Batch, positions
from refrag_rl.pretraining.validation import Validation
from tests.tiny_models import byte_level_tokenizer


def corpus(**lengths: int) -> TokenizedCorpus:
    """Return a corpus of one document of each domain, of at least so many tokens."""
    texts = {domain: " ".join(map(str, range(tokens))) for domain, tokens in lengths.items()}
    documents = [Document(domain, domain, text) for domain, text in texts.items()]
    return TokenizedCorpus(documents, byte_level_tokenizer())


def read_by(validation: Validation, *, with_chunks: bool = True) -> tuple[list[str], list[Batch]]:
    """Return the names of the figures and what was read for them."""
    read: list[Batch] = []

    def loss(batch: Batch) -> torch.Tensor:
        read.append(batch)
        return torch.tensor(1.0)

    return list(validation(loss, with_chunks=with_chunks)), read


@pytest.mark.parametrize(
    ("chunk_size", "context_length"),
    [(8, 512), (16, 512), (32, 512), (64, 512), (12, 504), (48, 480), (100, 500), (128, 512)],
)
def test_every_chunk_size_has_its_context(chunk_size: int, context_length: int) -> None:
    validation = Validation(corpus(docs=3000), chunk_size=chunk_size, count=2)
    names, read = read_by(validation)
    assert validation.left_out == []
    assert validation.context_length == context_length
    kinds = {name.partition("/")[0] for name in names}
    assert kinds == {
        "contiguous-docs",
        "recall-docs",
        "retrieved-docs",
        "reconstruction-1",
        "reconstruction-8",
    }
    assert all(batch.context_ids.shape[2] == chunk_size for batch in read)


def test_domains_without_a_document_that_is_long_enough_are_left_out() -> None:
    validation = Validation(corpus(long=3000, short=100), chunk_size=16, count=2)
    names, _ = read_by(validation)
    kinds = {name.partition("/")[0] for name in names}
    assert {"contiguous-long", "recall-long", "recall-short"} <= kinds
    assert "contiguous-short" not in kinds
    (line,) = validation.left_out
    assert line.startswith("contiguous-short (a window needs a document of 640 tokens")


@pytest.mark.parametrize("limit", [16, 100, 240, 400, 700])
def test_nothing_longer_than_the_decoder_reads_is_read(limit: int) -> None:
    validation = Validation(corpus(docs=3000), chunk_size=16, count=2, max_positions=limit)
    names, read = read_by(validation)
    assert all(positions(batch) <= limit * len(batch.output_ids) for batch in read)
    has_context = any(name.startswith("contiguous") for name in names)
    assert has_context == (limit > 200) == (validation.context_length > 0)
    assert bool(validation.left_out) == (limit < 200)
    assert ("reconstruction-8" in names) == (limit > 136)


def test_without_chunk_embeddings_none_are_read() -> None:
    validation = Validation(corpus(docs=3000), chunk_size=16, count=2)
    names, read = read_by(validation, with_chunks=False)
    assert {name.partition("/")[2] for name in names} == {"full", "no_context"}
    assert not any((batch.chunk_mask & ~batch.expanded).any() for batch in read)
