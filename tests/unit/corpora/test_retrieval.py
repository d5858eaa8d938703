"""The retriever's library, beside a JAX that it would start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
