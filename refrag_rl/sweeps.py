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


def register_resolver() -> None:
    """Make ``${sweep_folder:${output},DEFAULT}`` known to the YAML files of ``refrag_rl/conf``."""
    OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True)


def sweep_folder(output: str | None, default: str) -> str:
    """Return the folder that holds the folders of all jobs of a multirun.

    Args:
        output: As the user gave it; ``None``: not given.
        default: What is taken then.
    """
    return default if output is None else str(Path(output).expanduser())


@contextmanager
def leaving_no_empty_folders() -> Iterator[None]:
    """Remove what Hydra made for a job of a multirun that ended before it wrote anything."""
    try:
        yield
    except BaseException:
        hydra = HydraConfig.get()
        if hydra.mode == RunMode.MULTIRUN:
            _remove_if_empty(Path(hydra.runtime.output_dir))
        raise


def _remove_if_empty(job: Path) -> None:
    # A folder that holds something, or cannot be removed, stays.
    with suppress(OSError):
        job.rmdir()
        if [path.name for path in job.parent.iterdir()] == [_MULTIRUN_FILE]:
            (job.parent / _MULTIRUN_FILE).unlink()
            job.parent.rmdir()
