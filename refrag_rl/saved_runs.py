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

from refrag_rl.errors import UserError, first_line
from refrag_rl.file_sizes import require_at_most

LARGEST_CONFIG = 1_000_000
"""Bytes of a ``config.yaml``; ours have some thousand."""

LARGEST_JSON = 64_000_000
"""Bytes of a JSON file of a run; a row of a comparison has some hundred."""

_DEEPEST = 40

_NO_CONFIG = (
    OSError,
    ValueError,
    yaml.YAMLError,
    OmegaConfBaseException,
    # Of YAML's own constructors, for a tag before what is none of its kind, as in ``!!int ""``.
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
)
"""What reading a config raises that is none."""


def refuse_links(folder: Path) -> None:
    """Check that a run's folder holds files and folders alone.

    What is written into it stays in it where nothing is a link; opening a named pipe waits for
    ever.

    Raises:
        UserError: Something is neither.
    """
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise UserError(
                f"{path} is a link; a run's folder must hold all that is its own\n"
                "put a copy of what it leads to in its place, if that is what you want"
            )
        if not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is neither a file nor a folder; remove it")


def read_config(path: Path) -> Any:
    """Return the content of a run's ``config.yaml``, interpolations as they stand there.

    Raises:
        UserError: It is missing, too large, or not as a run writes it.
    """
    try:
        require_at_most(path, LARGEST_CONFIG)
        text = path.read_text(encoding="utf-8")
        _check_depth(text, path)
        return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except UserError:
        raise
    except _NO_CONFIG as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file of a run holds.

    Raises:
        UserError: It is missing, too large, or no JSON.
    """
    try:
        require_at_most(path, LARGEST_JSON)
        return json.loads(path.read_text(encoding="utf-8"))
    except UserError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error


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
