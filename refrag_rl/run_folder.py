"""The folder of a run: new or empty, with what is needed to make the run again."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from refrag_rl import __version__
from refrag_rl.atomic import write_text
from refrag_rl.errors import UserError
from refrag_rl.run_lock import LOCK_FILE, hold

CONFIG_FILE = "config.yaml"
METADATA_FILE = "metadata.json"

_PACKAGES = ("torch", "transformers", "gymnasium", "stable-baselines3", "sb3-contrib", "numpy")


def choose_run_folder(config: DictConfig, label: str) -> Path:
    """Return the folder that a run will write to, without making it.

    Args:
        config: Its ``output`` is the folder; ``None`` is ``runs/<date-time>-<label>``. In a
            multirun it is the job's number in ``output``, or in ``runs/<date-time>-multirun``,
            which Hydra makes (``refrag_rl.sweeps``).
        label: What the run is about, such as the agent's name.

    Raises:
        UserError: The folder holds something already, is a file, or cannot be written to.
    """
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        folder = Path(hydra.runtime.output_dir)
    elif config.output is not None:
        folder = Path(config.output).expanduser()
    else:
        folder = Path("runs") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{label}"
    _check_free(folder)
    return folder.absolute()


def _check_free(folder: Path) -> None:
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"output={folder} is a file; give a new or empty folder")
        if folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
            raise UserError(
                f"output={folder} is not empty; give a new or empty folder, runs are never mixed"
            )
        parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:
        raise UserError(f"output={folder} cannot be used: {error.strerror}") from error
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"output={folder} cannot be made: {parent} is no folder to write to")


def shown(folder: Path) -> Path:
    """Return a folder as a user would write it: relative where it is below the current one."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def create_run_folder(folder: Path, config: DictConfig, **facts: Any) -> None:
    """Make the folder, lock it, write the config and the circumstances of the run into it.

    Args:
        folder: From ``choose_run_folder``.
        config: Written with every interpolation resolved.
        **facts: Further entries of ``metadata.json``.

    Raises:
        UserError: The folder was taken in the meantime, or cannot be made or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={folder} cannot be made: {error.strerror}") from error
    hold(folder)
    # Another run may have begun and ended in it since it was checked.
    _check_free(folder)
    write_text(folder / CONFIG_FILE, OmegaConf.to_yaml(config, resolve=True))
    described = {**describe_circumstances(), "seed": config.seed, **facts}
    text = json.dumps(described, indent=1, ensure_ascii=False)
    write_text(folder / METADATA_FILE, text + "\n")


@contextmanager
def leaving_no_trace_of_a_mistake(
    folder: Path,
    begun: Callable[[], bool] = lambda: False,
    *,
    errors: tuple[type[BaseException], ...] = (UserError,),
) -> Iterator[None]:
    """Remove the folder of a new run that a mistake of its user ends before anything is in it.

    Args:
        folder: Of a run that this process has made.
        begun: Whether there is something to keep, such as a checkpoint.
        errors: What counts as one; with ``KeyboardInterrupt`` and ``StoppedError`` where a run
            cannot be gone on with.

    Raises:
        BaseException: As it came.
    """
    try:
        yield
    except errors:
        if not begun():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def describe_circumstances() -> dict[str, Any]:
    """Return versions, commit (``None`` outside a checkout), hardware and time of this run."""
    import torch

    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "refrag_rl": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _commit() -> str | None:
    """Return the commit of the checkout that the package lies in, marked where it was changed."""
    package = Path(__file__).parent
    command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # Without this test an installed package would report the commit of whatever surrounds it.
        inside = subprocess.run(
            ["git", "-C", str(package), "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True,
            check=False,
        )
        if inside.returncode != 0:
            return None
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() or None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
