"""Pre-training by accelerate's launcher in two processes leaves what one process leaves."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from refrag_rl.modeling.checkpoint import load_refrag
from refrag_rl.training_state import Checkpoint
from tests.cli.test_pretrain import TINY
from tests.conftest import Command, paragraphs
from tests.stage_runs import launch, start

STAGES = ("language_modelling", "reconstruction", "continual")


def losses(folder: Path) -> dict[str, list[float]]:
    """Return the logged losses of every step."""
    events = EventAccumulator(str(folder)).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "/loss/" in tag]
    return {tag: [point.value for point in events.Scalars(tag)] for tag in tags}


def weights(stage: Path) -> dict[str, Tensor]:
    """Return the weights of a stage's last checkpoint."""
    path = Checkpoint(stage).last_path()
    assert path is not None
    return {name: t for name, t in load_file(path).items() if name.startswith("model.")}


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(command: Command, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(paragraphs(0, 1500))
    (tmp_path / "held_out.txt").write_text(paragraphs(1, 1500))
    arguments = (
        *TINY,
        "data.files=[train.txt]",
        "data.validation_files=[held_out.txt]",
        "bfloat16=false",
        *(f"{stage}.optimizer=adamw" for stage in STAGES),
    )
    one = command("pretrain", *arguments, "output=one")
    assert one.returncode == 0, one.stderr
    launch("refrag_rl.pretrain", *arguments, "output=two", processes=2, folder=tmp_path)
    expected, found = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert found.keys() == expected.keys()
    assert {tag.split("/")[0] for tag in found} == set(STAGES)
    for tag, values in expected.items():
        assert np.allclose(found[tag], values, atol=1e-4), tag
    for stage in STAGES:
        theirs, mine = (weights(tmp_path / run / stage) for run in ("one", "two"))
        assert mine.keys() == theirs.keys()
        away = sum(float(((mine[name] - theirs[name]) ** 2).sum()) for name in theirs)
        norm = sum(float((tensor**2).sum()) for tensor in theirs.values())
        assert away < 1e-6 * norm
    figures = [json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("one", "two")]
    assert figures[0] == pytest.approx(figures[1], abs=1e-3)
    assert load_refrag(tmp_path / "two" / "model").model.config.chunk_size == 8


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_two_processes_that_are_stopped_save_and_end(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "train.txt").write_text(paragraphs(0, 1500))
    (tmp_path / "held_out.txt").write_text(paragraphs(1, 1500))
    process = start(
        "tests.cli.noting_exit",
        *TINY,
        "data.files=[train.txt]",
        "data.validation_files=[held_out.txt]",
        "language_modelling.steps=1000000",
        "save_every=1000000",
        "output=run",
        processes=2,
        folder=tmp_path,
    )
    try:
        assert process.stdout is not None
        assert any("language_modelling 1/" in line for line in process.stdout)
        if number == signal.SIGINT:
            # As a terminal does: to all, and the launcher passes its own on.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=600)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    codes = [(tmp_path / f"exit-{rank}").read_text() for rank in range(2)]
    assert codes == [str(code)] * 2, errors
    saved = Checkpoint(tmp_path / "run" / "language_modelling")
    assert saved.progress()["step"] >= 1
    assert f"stopped by {number.name}; last checkpoint: run/language_modelling/000001" in errors
