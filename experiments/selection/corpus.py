"""Write the corpus that the policies are trained on: some documents of each domain, as JSON lines.

    python experiments/selection/corpus.py --data DATA FILE.jsonl.gz

A training needs a few thousand windows; it starts sooner if it has not to read and index all text
for them. Ids stay, and with them the split of each document. Documents, long ones cut, are taken in
the order of a hash of their ids, until a split of a domain has its characters.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from refrag_rl.corpora import docs, files
from refrag_rl.corpora.collection import select_split
from refrag_rl.corpora.documents import Document, Split

CHARACTERS: dict[Split, int] = {"train": 6_000_000, "validation": 1_000_000, "test": 500_000}
"""Of each domain; the last document of a split may go beyond it."""
OF_A_DOCUMENT = 400_000
"""Characters of a document that are kept, from its start."""


def sample(documents: Iterable[Document]) -> Iterator[Document]:
    """Give the documents of the sample."""
    ordered = sorted(documents, key=lambda each: hashlib.sha256(each.id.encode()).digest())
    for split, characters in CHARACTERS.items():
        taken: Counter[str] = Counter()
        for document in select_split(ordered, split):
            if taken[document.domain] < characters:
                cut = replace(document, text=document.text[:OF_A_DOCUMENT])
                taken[document.domain] += len(cut.text)
                yield cut


def main() -> None:
    """Write the file, whole or not at all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    documents = list(docs.load())
    documents += files.load(
        [str(options.data / name / "train.jsonl.gz") for name in ("books", "math")]
    )
    unfinished = options.output.with_suffix(".part")
    with gzip.open(unfinished, "wt", encoding="utf-8") as file:
        for document in sample(documents):
            row = {"id": document.id, "domain": document.domain, "text": document.text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    unfinished.rename(options.output)


if __name__ == "__main__":
    main()
