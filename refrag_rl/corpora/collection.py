"""The documents of a corpus: in memory while they are few, else in a temporary file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from refrag_rl.corpora.documents import Document, Split, split_of
from refrag_rl.corpora.mapped import MappedTable
from refrag_rl.errors import UserError

IN_MEMORY_MB = 256.0
"""Text that a corpus keeps in memory if it does not say otherwise."""

_SCHEMA = pa.schema([("id", pa.string()), ("domain", pa.string()), ("text", pa.large_string())])


class StoredDocuments(Sequence[Document]):
    """Documents that are read from a temporary file when they are asked for.

    Args:
        table: Their ids, domains and texts.
        rows: (n,) int64, which rows of it.
    """

    def __init__(self, table: MappedTable, rows: NDArray[np.int64]) -> None:
        self._table = table
        self._rows = rows

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> StoredDocuments: ...
    def __getitem__(self, index: int | slice) -> Document | StoredDocuments:
        """Read one document, or return some of them, not yet read, for a slice."""
        if isinstance(index, slice):
            return StoredDocuments(self._table, self._rows[index])
        row = int(self._rows[index])
        return Document(*(self._table.text(column, row) for column in _SCHEMA.names))

    def of_split(self, split: Split) -> StoredDocuments:
        """Return the documents of one split, not yet read."""
        ids = (self._table.text("id", int(row)) for row in self._rows)
        kept = np.fromiter((split_of(each) == split for each in ids), np.bool_, len(self))
        return StoredDocuments(self._table, self._rows[kept])


def collect(documents: Iterable[Document], in_memory_mb: object) -> Sequence[Document]:
    """Read documents one by one and keep them where there is room.

    Args:
        documents: Read once.
        in_memory_mb: Text in memory, MiB. If there is more, all of it goes to a temporary file.

    Raises:
        FullDiskError: The temporary folder has no room left.
        UserError: ``in_memory_mb`` is no number of 0 or more.
    """
    if isinstance(in_memory_mb, bool) or not isinstance(in_memory_mb, int | float):
        raise UserError(f"in_memory_mb={in_memory_mb}: give a number (MiB of text)")
    if not in_memory_mb >= 0:
        raise UserError(f"in_memory_mb={in_memory_mb}: give 0 or more (MiB of text)")
    remaining = iter(documents)
    kept: list[Document] = []
    size = 0
    for document in remaining:
        if not isinstance(document.id, str):
            raise UserError(f"a document has the id {document.id!r}; ids are text: give a str")
        kept.append(document)
        size += sum(map(sys.getsizeof, (document, document.id, document.text)))
        if size > in_memory_mb * 2**20:
            rows = ((each.id, each.domain, each.text) for each in chain(kept, remaining))
            table = MappedTable(_SCHEMA, rows)
            return StoredDocuments(table, np.arange(len(table)))
    return kept


def select_split(documents: Sequence[Document], split: Split) -> Sequence[Document]:
    """Keep the documents of one split; ``"all"`` keeps every document."""
    if split == "all":
        return documents
    if isinstance(documents, StoredDocuments):
        return documents.of_split(split)
    return [document for document in documents if split_of(document.id) == split]
