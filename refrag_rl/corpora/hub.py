"""The ``hub`` corpus: a data set of the Hugging Face hub, or of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from refrag_rl.corpora.documents import DistinctNames, Document
from refrag_rl.corpora.files import require_text
from refrag_rl.errors import UserError, first_line


def load(
    name: str,
    *,
    config: str | None = None,
    revision: str | None = None,
    dataset_split: str = "train",
    text_field: str = "text",
    id_field: str = "id",
    domain: str | None = None,
    streaming: bool = False,
    limit: int | None = None,
) -> Iterator[Document]:
    """Read documents with ``datasets.load_dataset``; code of a data set is never run.

    Args:
        name: Name on the hub, or a folder.
        config: Configuration of the data set.
        revision: Commit, tag or branch on the hub.
        dataset_split: Split of the data set; ours is made from the documents' ids.
        text_field: Field that holds the text.
        id_field: Field that names the document; where it holds nothing, its place is its name.
        domain: Domain of all documents. Default: the last part of ``name``.
        streaming: Read while downloading, instead of downloading all of it first.
        limit: Rows to read, at most.

    Yields:
        Documents in the order of the data set; empty texts are left out. Where ids repeat, later
        documents get a number behind theirs, as ``a#2``.

    Raises:
        UserError: The data set cannot be loaded, or has no such field.
    """
    for key, value in (("name", name), ("text_field", text_field), ("id_field", id_field)):
        require_text(f"corpus.{key}", value)
    for key, optional in (("config", config), ("revision", revision), ("domain", domain)):
        if optional is not None:
            require_text(f"corpus.{key}", optional)
    if not isinstance(streaming, bool):
        raise UserError(f"corpus.streaming={streaming!r}: give true or false.")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(f"corpus.limit={limit!r}: give 1 or more (rows), or null for all.")
    import datasets

    try:
        rows: Any = datasets.load_dataset(
            name, config, split=dataset_split, revision=revision, streaming=streaming
        )
        remaining = iter(rows)
        first = list(islice(remaining, 1))
        # What is streamed may not know its fields before its first row.
        columns = list(rows.column_names or chain(*first))
    except Exception as error:
        # datasets raises errors of a dozen libraries here, all of them about what was asked for.
        raise UserError(
            f"corpus.name={name}: the data set cannot be loaded ({first_line(error)}).\n"
            "Check corpus.name, corpus.config and corpus.dataset_split, and the network."
        ) from error
    if text_field not in columns:
        raise UserError(
            f"corpus.name={name}: there is no field {text_field!r}. "
            f"Fields: {', '.join(columns[:20])}. Choose one with corpus.text_field=..."
        )
    # However a folder is written, its documents keep their names, and with them their splits.
    is_folder = os.path.isdir(name)
    short = os.path.basename(os.path.realpath(name) if is_folder else name)
    collection = short if is_folder else name
    names = DistinctNames()
    found = False
    for number, row in enumerate(chain(first, remaining)):
        if limit is not None and number >= limit:
            break
        text = row[text_field]
        if isinstance(text, str) and text.strip():
            row_id = row[id_field] if id_field in columns else None
            own = str(number if row_id is None else row_id)
            found = True
            yield Document(names.of(f"{collection}/{own}"), domain or short, text)
    if not found:
        raise UserError(f"corpus.name={name}: no row has text in the field {text_field!r}.")
