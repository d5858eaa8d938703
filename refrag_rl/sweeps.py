"""Where the runs of ``--multirun`` go: Hydra makes the folder that the user named."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf


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
