"""What all commands share: Hydra, and the user's mistakes in one or two lines with exit code 2."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from refrag_rl.configs import check_config, describe, suggestion, without_advice
from refrag_rl.errors import FullDiskError, NotFiniteError, StoppedError, UserError, first_line
from refrag_rl.full_disk import is_full_disk, said_by_the_main_thread
from refrag_rl.full_memory import is_out_of_memory
from refrag_rl.printable import message as as_message
from refrag_rl.run_lock import release_all
from refrag_rl.schema import register
from refrag_rl.stopping import stopping_at_once
from refrag_rl.sweeps import (
    leaving_no_empty_folders,
    leaving_no_empty_sweep,
    register_resolver,
)

EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
_SIGNALLED = 128
_ONE_RUN = ("pretrain", "inspect")
"""Commands whose output is not a folder for each job."""
_QUIET = "verbose=false"
"""What ``-q`` stands for; Hydra knows no options besides its own."""


def run_command(
    task: Callable[[DictConfig], None], config_name: str, command: str | None = None
) -> None:
    """Compose the config from the command line and run the task.

    ``UserError``, the errors of Hydra and OmegaConf, files that the system refuses and too little
    memory are said in at most three lines, without a traceback, and end the process with code 2;
    Ctrl-C ends it with 130, SIGTERM with 143; a full disk and numbers that are not finite with 1.
    Anything else is a fault of the program and keeps its traceback.

    Args:
        task: Receives the composed config.
        config_name: Name of the primary config in ``refrag_rl/conf``.
        command: Name in messages to the user; ``None``: ``config_name``.
    """
    command = command or config_name
    sys.argv[1:] = [_QUIET if word == "-q" else word for word in sys.argv[1:]]
    # Hydra prints errors itself, in many lines, unless it is told to raise them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register()
    register_resolver()
    started = False

    def checked_task(config: DictConfig) -> None:
        nonlocal started
        started = True
        # Caught here, too: Hydra writes a line of its own about every Exception that passes it.
        with leaving_no_empty_folders(), _user_errors(command):
            check_config(config)
            task(config)

    main = hydra.main(
        version_base="1.3", config_path="pkg://refrag_rl.conf", config_name=config_name
    )

    def compose_and_run() -> None:
        try:
            main(checked_task)()
        except SystemExit as end:
            # Hydra ends so, after a line about it, where it cannot show what it was asked to.
            if started or end.code != EXIT_FAILURE:
                raise
            sys.exit(EXIT_USER_ERROR)
        except (HydraException, OmegaConfBaseException, YAMLError, OSError):
            raise
        except Exception as error:
            # Hydra raises all kinds for options of its own that it cannot use.
            if started:
                raise
            given = " ".join(sys.argv[1:])
            raise UserError(f"this cannot be used: {_reason(error)}\ngiven: {given}") from error

    try:
        with stopping_at_once(), said_by_the_main_thread(), _user_errors(command):
            multirun = _check_options(sys.argv[1:])
            if multirun and command in _ONE_RUN:
                raise UserError("--multirun: this command makes one run; give it once for each")
            with leaving_no_empty_sweep():
                compose_and_run()
                if multirun and not started:
                    raise UserError("--multirun: the values that were given make no job; give some")
    finally:
        release_all()
        GlobalHydra.instance().clear()


def run_one_of(
    tasks: Mapping[str, Callable[[DictConfig], None]], command: str, default: str
) -> None:
    """Run the task that the first argument of the command line names.

    The word is taken from the command line; what follows it is Hydra's. Mistakes end the process as
    in ``run_command``.

    Args:
        tasks: By word. The primary config of a task is ``<command>_<word>``.
        command: Name of the command.
        default: Word that is meant where the first argument is none, but an option or key=value.
    """
    word = default
    if len(sys.argv) > 1 and re.fullmatch(r"\w[\w-]*", sys.argv[1]):
        word = sys.argv.pop(1)
    if word not in tasks:
        message = f"there is no {command} {word}{suggestion(word, tasks)}"
        _exit(command, f"{message}\nchoices: {', '.join(tasks)}", EXIT_USER_ERROR)
    run_command(tasks[word], f"{command}_{word}", f"{command} {word}")


def _check_options(words: Sequence[str]) -> bool:
    """Check the words of the command line that are Hydra's options; return whether to multirun.

    Raises:
        UserError: One is unknown, lacks its value, or has one that is not among the choices.
    """

    def refuse(message: str) -> NoReturn:
        if message.startswith("unrecognized arguments") and "=" in message:
            raise UserError(f"{message}\ngive options such as --multirun before key=value")
        raise UserError(f"{message}\n--hydra-help shows the options that begin with a dash")

    parser = get_args_parser()
    # As it is, it says so below a usage of many lines.
    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_args(words)
    if options.experimental_rerun is not None:
        raise UserError("--experimental-rerun reads a pickle, which could run code; use resume=")
    return bool(options.multirun)


@contextmanager
def _user_errors(command: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        _exit(command, str(error), EXIT_USER_ERROR)
    except (HydraException, OmegaConfBaseException) as error:
        _exit(command, describe(error), EXIT_USER_ERROR)
    except KeyboardInterrupt:
        _exit(command, "interrupted", _SIGNALLED + signal.SIGINT)
    except StoppedError as error:
        _exit(command, str(error), _SIGNALLED + error.signal)
    except (FullDiskError, NotFiniteError) as error:
        _exit(command, str(error), EXIT_FAILURE)
    except YAMLError as error:
        _exit(command, f"a config is no YAML: {' '.join(str(error).split())}", EXIT_USER_ERROR)
    except OSError as error:
        if is_full_disk(error):
            _exit(command, f"the disk is full ({error})", EXIT_FAILURE)
        if error.filename is None:
            raise
        # A file or folder that the user named, or that the system keeps from the user.
        _exit(command, f"{error.filename}: {error.strerror}", EXIT_USER_ERROR)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        advice = "give smaller windows, batches (refrag.batch_tokens) or a smaller model"
        _exit(command, f"not enough memory: {first_line(error)}\n{advice}", EXIT_USER_ERROR)


def _exit(command: str, message: str, code: int) -> NoReturn:
    if message:
        print(f"refrag_rl.{command}: {as_message(message)}", file=sys.stderr)
    sys.exit(code)


def _reason(error: Exception) -> str:
    first = without_advice(str(error))
    return first if isinstance(error, ValueError) and first else f"{type(error).__name__} {first}"
