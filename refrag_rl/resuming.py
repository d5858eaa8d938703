"""Going on with a run of ``refrag_rl.train`` that was stopped.

Everything comes from the run's ``config.yaml``. A run folder may come from anyone, so its config
names no class but those of the package's own configs, and holds no interpolations.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.table import Table

from refrag_rl import conf
from refrag_rl.bounds import check_ranges
from refrag_rl.configs import describe
from refrag_rl.errors import UserError, first_line
from refrag_rl.evaluation.report import LAST_FILE, ROWS_FILE
from refrag_rl.evaluation.stored_rows import checked_rows
from refrag_rl.evaluation.tables import comparison_tables
from refrag_rl.page.run_report import REPORT_FILE
from refrag_rl.run_folder import CONFIG_FILE, METADATA_FILE
from refrag_rl.saved_runs import read_config, read_json, refuse_links
from refrag_rl.schema import TrainConfig

OPEN_SECTIONS = ("agent", "corpus", "refrag", "windows")
"""Sections of the config that name the class they are for."""


def resumed_run(given: str) -> tuple[Path, DictConfig]:
    """Return the folder and the config of a run to go on with.

    Args:
        given: ``resume`` of the command line; nothing else may stand there but ``verbose``.

    Raises:
        UserError: Something else does, the folder is no run of ``refrag_rl.train``, or its config
            is damaged or names a class from outside the package.
    """
    overrides = HydraConfig.get().overrides.task
    others = [each for each in overrides if not each.startswith(("resume=", "verbose="))]
    if others:
        raise UserError(
            f"resume={given} takes every setting from the run; leave out {' '.join(others)}"
        )
    folder = Path(given).expanduser().absolute()
    try:
        metadata = read_json(folder / METADATA_FILE)
        saved = read_config(folder / CONFIG_FILE)
    except UserError as error:
        raise UserError(f"resume={given} is no run that can be read: {error}") from error
    refuse_links(folder)
    if not isinstance(metadata, dict) or metadata.get("command") != "train":
        raise UserError(f"resume={given} is no run of refrag_rl.train; give a folder that it made")
    _check_safe(saved, folder / CONFIG_FILE)
    try:
        config = OmegaConf.merge(OmegaConf.structured(TrainConfig), saved)
        OmegaConf.to_container(config, throw_on_missing=True)
        assert isinstance(config, DictConfig)
        wrong = [name for name in OPEN_SECTIONS if not isinstance(config[name], DictConfig)]
        if wrong:
            raise UserError(f"{', '.join(wrong)} must be a section with keys; give an intact run")
        check_ranges(config)
    except UserError as error:
        raise UserError(f"{folder / CONFIG_FILE}: {error}") from error
    except (OmegaConfBaseException, ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{folder / CONFIG_FILE}: {describe(error)}") from error
    return folder, config


def finished_tables(folder: Path) -> list[Table]:
    """Return the tables of the run's final comparison; none if it or the page was not reached.

    Raises:
        UserError: Its file is damaged.
    """
    if not ((folder / LAST_FILE).exists() and (folder / REPORT_FILE).exists()):
        return []
    try:
        return comparison_tables(checked_rows(read_json(folder / ROWS_FILE)))
    except ValueError as error:
        raise UserError(
            f"{folder / ROWS_FILE} holds no comparison ({first_line(error)}); "
            f"remove {LAST_FILE} beside it to have it made again"
        ) from error


def _check_safe(saved: object, path: Path) -> None:
    for key, value in _leaves(saved):
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{path}: {key}={value}; a saved config holds no interpolations")
        section, _, name = key.rpartition(".")
        if name == "_target_" and value not in _own_targets(section):
            raise UserError(
                f"{path}: {key}={value} is no class of refrag_rl's own configs, and none is "
                "imported\nbecause a saved config says so; only runs of the package's own classes "
                "can be resumed"
            )


def _leaves(node: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Return the values inside lists and dictionaries with their dotted keys."""
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in items:
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _own_targets(section: str) -> set[object]:
    """Return the classes that the package's configs name in a section, such as ``agent``."""
    if section not in OPEN_SECTIONS:
        return set()
    files = (Path(conf.__file__).parent / section).glob("*.yaml")
    return {OmegaConf.select(OmegaConf.load(file), "_target_") for file in files}
