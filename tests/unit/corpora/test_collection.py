"""A corpus in a temporary file is the corpus in memory, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from refrag_rl.corpora import mapped, retrieval
from refrag_rl.corpora.collection import StoredDocuments, collect, select_split
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.retrieval import PassageIndex
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import Window
from refrag_rl.errors import FullDiskError, UserError
from tests.unit.corpora.conftest import make_documents
from tests.unit.corpora.test_windows import make


def stored(documents: Sequence[Document]) -> StoredDocuments:
    kept = collect(documents, 0)
    assert isinstance(kept, StoredDocuments)
    return kept


def require_equal(found: Window, expected: Window) -> None:
    for name in Window.__dataclass_fields__:
        mine, theirs = getattr(found, name), getattr(expected, name)
        same = np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else mine == theirs
        assert same, name


@pytest.mark.parametrize("release_bytes", [mapped._RELEASE_BYTES, 0])
@pytest.mark.parametrize("kind", ["contiguous", "recall", "strong", "weak"])
def test_windows_are_those_of_the_corpus_in_memory(
    kind: str,
    release_bytes: int,
    corpus: TokenizedCorpus,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Many batches, and pages that are given back while they are in use.
    monkeypatch.setattr(mapped, "_BATCH_BYTES", 5000)
    monkeypatch.setattr(mapped, "_RELEASE_BYTES", release_bytes)
    on_disk = TokenizedCorpus(stored(make_documents()), tokenizer)
    keys = {"retriever": kind, "pool": 12} if kind in ("strong", "weak") else {}
    name = "retrieved" if keys else kind
    for domain in (None, *corpus.domains):
        here, there = (
            make(name, each if domain is None else each.of_domain(domain), **keys)
            for each in (corpus, on_disk)
        )
        for index in range(20):
            require_equal(there[index], here[index])


def test_a_corpus_has_the_same_documents_wherever_it_lies(
    corpus: TokenizedCorpus, tokenizer: PreTrainedTokenizerFast
) -> None:
    documents = [*make_documents(), Document("empty", "third", "")]
    kept = stored(documents)
    assert list(kept) == documents and list(kept[3:5]) == documents[3:5]
    for split in ("train", "validation", "test", "all"):
        assert list(select_split(kept, split)) == list(select_split(documents, split))
    on_disk = TokenizedCorpus(kept, tokenizer)
    assert on_disk.domains == ("left", "right", "third")
    assert on_disk.lengths.tolist() == [*corpus.lengths.tolist(), 0]
    assert on_disk.num_tokens == corpus.num_tokens
    assert [each.text for each in on_disk.of_domains(["third", "right"])] == [
        each.text for each in documents if each.domain != "left"
    ]


def test_documents_stay_in_memory_up_to_the_limit() -> None:
    documents = make_documents(4)
    size = sum(len(each.text) for each in documents) / 2**20
    assert isinstance(collect(iter(documents), 9 * size), list)
    assert isinstance(collect(iter(documents), size / 2), StoredDocuments)


def test_no_file_is_left_also_where_reading_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def broken() -> Iterator[Document]:
        yield from make_documents(2)
        raise UserError("line 3: this is not JSON")

    kept = stored(make_documents(2))
    assert kept[1] == make_documents(2)[1]
    # A file without a name cannot be left behind, however the process ends.
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="line 3"):
        collect(broken(), 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_temporary_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w+b", 0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        with pytest.raises(FullDiskError, match=r"(?s)temporary folder .* TMPDIR"):
            collect(make_documents(2), 0)


@pytest.mark.parametrize("limit", [-1, "much", None, True, float("nan")])
def test_a_limit_that_is_none_is_refused(limit: object) -> None:
    with pytest.raises(UserError, match="in_memory_mb"):
        collect([], limit)


def test_an_index_of_a_large_corpus_holds_a_part_of_it_and_says_so(
    corpus: TokenizedCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PassageIndex(corpus, 16)
    limit = len(whole) // 3
    monkeypatch.setattr(retrieval, "LARGEST", limit * 16 + 5)
    parts = []
    for _ in range(2):
        with pytest.warns(UserWarning, match=f"searches {limit} of {len(whole)} passages"):
            parts.append(PassageIndex(corpus, 16))
    assert len(parts[0]) == limit
    passages = [[part.passage(number) for number in range(limit)] for part in parts]
    places = [[(each.document.id, each.start) for each in found] for found in passages]
    assert places[0] == places[1] and len(set(places[0])) == limit
    span = parts[0].passage(limit // 2)
    assert (span, True) in [(found, score > 0) for found, score in parts[0].search(span.ids(), 3)]
