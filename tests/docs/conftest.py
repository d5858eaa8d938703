from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.corpora.documents import Document, split_of
from refrag_rl.modeling.checkpoint import load_refrag
from refrag_rl.modeling.fingerprint import fingerprint
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from tests.cli.conftest import in_process
from tests.cli.running import InProcess
from tests.conftest import paragraphs, save_tiny_checkpoint
from tests.docs.blocks import ROOT
from tests.docs.shell import Shell

__all__ = ["in_process"]

PER_SPLIT = {"train": 24, "validation": 8, "test": 8}


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Return documents of some 450 words, some of each split."""
    left, number, chosen = dict(PER_SPLIT), 0, []
    while any(left.values()):
        name = f"docs/{number}"
        if left[split_of(name)]:
            left[split_of(name)] -= 1
            chosen.append(Document(name, "docs", paragraphs(number, 450)))
        number += 1
    return chosen


@pytest.fixture(scope="session")
def small_assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a random ``tiny-k16`` of the default window size, and its policy."""
    folder = tmp_path_factory.mktemp("assets")
    save_tiny_checkpoint(folder / "tiny-k16", chunk_size=16, positions=1024)
    model = load_refrag(folder / "tiny-k16").model
    policy = PointerPolicy(PointerConfig(model.embedding_size, width=8))
    selector = PolicySelector(policy, "rloo", refrag=fingerprint(model))
    selector.save(folder / "policies" / "tiny-k16" / "default")
    return folder


@pytest.fixture
def small_defaults(
    monkeypatch: pytest.MonkeyPatch, small_assets: Path, documents: list[Document]
) -> Iterator[None]:
    """Put a small model and a small corpus in the place of the embedded ones."""
    from refrag_rl import default_problem

    monkeypatch.setattr("refrag_rl.modeling.checkpoint.ASSETS", small_assets)
    monkeypatch.setattr("refrag_rl.agents.shipped.FOLDER", small_assets / "policies")
    monkeypatch.setattr("refrag_rl.corpora.docs.load", lambda cache_dir=None: documents)
    default_problem._composed_problem.cache_clear()
    yield
    default_problem._composed_problem.cache_clear()


@pytest.fixture
def shell(
    small_defaults: None,
    in_process: InProcess,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    small_assets: Path,
    documents: list[Document],
) -> Shell:
    """Return what runs a page's command lines, in a folder with the files that they name."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    rows = [{"id": each.id, "domain": "notes", "text": each.text} for each in documents]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(tmp_path / "train.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    with (tmp_path / "examples" / "extending" / "tickets.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "domain", "text"])
        writer.writeheader()
        writer.writerows(rows)
    return Shell(in_process, monkeypatch, tmp_path, small_assets / "tiny-k16")
