"""From what a user writes to a selector."""

from __future__ import annotations

from pathlib import Path

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.agents.selector import Selector
from refrag_rl.errors import UserError
from refrag_rl.policies.storage import is_policy_folder

POLICY_FOLDER = "policy"
"""Folder inside a run's folder that holds its policy."""


def find_policy(path: str | Path) -> Path | None:
    """Return the policy folder that a path means: itself, or the one in a run's folder."""
    folder = Path(path).expanduser()
    candidates = (folder, folder / POLICY_FOLDER)
    return next((candidate for candidate in candidates if is_policy_folder(candidate)), None)


def load_selector(path_or_name: str | Path, embedding_size: int | None = None) -> Selector:
    """Return the selector of a name or a folder.

    Args:
        path_or_name: Name of a heuristic, a policy folder, or a run's folder with ``policy/`` in
            it.
        embedding_size: Width of the chunk embeddings that a policy shall read; None checks later.

    Raises:
        UserError: It is none of these, or the policy there cannot be used.
    """
    heuristic = HEURISTICS.get(str(path_or_name))
    if heuristic is not None:
        return heuristic()
    folder = find_policy(path_or_name)
    if folder is not None:
        return PolicySelector.load(folder, embedding_size)
    if Path(path_or_name).is_dir():
        raise UserError(
            f"selector {str(path_or_name)!r} is a folder without a policy; give a run folder, or a "
            f"policy folder.\nA run that was stopped: python -m refrag_rl.train "
            f"resume={path_or_name}"
        )
    raise UserError(
        f"unknown selector {str(path_or_name)!r}; give a run folder, a policy folder, or one of "
        f"{', '.join(HEURISTICS)}"
    )
