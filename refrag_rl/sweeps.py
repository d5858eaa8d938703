"""Where the runs of ``--multirun`` go: Hydra makes the folder that the user named, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

_MULTIRUN_FILE = "multirun.yaml"
"""Where Hydra writes the config of the whole multirun."""

_missing: set[Path] = set()
"""What was not there when Hydra asked for the folder of the multirun: it, and what it lies in."""


def register_resolver() -> None:
    """Make ``${sweep_folder:${output},DEFAULT}`` known to the YAML files of ``refrag_rl/conf``."""
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True)


def sweep_folder(output: str | None, default: str) -> str:
    """Return the folder that holds the folders of all jobs of a multirun.

    Args:
        output: As the user gave it; ``None``: not given.
        default: What is taken then.
    """
    folder = Path(default if output is None else output).expanduser()
    whole = folder.absolute()
    # What cannot be looked at cannot be made, either.
    with suppress(OSError):
        _missing.update(path for path in (whole, *whole.parents) if not path.exists())
    return default if output is None else str(folder)


@contextmanager
def leaving_no_empty_folders() -> Iterator[None]:
    """Remove what Hydra made for a run that ended before it wrote anything."""
    try:
        yield
    except BaseException:
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        _remove_if_empty(folder)
        if hydra.mode == RunMode.MULTIRUN:
            _remove_if_empty(folder.parent)
        raise


@contextmanager
def leaving_no_empty_sweep() -> Iterator[None]:
    """Remove the new folder of a multirun that ended before any of its jobs wrote something."""
    _missing.clear()
    try:
        yield
    except BaseException:
        for folder in sorted(_missing, reverse=True):
            _remove_if_empty(folder)
        raise


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing of a run, unless the user is in it."""
    here = Path.cwd()
    if folder.is_symlink() or here.is_relative_to(folder.absolute()):
        return
    # A folder that holds something, or cannot be removed, stays.
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [_MULTIRUN_FILE]:
            (folder / _MULTIRUN_FILE).unlink()
        folder.rmdir()
