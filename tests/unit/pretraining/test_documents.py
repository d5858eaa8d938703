"""Which documents pre-training reads: none of those that later comparisons hold out."""

import json
from pathlib import Path

import pytest

from refrag_rl.corpora.documents import Split, split_of
from refrag_rl.errors import UserError
from refrag_rl.pretraining.mixture import load_documents
from refrag_rl.pretraining.settings import DataSection, FilesSplit

IDS = [f"text {number}" for number in range(200)]


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"id": each, "text": "words"}) for each in IDS))
    return str(file)


def ids(data: DataSection, split: Split) -> list[str]:
    return [each.id for each in load_documents(data, split, in_memory_mb=1)]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_files_are_split_as_every_other_run_splits_them(path: str, split: Split) -> None:
    data = DataSection(docs=False, files=[path])
    found = ids(data, split)
    assert found == [each for each in IDS if split_of(each) == split]
    assert 0 < len(found) < len(IDS)


def test_all_of_the_files_are_read_on_request_alone(path: str) -> None:
    data = DataSection(docs=False, files=[path], files_split=FilesSplit.all)
    assert ids(data, "train") == IDS
    with pytest.raises(UserError, match="no validation documents"):
        ids(data, "validation")


@pytest.mark.parametrize("files_split", FilesSplit)
def test_files_to_validate_on_are_read_whole(path: str, files_split: FilesSplit) -> None:
    data = DataSection(docs=False, validation_files=[path], files_split=files_split)
    assert ids(data, "validation") == IDS


def test_files_without_a_training_document_are_an_error(tmp_path: Path) -> None:
    held_out = next(each for each in IDS if split_of(each) == "test")
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"id": held_out, "text": "words"}))
    with pytest.raises(UserError, match=r"data\.files_split=all"):
        ids(DataSection(docs=False, files=[str(file)]), "train")


def test_rows_with_other_fields(tmp_path: Path) -> None:
    file = tmp_path / "pages.jsonl"
    file.write_text("\n".join(json.dumps({"url": each, "body": "words"}) for each in IDS))
    data = DataSection(docs=False, files=[str(file)], text_field="body", id_field="url")
    assert ids(data, "train") == [each for each in IDS if split_of(each) == "train"]
    with pytest.raises(UserError, match=r"Fields: url, body\. Choose .* data\.text_field="):
        ids(DataSection(docs=False, files=[str(file)]), "train")
