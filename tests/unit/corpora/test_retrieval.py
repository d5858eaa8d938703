"""The retriever: what it finds without words to look for, and its library beside a JAX."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.retrieval import PassageIndex
from refrag_rl.corpora.tokenized import TokenizedCorpus

PROGRAM = """
import refrag_rl.corpora.retrieval as retrieval
import sys
assert not retrieval.bm25s.selection.JAX_IS_AVAILABLE
assert "jax" not in sys.modules
import jax
"""


def test_jax_is_not_started_and_can_be_imported_afterwards(tmp_path: Path) -> None:
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("print('jax was imported')\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "jax was imported\n"


@pytest.mark.parametrize("text", ["alpha ", "w1 w2 w3 "])
def test_where_every_token_is_a_stop_word_the_first_passages_are_found(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    documents = [Document(f"d{number}", "own", text * 60) for number in range(3)]
    index = PassageIndex(TokenizedCorpus(documents, tokenizer), passage_length=16)
    found = index.search(np.array([1, 2, 3]), 2)
    assert [(span.document.id, span.start, score) for span, score in found] == [
        ("d0", 0, 0.0),
        ("d0", 16, 0.0),
    ]
