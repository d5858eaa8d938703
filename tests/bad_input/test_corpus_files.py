"""Files of text that are broken in some way are read correctly or refused in a few lines."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refrag_rl.corpora import files
from refrag_rl.corpora.documents import Document, split_of
from refrag_rl.errors import UserError
from tests.bad_input.checking import check_refused
from tests.cli.running import InProcess

LINE = b'{"id": "one", "text": "some text"}\n'


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def invalid_utf8_parquet() -> bytes:
    import pyarrow as pa

    array = pa.array([b"\xff\xfe text"], pa.binary())
    return parquet({"text": pa.Array.from_buffers(pa.utf8(), 1, array.buffers())})


GOOD = parquet({"text": ["some text"] * 50})
ZIPPED = gzip.compress(LINE * 200, mtime=0)

REFUSED: dict[str, bytes | Callable[[], bytes]] = {
    "empty.jsonl": b"",
    "empty.jsonl.gz": b"",
    "empty-inside.jsonl.gz": gzip.compress(b""),
    "empty.parquet": b"",
    "blank.txt": b" \n\t\r\n ",
    "blank.jsonl": b"\n\n  \n",
    "only-mark.txt": b"\xef\xbb\xbf",
    "zero.txt": b"text\0text",
    "zero.jsonl": b'{"text": "a"}\n\0\0\0\n',
    "latin.txt": "gr\u00fc\u00dfe".encode("latin-1"),
    "latin.jsonl": '{"text": "gr\u00fc\u00dfe"}'.encode("latin-1"),
    "utf16.txt": "some text".encode("utf-16"),
    "utf16.jsonl": '{"text": "a"}'.encode("utf-16"),
    "utf32.txt": "some text".encode("utf-32"),
    "cut-character.txt": "gr\u00fc".encode()[:-1],
    "surrogate-bytes.txt": b"text \xed\xa0\x80 text",
    "pickle.txt": b"\x80\x04\x95\x00\x00.",
    "pickle.jsonl": b"\x80\x04\x95\x00\x00.",
    "binary.jsonl": bytes(range(256)) * 9,
    "binary.md": bytes(range(256)),
    "open.jsonl": LINE + b'{"text": "a',
    "half.jsonl": LINE + b'{"text":',
    "word.jsonl": b"text\n",
    "python.jsonl": b"{'text': 'a'}\n",
    "comment.jsonl": b"// a comment\n" + LINE,
    "trailing.jsonl": b'{"text": "a",}\n',
    "two.jsonl": b'{"text": "a"} {"text": "b"}\n',
    "spread.jsonl": b'{\n"text": "a"\n}\n',
    "array.jsonl": b'[{"text": "a"}]\n',
    "string.jsonl": b'"text"\n',
    "number.jsonl": b"17\n",
    "null.jsonl": b"null\n",
    "true.jsonl": b"true\n",
    "nan.jsonl": b"NaN\n",
    "deep.jsonl": b"[" * 100_000 + b"\n",
    "deep-object.jsonl": b'{"text":' * 50_000 + b"\n",
    "long-number.jsonl": b'{"text": "a", "n": ' + b"1" * 5000 + b"}\n",
    "other-field.jsonl": b'{"body": "a"}\n',
    "many-fields.jsonl": json.dumps({f"f{n}" * 99: n for n in range(999)}).encode(),
    "text-null.jsonl": b'{"text": null}\n',
    "text-number.jsonl": b'{"text": 3.5}\n',
    "text-list.jsonl": b'{"text": ["a"]}\n',
    "text-object.jsonl": b'{"text": {"a": "b"}}\n',
    "text-bool.jsonl": b'{"text": false}\n',
    "text-empty.jsonl": b'{"text": ""}\n{"text": "  "}\n',
    "text-surrogate.jsonl": rb'{"text": "a \ud800 b"}',
    "id-surrogate.jsonl": rb'{"id": "a \udfff", "text": "b"}',
    "domain-surrogate.jsonl": rb'{"domain": "\ud800", "text": "b"}',
    "bad-escape.jsonl": rb'{"text": "a \q"}',
    "control.jsonl": b'{"text": "a\x01b"}\n',
    "lines.jsonl": b'{"text": "a\nb"}\n',
    "huge-line.jsonl": b'{"text": "' + b"a b " * 500_000 + b"\n",
    "cut.jsonl.gz": ZIPPED[: len(ZIPPED) // 2],
    "cut-end.jsonl.gz": ZIPPED[:-3],
    "header.jsonl.gz": ZIPPED[:10],
    "three-bytes.jsonl.gz": ZIPPED[:3],
    "bad-sum.jsonl.gz": ZIPPED[:-8] + b"\0" * 8,
    "garbage.jsonl.gz": ZIPPED + b"garbage",
    "damaged.jsonl.gz": ZIPPED[:12] + b"\xff\xff\xff" + ZIPPED[15:],
    "plain.jsonl.gz": LINE,
    "zlib.jsonl.gz": zlib.compress(LINE),
    "binary-inside.jsonl.gz": gzip.compress(bytes(range(256))),
    "text.parquet": LINE,
    "cut.parquet": GOOD[:-10],
    "half.parquet": GOOD[: len(GOOD) // 2],
    "marks.parquet": b"PAR1PAR1",
    "length.parquet": GOOD[:-8] + b"\xff\xff\xff\x7f" + GOOD[-4:],
    "negative.parquet": GOOD[:-8] + b"\xff\xff\xff\xff" + GOOD[-4:],
    "other.parquet": lambda: parquet({"body": ["a"]}),
    "numbers.parquet": lambda: parquet({"text": [1, 2]}),
    "nulls.parquet": lambda: parquet({"text": ["a", None]}),
    "lists.parquet": lambda: parquet({"text": [["a"], ["b"]]}),
    "bytes.parquet": lambda: parquet({"text": [b"a"]}),
    "no-rows.parquet": lambda: parquet({"text": []}),
    "no-columns.parquet": lambda: parquet({}),
    "utf8.parquet": invalid_utf8_parquet,
    "program.py": b"print('text')",
    "book.pdf": b"%PDF-1.7",
    "page.html": b"<p>text</p>",
    "model.safetensors": b"\0" * 16,
    "weights.pkl": b"\x80\x04.",
    "no-ending": b"text",
    ".jsonl.bz2": LINE,
    "text.JSONL": LINE,
}

READ: dict[str, tuple[bytes, list[str]]] = {
    "mark.txt": (b"\xef\xbb\xbfsome text", ["some text"]),
    "mark.jsonl": (b"\xef\xbb\xbf" + LINE, ["some text"]),
    "windows.jsonl": (LINE.replace(b"\n", b"\r\n") * 2, ["some text"] * 2),
    "no-end.jsonl": (LINE.strip(), ["some text"]),
    "blank-lines.jsonl": (b"\n" + LINE + b"\n\n" + LINE, ["some text"] * 2),
    "pair.jsonl": (rb'{"text": "\ud83d\ude00"}', ["\U0001f600"]),
    "separators.jsonl": ('{"text": "a\u2028b\u0085c"}'.encode(), ["a\u2028b\u0085c"]),
    "escape.jsonl": (rb'{"text": "\u001b[31mred"}', ["\x1b[31mred"]),
    "twice.jsonl": (b'{"text": "a", "text": "b"}', ["b"]),
    "members.jsonl.gz": (gzip.compress(LINE) * 2, ["some text"] * 2),
    "padded.jsonl.gz": (gzip.compress(LINE) + b"\0" * 512, ["some text"]),
    "id-object.jsonl": (b'{"id": {"a": [1]}, "text": "a"}', ["a"]),
    "id-null.jsonl": (b'{"id": null, "text": "a"}', ["a"]),
    "domain-number.jsonl": (b'{"domain": 5, "text": "a"}', ["a"]),
    "domain-empty.jsonl": (b'{"domain": "", "text": "a"}', ["a"]),
    "long.jsonl": (b'{"text": "' + b"ab " * 400_000 + b'"}', ["ab " * 400_000]),
    "plain.parquet": (GOOD, ["some text"] * 50),
}


def require_sound(documents: list[Document]) -> None:
    """Check what all that comes after takes for granted."""
    assert len({document.id for document in documents}) == len(documents) > 0
    for document in documents:
        assert split_of(document.id) in ("train", "validation", "test")
        assert document.text.strip() and document.domain
        json.dumps([document.id, document.domain, document.text], ensure_ascii=False).encode()


def refused(path: object, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        list(files.load(path, **options))  # type: ignore[arg-type]
    check_message(error.value)
    return str(error.value)


def check_message(error: UserError) -> None:
    assert str(error).count("\n") <= 2 and len(str(error)) < 3000


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused(tmp_path: Path, name: str) -> None:
    content = REFUSED[name]
    (tmp_path / name).write_bytes(content() if callable(content) else content)
    assert name in refused(tmp_path / name)


@pytest.mark.parametrize("name", READ)
def test_a_file_that_is_odd_but_read(tmp_path: Path, name: str) -> None:
    content, texts = READ[name]
    (tmp_path / name).write_bytes(content)
    documents = list(files.load(tmp_path / name))
    require_sound(documents)
    assert [document.text for document in documents] == texts


def test_a_folder_a_pipe_and_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "link.jsonl").symlink_to("nowhere.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    for name in ("folder.jsonl", "pipe.jsonl", "link.jsonl", "loop.jsonl", "*.jsonl"):
        refused(str(tmp_path / name))


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A superuser may read everything, so the system's answer is given here.
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("a.txt", "a.jsonl", "a.jsonl.gz", "a.parquet"):
        (tmp_path / name).write_bytes(LINE)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", forbidden)
        patch.setattr(Path, "read_bytes", forbidden)
        patch.setattr(gzip, "open", forbidden)
        for name in ("a.txt", "a.jsonl", "a.jsonl.gz"):
            assert "Permission denied" in refused(tmp_path / name)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.txt"
    with open(path, "wb") as file:
        file.write(b"some text")
    require_sound(list(files.load(os.fsdecode(path))))


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
rows = st.dictionaries(st.sampled_from(["text", "id", "domain", "x"]), json_values | st.text())
lines = st.one_of(
    rows.map(lambda row: json.dumps(row).encode()),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.text(st.characters(codec="utf-8")).map(str.encode),
    st.binary(max_size=40),
)
quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def read_or_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        documents = list(files.load(path))
    except UserError as error:
        check_message(error)
    else:
        require_sound(documents)


@quick
@given(content=st.lists(lines, max_size=4).map(b"\n".join), zipped=st.booleans())
def test_generated_json_lines(tmp_path: Path, content: bytes, zipped: bool) -> None:
    name = "generated.jsonl.gz" if zipped else "generated.jsonl"
    read_or_refused(tmp_path / name, gzip.compress(content) if zipped else content)


@quick
@given(at=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_parquet(tmp_path: Path, at: int, byte: int, cut: bool) -> None:
    damaged = GOOD[:at] if cut else GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
    read_or_refused(tmp_path / "damaged.parquet", damaged)


@quick
@given(at=st.integers(0, len(ZIPPED) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_gzip(tmp_path: Path, at: int, byte: int, cut: bool) -> None:
    damaged = ZIPPED[:at] if cut else ZIPPED[:at] + bytes([byte]) + ZIPPED[at + 1 :]
    read_or_refused(tmp_path / "damaged.jsonl.gz", damaged)


@quick
@given(
    content=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: t.encode(errors="replace"))
)
def test_generated_text(tmp_path: Path, content: bytes) -> None:
    read_or_refused(tmp_path / "generated.txt", content)


@pytest.mark.parametrize(
    "name",
    ["cut.jsonl.gz", "deep.jsonl", "id-surrogate.jsonl", "utf8.parquet", "text-surrogate.jsonl"],
)
def test_a_command_that_is_given_one(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...], name: str
) -> None:
    content = REFUSED[name]
    (tmp_path / name).write_bytes(content() if callable(content) else content)
    given = (f"corpus.path={name}", "corpus.split=all", "output=out")
    check_refused(in_process("evaluate", *tiny, *given), tmp_path)
