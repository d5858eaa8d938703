"""The files corpus: what it reads, and what it says about what it cannot read."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refrag_rl.corpora import files
from refrag_rl.corpora.documents import split_of
from refrag_rl.errors import UserError

ROWS = [{"id": "a", "domain": "x", "text": "one"}, {"id": "b", "domain": "y", "text": "two é"}]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    text = "\n".join(json.dumps(row) for row in rows)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_all_formats_give_the_same_documents(tmp_path: Path) -> None:
    plain = write_jsonl(tmp_path / "r.jsonl", ROWS)
    packed = write_jsonl(tmp_path / "r.jsonl.gz", ROWS)
    parquet = tmp_path / "r.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), parquet)
    expected = [("a", "x", "one"), ("b", "y", "two é")]
    for path in (plain, packed, parquet):
        assert [(d.id, d.domain, d.text) for d in files.load(path)] == expected


def test_text_file_is_one_document_of_the_domain_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("Call me Ishmael.")
    (document,) = files.load(str(tmp_path / "novel.txt"))
    assert (document.id, document.domain, document.text) == (
        "novel.txt",
        "novel",
        "Call me Ishmael.",
    )


def test_lists_and_globs_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.txt").write_text(name)
    names = [d.text for d in files.load([tmp_path / "c.txt", str(tmp_path / "[ab].txt")])]
    assert names == ["c", "a", "b"]


def test_fields_can_be_chosen(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", [{"url": "u", "body": "t"}])
    (document,) = files.load(path, text_field="body", id_field="url", domain="web")
    assert (document.id, document.domain, document.text) == ("u", "web", "t")


def test_rows_without_an_id_are_named_by_their_place(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "r.jsonl", [{"text": "t"}, {"text": "u"}])
    assert [d.id for d in files.load(path)] == ["r.jsonl:1", "r.jsonl:2"]


def test_documents_of_the_same_id_are_told_apart(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": text} for text in ("one", "two", "three")]
    documents = list(files.load(write_jsonl(tmp_path / "r.jsonl", rows)))
    names, texts = zip(*((d.id, d.text) for d in documents), strict=True)
    assert texts == ("one", "two", "three") and len(set(names)) == 3
    assert names[0] == "a" and all(name.startswith("a#") for name in names[1:])
    assert {split_of(name) for name in names} == {split_of("a")}


def test_a_file_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "link.txt").symlink_to(tmp_path / "one.txt")
    paths = [tmp_path / "one.txt", tmp_path / "." / "one.txt", str(tmp_path / "*.txt")]
    assert [document.text for document in files.load(paths)] == ["one", "two"]


BAD = {
    "empty.jsonl": (b"", "empty"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": ', "line 2: this is not JSON"),
    "list.jsonl": (b'["a"]', "line 1: a JSON object is needed"),
    "nofield.jsonl": (b'{"text": "a"}\n{"body": "b"}', "line 2: there is no field 'text'"),
    "number.jsonl": (b'{"text": 3}', "line 1: field 'text' is no text but int"),
    "surrogate.jsonl": (b'{"text": "\\ud800"}', "line 1: field 'text' holds a lone surrogate"),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "\xe9"}', "line 2: this is not text in UTF-8"),
    "blank.jsonl": (b'{"text": "  "}', "no text in it"),
    "deep.jsonl": (b"[" * 100_000, "line 1: this is not JSON"),
    "cut.jsonl.gz": (gzip.compress(b'{"text": "a"}' * 50)[:30], "cannot be read"),
    "nogzip.jsonl.gz": (b'{"text": "a"}', "cannot be read"),
    "binary.txt": (b"a\0b", "zero byte"),
    "latin.txt": (b"\xff\xfe\xfa", "not text in UTF-8"),
    "bad.parquet": (b"PAR1 no", "cannot be read as parquet"),
    "program.exe": (b"MZ", "kind of file is not known"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    content, expected = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(files.load(path))
    message = str(caught.value)
    assert expected in message
    assert name in message
    assert len(message.splitlines()) <= 2


@pytest.mark.parametrize("path", ["missing.jsonl", "no*.jsonl", []])
def test_missing_files_are_said(path: object) -> None:
    with pytest.raises(UserError, match=r"no such file|list is empty"):
        list(files.load(path))  # type: ignore[arg-type]


def test_folder_is_refused_with_a_glob_to_try(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder"):
        list(files.load(tmp_path))


def test_parquet_without_the_column_lists_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"body": ["t"]}), path)
    with pytest.raises(UserError, match="Columns: body"):
        list(files.load(path))
