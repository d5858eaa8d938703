"""``refrag_rl.train resume=...``: as if the run had never been stopped; refused where unsafe."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.cli.running import InProcess, Outcome
from tests.conftest import ROOT

QUICK = (
    "evaluation.rates=[2]",
    "evaluation.heuristics=[random,recency]",
    "evaluation.count=4",
    "evaluation.validation_count=2",
    "evaluation.eval_every=256",
    "train_count=60",
    "env.num_envs=8",
    "budget=[2,4]",
    "agent.total_rewards=640",
    "save_every=256",
)
SAME_FILES = ("policy/policy.safetensors", "policy/policy.json", "comparison.json")


def kill_after_its_first_checkpoint(folder: Path, *arguments: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "refrag_rl.train", *arguments, f"output={folder}"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),  # as the others, for equal sums
        },
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not list((folder / "checkpoint").glob("*.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith("time/") and "per_second" not in tag
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "options"),
    [
        ("ppo", ()),
        ("grpo", ()),
        ("imitation", ()),
        ("regression", ("agent.replay=3", "agent.on_policy=0.5")),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    in_process: InProcess,
    tiny: tuple[str, ...],
    tmp_path: Path,
    agent: str,
    options: tuple[str, ...],
) -> None:
    arguments = (f"agent={agent}", *options, *tiny, *QUICK)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert in_process("train", *arguments, "output=whole").code == 0
    kill_after_its_first_checkpoint(killed, *arguments)
    assert not (killed / "policy").exists()
    resumed = in_process("train", "resume=killed")
    assert resumed.code == 0, resumed.err
    for name in SAME_FILES:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert curves(killed) == curves(whole)
    assert {"reward/mean", f"comparison/all/2/{agent}"} <= curves(killed).keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "policy"),
    [("start_from", ()), ("agent.warm_start", ()), ("start_from", ("agent.policy=null",))],
)
def test_a_killed_run_goes_on_without_the_policy_that_it_started_from(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, key: str, policy: tuple[str, ...]
) -> None:
    first = ("agent=regression", "agent.policy.width=16", "agent.policy.heads=2")
    assert in_process("train", *first, *tiny, *QUICK, "output=first").code == 0
    # Its own options, which are not those of the policy, have no effect.
    arguments = ("agent=grpo", f"{key}={tmp_path / 'first'}", *policy, *tiny, *QUICK)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    relative = [argument.replace(f"{tmp_path}/first", "first") for argument in arguments]
    assert in_process("train", *relative, "output=whole").code == 0
    # So that it can be gone on with from any folder.
    assert f"{key.rpartition('.')[2]}: {tmp_path / 'first'}" in (whole / "config.yaml").read_text()
    assert json.loads((whole / "policy" / "policy.json").read_text())["config"]["width"] == 16
    kill_after_its_first_checkpoint(killed, *arguments)
    shutil.rmtree(tmp_path / "first")
    resumed = in_process("train", "resume=killed")
    assert resumed.code == 0, resumed.err
    for name in SAME_FILES:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_run_goes_on_with_its_own_corpus_and_model_only(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = dict(each.split("=", 1) for each in tiny)
    corpus, model = tmp_path / "own.jsonl", tmp_path / "own-model"
    shutil.copy(given["corpus.path"], corpus)
    shutil.copytree(given["refrag.path"], model)
    own = (*tiny, "corpus.path=own.jsonl", "refrag.path=own-model")
    assert in_process("train", "agent=recency", *own, *QUICK[:3], "output=run").code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def resumed() -> Outcome:
        (tmp_path / "run" / "report.html").unlink(missing_ok=True)
        return in_process("train", "resume=../run")

    assert resumed().code == 0
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join(lines[:-1]))
    outcome = resumed()
    assert outcome.code == 2 and "begun with other documents" in outcome.err
    corpus.write_text("\n".join(lines))
    assert resumed().code == 0
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if name.startswith("decoder."))
    weights[name] = weights[name] * 1.5
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    outcome = resumed()
    assert outcome.code == 2 and "other weights of refrag.path" in outcome.err


def test_a_run_that_was_stopped_in_its_comparison_and_one_that_is_finished(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    first = in_process("train", "agent=recency", *tiny, *QUICK[:3], "output=run")
    assert first.code == 0, first.err
    rows = (folder / "comparison.json").read_bytes()
    for name in ("comparison.json", "comparison.png"):
        (folder / name).unlink()
    resumed = in_process("train", "resume=run")
    assert resumed.code == 0, resumed.err
    assert (folder / "comparison.json").read_bytes() == rows
    before = (folder / "comparison.json").stat().st_mtime_ns
    finished = in_process("train", "resume=run")
    assert finished.code == 0, finished.err
    assert "recency" in finished.out and "is finished" in finished.out
    assert (folder / "comparison.json").stat().st_mtime_ns == before
    # The page comes after all else: a run that was stopped before it is not finished.
    (folder / "report.html").unlink()
    assert in_process("train", "resume=run", "-q").code == 0
    assert (folder / "report.html").exists()


def test_a_heuristic_starts_from_no_policy(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    outcome = in_process("train", "agent=recency", *tiny, "start_from=nowhere", "output=run")
    assert outcome.code == 2
    assert "start_from=nowhere: agent recency learns nothing" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "arguments", "said"),
    [
        (None, [], ["resume=run", "no run", "No such file"]),
        ("seed: [", [], ["resume=run", "no run"]),
        ("seed: 1", ["seed=2", "agent=grpo"], ["leave out seed=2 agent=grpo"]),
        ("agent: {_target_: os.system, command: ls}", [], ["agent._target_=os.system"]),
        ("agent: {_target_: refrag_rl.run_folder.subprocess.run}", [], ["subprocess.run"]),
        ("agent: {policy: {_target_: os.system}}", [], ["agent.policy._target_"]),
        ("corpus: {path: [{_target_: os.system}]}", [], ["corpus.path.0._target_"]),
        ("refrag: {_target_: os.system, path: ls}", [], ["refrag._target_=os.system"]),
        ("agent: '${oc.env:HOME}'", [], ["agent=${oc.env:HOME}", "interpolations"]),
        ("sed: 1", [], ["sed"]),
        ("seed: one", [], ["seed", "one"]),
        ("seed: 1", [], ["missing"]),
    ],
)
def test_what_is_not_resumed(
    in_process: InProcess, tmp_path: Path, config: str | None, arguments: list[str], said: list[str]
) -> None:
    if config is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.yaml").write_text(config)
        (tmp_path / "run" / "metadata.json").write_text(json.dumps({"command": "train"}))
    outcome = in_process("train", "resume=run", *arguments)
    assert outcome.code == 2, outcome
    assert 1 <= len(outcome.err.strip().splitlines()) <= 3, outcome.err
    assert "Traceback" not in outcome.err
    for words in said:
        assert words in outcome.err


def test_a_run_of_another_command_is_not_resumed(in_process: InProcess, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 1")
    (tmp_path / "run" / "metadata.json").write_text(json.dumps({"command": "evaluate"}))
    outcome = in_process("train", "resume=run")
    assert outcome.code == 2
    assert "no run of refrag_rl.train" in outcome.err
