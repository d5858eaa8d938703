"""A problem without a command: what ``gymnasium.make`` composes where none is given."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from refrag_rl.composition import (
    build_problem,
    build_refrag,
    build_windows,
    load_documents,
    require_split,
)
from refrag_rl.configs import compose_apart, overridden_key
from refrag_rl.corpora.documents import Split
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.errors import UserError
from refrag_rl.observation import Inputs


def default_problem(
    *,
    corpus: str = "docs",
    windows: str = "retrieved",
    refrag: str = "tiny-k16",
    split: Split = "train",
    count: int = 1000,
    seed: int = 0,
    overrides: Sequence[str] = (),
    **options: Any,
) -> ExpansionProblem:
    """Compose a problem without a command: what ``gymnasium.make`` does without ``problem=``.

    The model and the windows are kept, so that making an environment again costs nothing.

    Args:
        corpus: Name of a config of the group ``corpus``.
        windows: Name of a config of the group ``windows``.
        refrag: A checkpoint folder, or the name of an embedded one.
        split: Documents that windows are cut from.
        count: How many windows.
        seed: Of the windows.
        overrides: Further settings as on the command line, such as ``"corpus.path=notes.txt"``.
        **options: ``budget``, ``reward``, ``reward_baseline`` of ``ExpansionProblem``;
            ``chunk_embeddings`` and ``features`` of ``Inputs``.

    Raises:
        UserError: A name or an option is none of those allowed.
    """
    if isinstance(overrides, str) or not all(isinstance(each, str) for each in overrides):
        raise UserError(f"overrides={overrides!r}: give a list, such as ['corpus.path=notes.txt']")
    if not isinstance(refrag, str | os.PathLike):
        raise UserError(f"refrag={refrag!r}: give a checkpoint folder or the name of one")
    for override in overrides:
        _require_of_an_environment(override)
    asked = {
        name: options.pop(name) for name in ("chunk_embeddings", "features") if name in options
    }
    if asked:
        options["inputs"] = Inputs(**asked)
    unknown = set(options) - {"budget", "reward", "reward_baseline", "inputs"}
    if unknown:
        raise UserError(
            f"there is no option {', '.join(sorted(unknown))}\nchoices: budget, chunk_embeddings, "
            "corpus, count, features, overrides, refrag, reward, reward_baseline, seed, split, "
            "windows"
        )
    problem = _composed_problem(
        (f"corpus={corpus}", f"windows={windows}", *overrides),
        os.path.abspath(refrag) if os.path.isdir(refrag) else refrag,
        split,
        count,
        seed,
    )
    return problem.variant(**{"budget": "4x", **options})


_ARGUMENTS = {"corpus.split": "split", "seed": "seed", "count": "count", "refrag.path": "refrag"}
"""Of ``default_problem``, by the key of the command line that they stand for."""
_OF_AN_ENVIRONMENT = ("corpus", "windows", "refrag")
"""Sections of the command line's config that make an environment."""


def _require_of_an_environment(override: str) -> None:
    """Refuse an override that would have no effect.

    Raises:
        UserError: It is one.
    """
    key = overridden_key(override)
    if key in _ARGUMENTS:
        raise UserError(f"overrides: {override} has no effect; give {_ARGUMENTS[key]}=...")
    if key.partition(".")[0] not in _OF_AN_ENVIRONMENT:
        raise UserError(
            f"overrides: {override} has no effect on an environment; give keys of "
            f"{', '.join(_OF_AN_ENVIRONMENT)}"
        )


@functools.lru_cache(maxsize=2)
def _composed_problem(
    overrides: tuple[str, ...], path: str, split: Split, count: int, seed: int
) -> ExpansionProblem:
    values = {"refrag.path": path, "count": count, "seed": seed}
    config = compose_apart("evaluate", overrides, values)
    refrag = build_refrag(config.refrag)
    documents = load_documents(config.corpus)
    source = build_windows(
        config.windows,
        documents,
        require_split(split),
        refrag,
        count=count,
        seed=seed,
        each_domain=False,
    )
    return build_problem(source, refrag)
