"""The hub corpus goes through ``datasets`` itself, here on a local data set."""

import json
from pathlib import Path

import pytest

from refrag_rl.corpora import hub
from refrag_rl.corpora.documents import split_of
from refrag_rl.errors import UserError


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    folder = tmp_path / "stories"
    folder.mkdir()
    rows = [{"name": f"s{n}", "text": f"story {n}"} for n in range(5)] + [
        {"name": "e", "text": " "}
    ]
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return str(folder)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_become_documents(dataset: str, streaming: bool) -> None:
    documents = list(hub.load(dataset, id_field="name", streaming=streaming))
    assert [d.text for d in documents] == [f"story {n}" for n in range(5)]
    assert documents[0].id.endswith("/s0")
    assert {d.domain for d in documents} == {"stories"}


@pytest.mark.parametrize("name", ["train.txt", "train.csv"])
@pytest.mark.parametrize("streaming", [False, True])
def test_fields_of_plain_files_are_known_before_they_are_streamed(
    tmp_path: Path, name: str, streaming: bool
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / name).write_text("text\na story\nanother\n")
    texts = [each.text for each in hub.load(str(tmp_path / "texts"), streaming=streaming)]
    assert texts[-2:] == ["a story", "another"]


def test_limit_bounds_the_rows(dataset: str) -> None:
    assert len(list(hub.load(dataset, limit=2))) == 2


@pytest.mark.parametrize("keys", [{"text_field": "body"}, {"dataset_split": "nosuch"}])
def test_wrong_field_or_split_is_said(dataset: str, keys: dict) -> None:
    with pytest.raises(UserError) as caught:
        list(hub.load(dataset, **keys))
    assert len(str(caught.value).splitlines()) <= 2


def test_missing_data_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="cannot be loaded"):
        list(hub.load(str(tmp_path / "nothing")))


def test_rows_without_a_name_or_of_one_name_are_told_apart(dataset: str) -> None:
    rows = [{"name": name, "text": "text"} for name in (None, None, "a", "a", "a#2")]
    (Path(dataset) / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    ids = [document.id for document in hub.load(dataset, id_field="name")]
    assert len(set(ids)) == 5
    own = [name.partition("/")[2] for name in ids]
    assert own[:3] == ["0", "1", "a"] and own[3].startswith("a#") and own[4].startswith("a#2")
    assert split_of(ids[3]) == split_of(ids[2])


def test_a_folder_s_documents_keep_their_names_however_it_is_written(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(dataset).parent)
    ways = (dataset, "stories", "./stories/", f"{dataset}/")
    found = [[document.id for document in hub.load(way, id_field="name")] for way in ways]
    assert all(ids == found[0] for ids in found)


@pytest.mark.parametrize("keys", [{"domain": 3}, {"streaming": "yes"}, {"limit": True}])
def test_wrong_types_are_said(dataset: str, keys: dict) -> None:
    with pytest.raises(UserError, match=f"corpus.{next(iter(keys))}"):
        list(hub.load(dataset, **keys))
