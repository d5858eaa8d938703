"""A corpus of 2 GB is evaluated in less memory than it has text."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refrag_rl.corpora.documents import split_of
from tests.cli.conftest import SIZES
from tests.conftest import ROOT, paragraphs

DOCUMENTS = 10_000
DOCUMENT_BYTES = 200_000

CHILD = """
import atexit, runpy, sys

def say_peak():
    with open("/proc/self/status") as status:
        print(*(line for line in status if line.startswith("VmHWM")), file=sys.stderr)

atexit.register(say_peak)
runpy.run_module("refrag_rl.evaluate", run_name="__main__", alter_sys=True)
"""


def write_corpus(path: Path) -> None:
    """Write JSON lines of 2 GB; the text of all documents is the same, and is compressed once."""
    text = paragraphs(0, 4000)
    text = (text * (DOCUMENT_BYTES // len(text) + 1))[:DOCUMENT_BYTES]
    body = gzip.compress(json.dumps(text)[1:-1].encode() + b'"}\n')
    # Tokenizing is what takes long, so that few documents are of the split that is tokenized.
    ids = (f"d{number}" for number in range(10 * DOCUMENTS))
    names = [name for name in ids if split_of(name) != "test"][: DOCUMENTS - 50]
    names += [name for name in map(str, range(9999)) if split_of(name) == "test"][:50]
    with path.open("wb") as file:
        for name in sorted(names):
            head = f'{{"id": "{name}", "domain": "large", "text": "'
            file.write(gzip.compress(head.encode()) + body)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc")
def test_two_gigabytes_are_evaluated_in_less(tmp_path: Path, tiny_checkpoint: Path) -> None:
    write_corpus(tmp_path / "large.jsonl.gz")
    command = (
        *(sys.executable, "-c", CHILD, "corpus=files", "corpus.path=large.jsonl.gz"),
        *("windows=contiguous", *(size for size in SIZES if "passage" not in size)),
        *(f"refrag.path={tiny_checkpoint}", "selectors=[random]", "count=4", "rates=[2]"),
        *("report.windows=1", "output=out"),
    )
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak = re.search(r"VmHWM:\s*(\d+) kB", done.stderr)
    assert peak is not None and int(peak[1]) < 1.5e9 / 1024
