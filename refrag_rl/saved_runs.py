"""What a run's folder holds, read as what a stranger may have written.

Run folders are passed on. Nothing in one may lead out of it, and its ``config.yaml`` is as a run of
ours writes it: plain values, without the anchors by which a small YAML file becomes a huge one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from refrag_rl.errors import UserError

_MOST_BYTES = 1_000_000
_DEEPEST = 40


def refuse_links(folder: Path) -> None:
    """Check that nothing in a run's folder is a link: what is written into it stays in it.

    Raises:
        UserError: Something is.
    """
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise UserError(
                f"{path} is a link; a run's folder must hold all that is its own\n"
                "put a copy of what it leads to in its place, if that is what you want"
            )


def read_config(path: Path) -> Any:
    """Return the content of a run's ``config.yaml``, interpolations as they stand there.

    Raises:
        UserError: It is missing, too large, or not as a run writes it.
    """
    try:
        text = _read_text(path)
        _check_depth(text, path)
        return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except UserError:
        raise
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file of a run holds.

    Raises:
        UserError: It is missing, or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _read_text(path: Path) -> str:
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} is larger than any config that a run writes")
    return path.read_text(encoding="utf-8")


def _check_depth(text: str, path: Path) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{path} holds the alias *{event.anchor}; a run writes none")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise UserError(f"{path} is nested deeper than any config that a run writes")
