"""Rows of a table in a temporary file that is mapped into memory."""

from __future__ import annotations

import errno
import mmap
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from refrag_rl.errors import FullDiskError

_BATCH_BYTES = 4 * 2**20
_BATCH_ROWS = 2**16
_RELEASE_BYTES = 64 * 2**20

Value = str | NDArray[Any]


class MappedTable:
    """Rows that are written once, in Arrow's file format, and read in any order.

    The file has no name (where the system knows such files), so it is gone when the process ends,
    however it ends. It lies in the system's temporary folder, which ``TMPDIR`` chooses. Pages of it
    that were read are given back every 64 MiB, so the process stays small.

    Args:
        schema: Names and types of the columns.
        rows: One value for each column, in their order.

    Raises:
        FullDiskError: The temporary folder has no room left.
    """

    def __init__(self, schema: pa.Schema, rows: Iterable[tuple[Value, ...]]) -> None:
        with tempfile.TemporaryFile() as file:
            try:
                with pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema) as writer:
                    for batch in _batches(schema, rows):
                        writer.write_batch(batch)
                file.flush()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise FullDiskError(
                    f"the temporary folder {tempfile.gettempdir()} has no room for the corpus: it "
                    "needs about three times its text.\nSet TMPDIR to a folder with more room."
                ) from error
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._table = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map))).read_all()
        self._columns = {name: self._table.column(name) for name in schema.names}
        self._read = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._table.num_rows)

    def text(self, column: str, row: int) -> str:
        """Return a text of a column of texts."""
        value: str = self._columns[column][row].as_py()
        self._count(len(value))
        return value

    def numbers(self, column: str, row: int) -> NDArray[Any]:
        """Return a list of a column of lists as an array, (n,), that is read when it is used."""
        value: NDArray[Any] = self._columns[column][row].values.to_numpy()
        self._count(value.nbytes)
        return value

    def _count(self, size: int) -> None:
        """Give the pages back when much was read; what still points to them reads them again."""
        self._read += size
        if self._read > _RELEASE_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0


def _batches(schema: pa.Schema, rows: Iterable[tuple[Value, ...]]) -> Iterator[pa.RecordBatch]:
    """Put rows together to batches of some megabytes."""
    kept: list[tuple[Value, ...]] = []
    size = 0
    for row in rows:
        kept.append(row)
        size += sum(value.nbytes if isinstance(value, np.ndarray) else len(value) for value in row)
        if size > _BATCH_BYTES or len(kept) == _BATCH_ROWS:
            yield _batch(schema, kept)
            kept, size = [], 0
    if kept:
        yield _batch(schema, kept)


def _batch(schema: pa.Schema, rows: list[tuple[Value, ...]]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, field.type) for field, values in zip(schema, columns, strict=True)]
    return pa.record_batch(arrays, schema=schema)
