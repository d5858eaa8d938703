"""What a run is begun with besides its config: a run that goes on has to go on with the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from refrag_rl.agents.starting import WARM_STARTS
from refrag_rl.corpora.documents import Document
from refrag_rl.errors import UserError
from refrag_rl.run_folder import METADATA_FILE
from refrag_rl.saved_runs import read_json

INPUTS = "inputs"
"""Key of ``metadata.json``."""
_FILES = "refrag_rl.corpora.files.load"


def inputs_of_run(refrag: str, documents: Sequence[Document]) -> dict[str, str]:
    """Return names of the weights and of the corpus that change when these do.

    Args:
        refrag: The frozen model's fingerprint.
        documents: Of all splits; told apart by their ids, domains and lengths.
    """
    digest = hashlib.sha256()
    for document in documents:
        described = json.dumps([document.id, document.domain, len(document.text)])
        digest.update(described.encode() + b"\n")
    return {"refrag": refrag, "corpus": digest.hexdigest()}


def require_same_inputs(folder: Path, found: Mapping[str, str]) -> None:
    """Require that a run goes on with what it was begun with.

    Args:
        folder: Of the run. Runs of versions that did not write it down are not checked.
        found: Of now; see ``inputs_of_run``.

    Raises:
        UserError: The model or the corpus is another.
    """
    known = read_json(folder / METADATA_FILE).get(INPUTS, {})
    if not isinstance(known, dict):
        raise UserError(f"{folder / METADATA_FILE}: {INPUTS} is no section")
    if known.get("refrag", found["refrag"]) != found["refrag"]:
        raise UserError(
            f"resume={folder}: the run was begun with other weights of refrag.path; put those "
            "back, or begin a new run"
        )
    if known.get("corpus", found["corpus"]) != found["corpus"]:
        raise UserError(
            f"resume={folder}: the run was begun with other documents. Files have changed, or with "
            "corpus=docs\nthe installed packages: put them back, or begin a new run"
        )


def make_paths_absolute(config: DictConfig) -> None:
    """Let a run's config name what it reads from any folder: model, corpus, first policy."""
    if config.corpus._target_ == _FILES:
        paths = config.corpus.path
        config.corpus.path = (
            [_absolute(path) for path in paths] if OmegaConf.is_list(paths) else _absolute(paths)
        )
    sources = [(config.refrag, "path"), (config, "start_from")]
    if config.agent.get("warm_start") not in WARM_STARTS:
        sources.append((config.agent, "warm_start"))
    for section, key in sources:
        path = section.get(key)
        # What is no folder is a name.
        if path is not None and os.path.isdir(os.path.expanduser(path)):
            section[key] = _absolute(path)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
