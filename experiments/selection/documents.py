"""Write the corpus ``docs`` as JSON lines, so that a training can read it beside other files.

python experiments/selection/documents.py FILE.jsonl.gz

The ids stay, and with them the split: what is ``test`` here is ``test`` there.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from refrag_rl.corpora import docs


def main(path: Path) -> None:
    """Write the file, whole or not at all."""
    unfinished = path.with_suffix(".part")
    with gzip.open(unfinished, "wt", encoding="utf-8") as file:
        for document in docs.load():
            row = {"id": document.id, "domain": document.domain, "text": document.text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    unfinished.rename(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
