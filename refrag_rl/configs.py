"""Composed configs: checked before anything is loaded, and what is wrong with them in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from refrag_rl.bounds import check_ranges
from refrag_rl.errors import UserError
from refrag_rl.schema import register

_OPTIONS = re.compile(
    r"Could not find '(.+?)/([^/']*)'\s+Available options in '.+?':\n((?:\t.+\n?)*)"
)
_NOT_FOUND = re.compile(r"Could not find '(.+?)'")
_UNKNOWN_KEY = re.compile(r"Key '(.+?)' (?:is not in struct|not in ')")


def compose_apart(
    config_name: str, overrides: Sequence[str], values: Mapping[str, object] | None = None
) -> DictConfig:
    """Compose and check the config of a command that is not run.

    Args:
        config_name: Name of the primary config in ``refrag_rl/conf``.
        overrides: As on the command line.
        values: By key; set as they are, after the overrides.

    Raises:
        UserError: A key or a value is none that the command takes.
    """
    register()
    # The caller may be inside a Hydra application, whose state is left as it is.
    state = GlobalHydra.get_state()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("refrag_rl.conf", version_base="1.3"):
            config = compose(config_name, list(overrides))
        for key, value in (values or {}).items():
            OmegaConf.update(config, key, value)
        check_config(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(describe(error)) from error
    finally:
        GlobalHydra.set_state(state)
    return config


def overridden_key(override: str) -> str:
    """Return the key that an override such as ``+windows.seed=1`` is for."""
    return override.partition("=")[0].strip().lstrip("+~")


def check_config(config: DictConfig) -> None:
    """Check a composed config before anything is loaded.

    Raises:
        OmegaConfBaseException: A value is missing, or an interpolation is wrong.
        UserError: A key is unknown, or a number is out of its range.
    """
    check_keys(config)
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    check_ranges(config)


def check_keys(config: DictConfig) -> None:
    """Refuse keys that ``+key=value`` added where the schema knows all keys.

    Raises:
        UserError: Such a key; the choices are listed.
    """
    known = OmegaConf.get_type(config)
    if is_dataclass(known):
        names = set(known.__dataclass_fields__)
        for key in config:
            if str(key) not in names:
                raise UserError(unknown_key(str(config._get_full_key(key)), str(key), names))
    for key in config:
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            check_keys(node)


def unknown_key(full_key: str, key: str, choices: Iterable[str]) -> str:
    """Return the message for a key that does not exist."""
    names = sorted(name for name in choices if name not in ("hydra", "_target_"))
    if not names:
        return f"there is no key {full_key}: {full_key.rpartition('.')[0]} has no settings"
    return f"there is no key {full_key}{suggestion(key, names)}\nchoices: {', '.join(names)}"


def suggestion(given: str, choices: Iterable[str]) -> str:
    """Return ``; did you mean X?`` where one of the choices is close, else nothing."""
    close = difflib.get_close_matches(given, list(choices), n=1)
    return f"; did you mean {close[0]}?" if close else ""


_ADVICE = {
    r"Ambiguous value for argument": "several values are several runs: add --multirun, or give one",
    r"Could not override '[^']*'": "this command has no such group; --help shows those that it has",
    r"appears more than once in the final defaults list": "it has a value already: leave out the +",
}
"""What to do, by what Hydra's message says."""


def describe(error: Exception) -> str:
    """Return an error of Hydra or OmegaConf in one or two lines.

    Args:
        error: Raised while the config was composed or read.

    Returns:
        What was given and, where the error knows them, the choices.
    """
    cause: BaseException = error.__cause__ or error
    text = str(error)
    if isinstance(cause, MissingMandatoryValue):
        key = str(cause.full_key)
        return f"{key} is missing; give {key}=..."
    if isinstance(cause, OmegaConfBaseException):
        return _describe_config_error(cause, text)
    if isinstance(error, OverrideParseException):
        reason = without_advice(text)
        return f"{error.override}: this is not key=value in Hydra's grammar ({reason})"
    options = _OPTIONS.search(text)
    if options:
        group, given = options[1], options[2]
        names = [name.strip() for name in options[3].strip().splitlines()]
        return f"there is no {group}={given}{suggestion(given, names)}\nchoices: {', '.join(names)}"
    for pattern, advice in _ADVICE.items():
        if re.search(pattern, text):
            return f"{without_advice(text)}\n{advice}"
    missing = _NOT_FOUND.search(text)
    if missing:
        return f"there is no config {missing[1]}"
    return without_advice(text)


def without_advice(text: str) -> str:
    """Return the first line of a message that says something, without Hydra's advice."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first.split(", set env var HYDRA_FULL_ERROR")[0]


def _describe_config_error(error: OmegaConfBaseException, context: str) -> str:
    first = without_advice(str(error.msg or error))
    unknown = _UNKNOWN_KEY.search(first)
    parent: Any = error.parent_node
    if unknown and isinstance(parent, DictConfig):
        return unknown_key(str(error.full_key), unknown[1], (str(key) for key in parent))
    given = re.search(r"override (.+)", context)
    return f"{given[1] if given else error.full_key}: {first}{_list_wanted(first)}"


def _list_wanted(message: str) -> str:
    """Return what to give where OmegaConf's message says only that it is no list."""
    if "is not a ListConfig" in message:
        return "; give a list, as in [a, b]"
    if "Cannot merge DictConfig with ListConfig" in message:
        return "; give a value or a list, not keys"
    return ""
