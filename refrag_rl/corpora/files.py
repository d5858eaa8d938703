"""The ``files`` corpus: text, JSON lines (plain or gzipped) and parquet."""

from __future__ import annotations

import glob
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from refrag_rl.corpora.documents import DistinctNames, Document
from refrag_rl.errors import UserError, first_line

_JSONL = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_TEXT = (".txt", ".md", ".rst", ".tex", ".text")
_PARQUET_ROWS = 256
_SUFFIXES = (*_TEXT, *_JSONL, ".parquet")


class _Fields(NamedTuple):
    """Where a row has its text and its name, and the section of the config that says so."""

    text: str
    id: str
    section: str

    @property
    def advice(self) -> str:
        return f"Choose one with {self.section}.text_field=..."


def load(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    text_field: str = "text",
    id_field: str = "id",
    domain: str | None = None,
    key: str = "corpus.path",
) -> Iterator[Document]:
    """Read documents from files, one after the other.

    A text file is one document, a line of JSON lines or a row of parquet is one document.

    Args:
        path: A file, a glob such as ``data/*.jsonl.gz``, or a list of both.
        text_field: Field of a row that holds the text.
        id_field: Field of a row that names the document; where a row has none, its place in the
            file is its name.
        domain: Domain of all documents. Default: a row's ``domain`` field, else the file's name
            without its endings.
        key: What errors call ``path``, as on the command line; the section before its last dot is
            that of the other options.

    Yields:
        Documents in the order of the files; empty texts are left out. Where ids repeat, later
        documents get a number behind theirs, as in ``a#2``, by which they stay in one split. Files
        that are given twice are read once.

    Raises:
        UserError: A file is missing, of an unknown kind, unreadable, or has no text; a row has no
            such field.
    """
    fields = _Fields(text_field, id_field, key.rpartition(".")[0])
    require_text(f"{fields.section}.text_field", text_field)
    require_text(f"{fields.section}.id_field", id_field)
    if domain is not None:
        require_text(f"{fields.section}.domain", domain)
    names = DistinctNames()
    found = False
    for file in _expand(path, key):
        name = _name(file).split(".")[0]
        for row_id, row_domain, text in _rows(file, fields):
            if text.strip():
                found = True
                yield Document(names.of(row_id), domain or row_domain or name, text)
    if not found:
        raise UserError(f"{key}={path}: there is no text in it. Give files with text.")


def _expand(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], key: str
) -> Iterator[Path]:
    patterns: object = [path] if isinstance(path, str | os.PathLike) else path
    if not isinstance(patterns, list | tuple):
        raise UserError(f"{key}={path!r}: give a file, a glob, or a list of them.")
    found = False
    given: set[str] = set()
    for pattern in patterns:
        found = True
        if not isinstance(pattern, str | os.PathLike):
            raise UserError(f"{key} holds {pattern!r}: give names of files.")
        text = os.path.expanduser(os.fspath(pattern))
        if os.path.isdir(text):
            raise UserError(
                f"{key}={text}: this is a folder. Give files, or a glob: {text}/*.jsonl"
            )
        matches = [text] if os.path.exists(text) else sorted(glob.glob(text, recursive=True))
        if not matches:
            raise UserError(f"{key}={text}: there is no such file.")
        for match in matches:
            true_path = os.path.realpath(match)
            if not os.path.isdir(match) and true_path not in given:
                given.add(true_path)
                yield Path(match)
    if not found:
        raise UserError(f"{key}=[]: the list is empty. Give at least one file.")


def _rows(file: Path, fields: _Fields) -> Iterator[tuple[str, str | None, str]]:
    """Yield id, domain (if the row has one) and text of each document of a file."""
    if not file.name.endswith(_SUFFIXES):
        raise UserError(
            f"{file}: the kind of file is not known. Allowed endings: {', '.join(_SUFFIXES)}"
        )
    try:
        if not file.is_file():
            raise UserError(f"{file}: this is no regular file. Give one that can be read again.")
        if file.stat().st_size == 0:
            raise UserError(f"{file}: the file is empty.")
        if file.name.endswith(_TEXT):
            yield _name(file), None, _text(file.read_bytes(), str(file))
        elif file.name.endswith(".parquet"):
            yield from _parquet_rows(file, fields)
        else:
            yield from _json_rows(file, fields)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{file}: it cannot be read ({reason}).") from error


def _json_rows(file: Path, fields: _Fields) -> Iterator[tuple[str, str | None, str]]:
    with gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            try:
                row = json.loads(_text(line, where))
            except (ValueError, RecursionError) as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(f"{where}: this is not JSON ({error}).") from error
            if not isinstance(row, dict):
                raise UserError(
                    f"{where}: a JSON object is needed, such as {{{fields.text!r}: ...}}"
                )
            yield _document(row, where, f"{_name(file)}:{number}", fields)


def _parquet_rows(file: Path, fields: _Fields) -> Iterator[tuple[str, str | None, str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        # Buffered, a column is read in pieces and not whole.
        table = pyarrow.parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False)
        columns = [
            name for name in (fields.text, fields.id, "domain") if name in table.schema_arrow.names
        ]
        if fields.text not in columns:
            raise UserError(
                f"{file}: there is no column {fields.text}. Columns: "
                f"{_few(table.schema_arrow.names)}. {fields.advice}"
            )
        number = 0
        for batch in table.iter_batches(_PARQUET_ROWS, columns=columns):
            for row in batch.to_pylist():
                number += 1
                where = f"{file}, row {number}"
                yield _document(row, where, f"{_name(file)}:{number}", fields)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{file}: it cannot be read as parquet ({first_line(error)}).") from error


def _document(
    row: Mapping[str, Any], where: str, default_id: str, fields: _Fields
) -> tuple[str, str | None, str]:
    if fields.text not in row:
        raise UserError(
            f"{where}: there is no field {fields.text!r}. Fields: {_few(row)}. {fields.advice}"
        )
    text = row[fields.text]
    if not isinstance(text, str):
        raise UserError(f"{where}: field {fields.text!r} is no text but {type(text).__name__}.")
    domain = row.get("domain")
    row_id = row.get(fields.id)
    name = default_id if row_id is None else str(row_id)
    for field, value in ((fields.text, text), (fields.id, name), ("domain", domain)):
        if isinstance(value, str) and not _is_encodable(value):
            raise UserError(f"{where}: field {field!r} holds a lone surrogate.")
    return name, domain if isinstance(domain, str) else None, text


def _few(names: Iterable[str]) -> str:
    """Return the first names, each cut where it is long."""
    return ", ".join(name[:40] for name in islice(names, 20))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(file: Path) -> str:
    """Return a file's name; bytes in it that are no UTF-8 are replaced."""
    return os.fsencode(file.name).decode("utf-8", "replace")


def require_text(key: str, value: object) -> None:
    """Check an option that is a name.

    Args:
        key: What the error calls it, as on the command line.
        value: As given.

    Raises:
        UserError: It is no text, or an empty one.
    """
    if not isinstance(value, str) or not value or not _is_encodable(value):
        raise UserError(f"{key}={value!r}: give a name.")


def _text(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: this is not text in UTF-8.") from error
    if "\0" in text:
        raise UserError(f"{where}: this is not text, it holds a zero byte.")
    return text
