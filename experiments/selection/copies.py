"""What the copies in ``docs`` change: its cells without the windows whose output is known.

    python experiments/selection/copies.py CELLS copies.json --agent replay

Docstrings are copied between modules, so some of the held-out output stands word for word in the
split ``train``. Of each cell of ``docs``: how many windows those are, and the agent's difference to
the best heuristic on all windows and without them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from results import RESAMPLES, ends
from scores import read_cells
from transformers import PreTrainedTokenizerFast

from refrag_rl.corpora import docs
from refrag_rl.corpora.documents import Document, split_of
from refrag_rl.corpora.tokenized import TokenizedCorpus, TokenizedDocument
from refrag_rl.evaluation.training_seeds import interquartile_mean
from refrag_rl.modeling.checkpoint import load_refrag

FROM_THE_END = {"contiguous": 1, "recall": 3, "retrieved": 4}
"""Where the key of a window names its span, by the kind that it begins with."""
BEFORE_THE_DOCUMENT = {"contiguous": 1, "recall": 3, "retrieved": 3}
"""Parts of a key before the document's id, which may hold slashes."""


class Outputs:
    """The texts of outputs, from the keys of their windows.

    Args:
        documents: By id.
        tokenizer: Of the windows.
    """

    def __init__(
        self, documents: Mapping[str, Document], tokenizer: PreTrainedTokenizerFast
    ) -> None:
        self._documents = documents
        self._tokenizer = tokenizer
        self._tokenized: dict[str, TokenizedDocument] = {}

    def of(self, key: str) -> str:
        """Return the output's text of the window of a key."""
        parts = key.split("/")
        place = len(parts) - FROM_THE_END[parts[0]]
        name = "/".join(parts[BEFORE_THE_DOCUMENT[parts[0]] : place])
        start, stop = map(int, parts[place].split("-")[-2:])
        if name not in self._tokenized:
            corpus = TokenizedCorpus([self._documents[name]], self._tokenizer)
            self._tokenized[name] = corpus[0]
        return self._tokenized[name].text_of(start, stop)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cells", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--refrag", default="tiny-k16")
    options = parser.parse_args()
    documents = list(docs.load())
    train = "\n".join(each.text for each in documents if split_of(each.id) == "train")
    outputs = Outputs({each.id: each for each in documents}, load_refrag(options.refrag).tokenizer)
    known: dict[str, bool] = {}
    rows = []
    for cell in read_cells(options.cells):
        if cell.domain != "docs" or options.agent not in cell.policies:
            continue
        scores = cell.policies[options.agent]
        count = scores.shape[1]
        for window in cell.windows[:count]:
            if window not in known:
                # A number behind the key tells windows apart that were drawn twice.
                known[window] = outputs.of(window.rpartition("#")[0]) in train
        own = np.array([not known[window] for window in cell.windows[:count]])
        difference = scores - cell.heuristics[cell.best][:count]
        of_all = cell.documents[:count]
        of_own = [document for document, is_own in zip(of_all, own, strict=True) if is_own]
        rows.append(
            {
                "kind": cell.kind,
                "rate": cell.rate,
                "count": count,
                "copied": int((~own).sum()),
                "best_heuristic": cell.best,
                "all": ends(interquartile_mean(difference, of_all, resamples=RESAMPLES)),
                "own": ends(interquartile_mean(difference[:, own], of_own, resamples=RESAMPLES)),
            }
        )
    options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
