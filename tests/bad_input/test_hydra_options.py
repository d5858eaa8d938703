"""Hydra's own options on the command line, given in ways that it cannot use."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from tests.bad_input.checking import check_refused
from tests.bad_input.damage import Executed
from tests.cli.running import InProcess

COMMAND_LINES: dict[str, tuple[str, ...]] = {
    "dir-missing": ("--config-dir", "nowhere"),
    "dir-without-value": ("--config-dir",),
    "name": ("--config-name", "x"),
    "name-above": ("--config-name", "../x"),
    "path": ("--config-path", "nowhere"),
    "info": ("--info", "bogus"),
    "cfg": ("--cfg", "bogus"),
    "option": ("--bogus",),
    "option-after-q": ("-q", "--bogus"),
    "completion": ("-sc", "install=foo"),
    "two-modes": ("--run", "--multirun"),
    "key": ("hydra.bogus=1",),
    "group": ("hydra=bogus",),
    "mode": ("hydra.mode=bogus",),
    "run-folder": ("hydra.run.dir=/dev/null/x",),
    "run-folder-null": ("hydra.run.dir=null",),
    "run-folder-interpolated": ("hydra.run.dir=${nothing}",),
    "config-folder": ("hydra.output_subdir=/dev/null/x",),
    "search-path": ("hydra.searchpath=[5]",),
    "verbose": ("hydra.verbose={a: b}",),
    "environment": ("hydra.job.env_copy=[NOTHING_OF_THAT_NAME]",),
    "logging": ("hydra.job_logging.handlers=5",),
    "logging-version": ("hydra.job_logging.version=7",),
    "sweeper": ("--multirun", "hydra/sweeper=bogus"),
    "sweeper-null": ("--multirun", "hydra.sweeper=null"),
    "sweeper-target": ("--multirun", "hydra.sweeper._target_=os.mkdir"),
    "sweeper-batches": ("--multirun", "hydra.sweeper.max_batch_size=-1"),
    "launcher": ("--multirun", "hydra/launcher=bogus"),
    "launcher-null": ("--multirun", "hydra.launcher=null"),
    "launcher-target": ("--multirun", "hydra.launcher._target_=bogus"),
    "sweep-folder": ("--multirun", "hydra.sweep.dir=/dev/null/x"),
    "sweep-output": ("--multirun", "output=/dev/null/x"),
    "sweep-value": ("--multirun", "seed=1,x"),
    "sweep-choice": ("--multirun", "agent=ppo,pppo"),
    "sweep-key": ("--multirun", "bogus=1,2"),
    "sweep-range": ("--multirun", "seed=range(1,3,0)"),
    "sweep-of-none": ("--multirun", "seed=range(1,0)"),
    "sweep-of-no-names": ("--multirun", "seed=glob(*)", "output=out/inner"),
}


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_an_option_that_cannot_be_used(in_process: InProcess, tmp_path: Path, name: str) -> None:
    check_refused(in_process("train", *COMMAND_LINES[name]), tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("package", ["nothing", "agent.nothing"])
def test_a_part_of_the_config_that_is_not_there(in_process: InProcess, package: str) -> None:
    outcome = in_process("train", "--cfg", "job", "--package", package)
    assert outcome.code == 2
    assert len(outcome.err.strip().splitlines()) == 1


def test_a_run_that_hydra_pickled_is_not_read(in_process: InProcess, tmp_path: Path) -> None:
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(Executed()))
    check_refused(in_process("train", "--experimental-rerun", "config.pickle"), tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("hydra.run.dir=inner",),
        ("--multirun", "output=inner"),
        ("--multirun", "output=inner/deeper"),
        ("--multirun", "hydra.sweep.dir=inner"),
    ],
)
def test_folders_that_hydra_made_are_not_left(
    in_process: InProcess, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    check_refused(in_process("train", "agent=random", "train_count=-1", *arguments), tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_folder_that_the_user_is_in_is_left(in_process: InProcess, tmp_path: Path) -> None:
    given = ("--multirun", "hydra.sweep.dir=.", "agent=random", "train_count=-1")
    check_refused(in_process("train", *given), tmp_path)
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("agent=ppo,grpo",), "--multirun"),
        (("+agent=ppo",), "leave out the +"),
        (("seed=1", "--multirun", "output=x"), "options such as --multirun before"),
    ],
)
def test_hydra_s_own_words_come_with_advice(
    in_process: InProcess, tmp_path: Path, words: tuple[str, ...], advice: str
) -> None:
    outcome = in_process("train", *words)
    check_refused(outcome, tmp_path)
    assert advice in outcome.err
