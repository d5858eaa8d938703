"""Splits go by document id and by nothing else."""

from collections import Counter

from refrag_rl.corpora.collection import select_split
from refrag_rl.corpora.documents import Document, split_of


def test_split_of_a_document_is_fixed_across_versions() -> None:
    assert [split_of(f"docs/module-{number}") for number in (0, 1, 12, 22)] == [
        split_of(f"docs/module-{number}") for number in (0, 1, 12, 22)
    ]
    assert split_of("a") == "train"


def test_splits_part_the_corpus_and_hold_about_their_shares() -> None:
    documents = [Document(f"d{number}", "x", "text") for number in range(4000)]
    parts = {name: select_split(documents, name) for name in ("train", "validation", "test")}
    ids = [document.id for part in parts.values() for document in part]
    assert sorted(ids) == sorted(document.id for document in documents)
    shares = {name: len(part) / len(documents) for name, part in parts.items()}
    assert abs(shares["validation"] - 0.05) < 0.012
    assert abs(shares["test"] - 0.05) < 0.012


def test_all_keeps_every_document_in_order() -> None:
    documents = [Document(f"d{number}", "x", "text") for number in range(50)]
    assert select_split(documents, "all") == documents


def test_split_does_not_depend_on_other_documents() -> None:
    documents = [Document(f"d{number}", "x", "text") for number in range(200)]
    whole = {document.id for document in select_split(documents, "test")}
    half = {document.id for document in select_split(documents[::2], "test")}
    assert half == whole & {document.id for document in documents[::2]}
    assert Counter(split_of(document.id) for document in documents)["train"] > 150
