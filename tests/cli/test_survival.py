"""``refrag_rl.train`` where something goes wrong: folders in use, full disks, NaN, damage."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refrag_rl import checkpoint_files
from refrag_rl.agents import demonstrations, gain_fitting
from refrag_rl.modeling.sequences import SequenceScorer
from tests.cli.running import InProcess

QUICK = (
    "agent=grpo",
    "agent.total_rewards=24",
    "agent.windows_per_update=2",
    "agent.group_size=2",
    "agent.policy.width=16",
    "agent.policy.heads=2",
    "evaluation.rates=[2]",
    "evaluation.heuristics=[recency]",
    "evaluation.count=2",
    "evaluation.validation_count=2",
    "evaluation.eval_every=0",
    "train_count=8",
    "env.num_envs=2",
    "budget=[2,4]",
    "save_every=4",
)


def checkpoints(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "checkpoint").iterdir()}


def require_resumable(in_process: InProcess, folder: Path) -> None:
    resumed = in_process("train", f"resume={folder}")
    assert resumed.code == 0, resumed.err
    assert (folder / "comparison.png").exists()


def test_a_folder_in_use_is_refused(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    first = in_process("train", *tiny, *QUICK, "output=run")
    assert first.code == 0, first.err
    (tmp_path / "run" / "comparison.png").unlink()
    before = checkpoints(tmp_path / "run")
    # Another description of the same file: as if another process held it.
    with (tmp_path / "run" / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = in_process("train", "resume=run")
        assert refused.code == 2
        assert "run is in use by another run (process " in refused.err
        assert len(refused.err.strip().splitlines()) == 1
        anew = in_process("train", *tiny, *QUICK, "output=run")
        assert anew.code == 2 and "runs are never mixed" in anew.err
    assert checkpoints(tmp_path / "run") == before
    require_resumable(in_process, tmp_path / "run")


def test_a_second_run_into_a_folder_that_was_just_begun_is_refused(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = in_process("train", *tiny, *QUICK, "output=run")
    assert refused.code == 2
    assert "in use by another run" in refused.err
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_write_that_finds_the_disk_full_stops_the_run(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file, written = checkpoint_files.save_file, []

    def fill(tensors: Any, path: Path, metadata: Any) -> None:
        if len(written) == 3:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        save_file(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_files, "save_file", fill)
        outcome = in_process("train", *tiny, *QUICK, "output=run")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert "the disk is full" in outcome.err
    assert "last checkpoint: run/checkpoint/000003.safetensors" in outcome.err
    assert "go on with: python -m refrag_rl.train resume=run" in outcome.err
    assert sorted(checkpoints(tmp_path / "run")) == ["000002.safetensors", "000003.safetensors"]
    require_resumable(in_process, tmp_path / "run")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 400 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        outcome = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if outcome.returncode:
        pytest.skip(f"mounting a tmpfs is not allowed here: {outcome.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_an_agent_that_keeps_no_checkpoint_loses_nothing(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    config = tmp_path / "conf" / "agent" / "plain.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("_target_: tests.cli.plain_agent.PlainAgent\ntotal_rewards: 5\n")
    own = [option for option in QUICK if not option.startswith("agent")]
    ended = in_process("train", "--config-dir", "conf", "agent=plain", *tiny, *own, "output=run")
    assert ended.code == 0, ended.err
    run = tmp_path / "run"
    assert json.loads((run / "policy" / "plain.json").read_text()) == {"seen": 5}
    assert (run / "comparison.png").exists()
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("reward/mean")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("warm_start", ["regression", "imitation"])
def test_a_signal_in_a_warm_start_stops_it_after_its_update(
    in_process: InProcess,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    warm_start: str,
) -> None:
    steps = []

    def interrupt(*arguments: Any) -> Any:
        steps.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return regression_or_imitation(*arguments)

    module = gain_fitting if warm_start == "regression" else demonstrations
    regression_or_imitation = module.gradient_step
    monkeypatch.setattr(module, "gradient_step", interrupt)
    long = (*QUICK, "agent.total_rewards=4000", f"agent.warm_start={warm_start}")
    stopped = in_process("train", *tiny, *long, "output=run")
    assert stopped.code == 128 + signal.SIGTERM
    assert "there is no checkpoint yet\ngo on with: " in stopped.err
    assert len(steps) <= max(1 + gain_fitting.REPLAY, demonstrations.STEPS_PER_UPDATE)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "run" / "config.yaml").exists()


def test_a_full_disk_leaves_the_last_checkpoint_intact(
    in_process: InProcess, tiny: tuple[str, ...], small_disk: Path
) -> None:
    folder = small_disk / "run"
    # All are kept, so that the disk fills.
    outcome = in_process("train", *tiny, *QUICK, "keep=1000", f"output={folder}")
    assert outcome.code == 1, outcome
    assert "Traceback" not in outcome.err
    assert "the disk is full" in outcome.err
    assert "last checkpoint: " in outcome.err
    saved = sorted(checkpoints(folder))
    assert saved and all(name.endswith(".safetensors") and name[0] != "." for name in saved)
    assert saved[-1] in outcome.err
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    require_resumable(in_process, folder)


def test_a_reward_that_is_not_finite_stops_the_run(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, calls = SequenceScorer.log_likelihood, []

    def broken(scorer: SequenceScorer, sequences: Any) -> list[np.ndarray]:
        scores = score(scorer, sequences)
        calls.append(len(scores))
        if list((tmp_path / "run").glob("checkpoint/000003*")):
            scores[0] = scores[0] * np.nan
        return scores

    with monkeypatch.context() as patch:
        patch.setattr(SequenceScorer, "log_likelihood", broken)
        outcome = in_process("train", *tiny, *QUICK, "output=run")
    assert outcome.code == 1
    first, second = outcome.err.strip().splitlines()
    assert "log-perplexity is nan in window " in first and "(document " in first
    assert second == "last checkpoint: run/checkpoint/000003.safetensors"
    require_resumable(in_process, tmp_path / "run")


def test_a_gradient_that_is_not_finite_stops_the_run_with_its_windows(
    in_process: InProcess, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = torch.nn.utils.clip_grad_norm_

    def broken(parameters: Any, max_norm: float) -> torch.Tensor:
        own = list(parameters)
        own[0].grad.fill_(float("nan"))
        return clip(own, max_norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", broken)
    outcome = in_process("train", *tiny, *QUICK, "output=run")
    assert outcome.code == 1
    first, second = outcome.err.strip().splitlines()
    assert "a gradient of the policy is NaN or infinite in this step" in first
    assert "in an update on the windows retrieved" in first, first
    assert second == "there is no checkpoint yet"


def test_a_damaged_newest_checkpoint_is_passed_over(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    assert in_process("train", *tiny, *QUICK, "output=run").code == 0
    folder = tmp_path / "run"
    weights = (folder / "policy" / "policy.safetensors").read_bytes()
    (folder / "comparison.png").unlink()
    newest = folder / "checkpoint" / max(checkpoints(folder))
    newest.write_bytes(newest.read_bytes()[:-10])
    resumed = in_process("train", "resume=run")
    assert resumed.code == 0, resumed.err
    (line,) = [line for line in resumed.err.splitlines() if "damaged" in line]
    assert newest.name in line and "before it is used" in line
    assert (folder / "policy" / "policy.safetensors").read_bytes() == weights
