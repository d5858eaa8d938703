"""The last checkpoints are kept, whole; a damaged one is reported and the one before it used."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from refrag_rl import checkpoint_files
from refrag_rl.checkpoint_files import CheckpointFiles
from refrag_rl.errors import UserError
from refrag_rl.pretraining.trainer import stage_checkpoint
from refrag_rl.random_state import random_state
from refrag_rl.training_state import Checkpoint, require_fields

TENSORS = {
    "a": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "b": torch.tensor(True),
    "empty": torch.zeros(0, 4),
}


def write(folder: Path, count: int, keep: int = 2) -> CheckpointFiles:
    files = CheckpointFiles(folder, keep)
    for number in range(1, count + 1):
        files.write(TENSORS, {"number": number})
    return files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_ones_are_kept(tmp_path: Path, keep: int) -> None:
    write(tmp_path / "state", 5, keep)
    assert names(tmp_path / "state") == [f"{n:06d}.safetensors" for n in range(6 - keep, 6)]
    saved = CheckpointFiles(tmp_path / "state", keep).read()
    assert saved.progress == {"number": 5}
    for name, tensor in TENSORS.items():
        assert (
            torch.equal(saved.tensors[name], tensor) and saved.tensors[name].dtype == tensor.dtype
        )


@pytest.mark.parametrize("damage", ["cut", "empty", "byte", "progress", "text"])
def test_a_damaged_one_is_reported_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    write(tmp_path, 3)
    newest = tmp_path / "000003.safetensors"
    whole = newest.read_bytes()
    damaged = {
        "cut": whole[:-1],
        "empty": b"",
        "byte": whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:],
        "progress": whole.replace(b'"number": 3', b'"number": 4'),
        "text": b"not a checkpoint",
    }[damage]
    assert damaged != whole
    newest.write_bytes(damaged)
    files = CheckpointFiles(tmp_path, 2)
    assert files.read().progress == {"number": 2}
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{newest} is damaged" in said and "000002.safetensors before it is used" in said
    # The next one takes the damaged one's place, and nothing sound is removed for it.
    files.write(TENSORS, {"number": 3})
    assert names(tmp_path) == ["000002.safetensors", "000003.safetensors"]
    assert CheckpointFiles(tmp_path, 2).read().progress == {"number": 3}


def test_when_none_is_sound_it_is_said(tmp_path: Path) -> None:
    write(tmp_path, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be resumed from"):
        CheckpointFiles(tmp_path, 2).read()


def test_files_of_another_format_are_not_taken_for_a_beginning(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds model\.safetensors in place of checkpoints"):
        CheckpointFiles(tmp_path, 2).exist()


def test_a_full_disk_leaves_the_last_one_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write(tmp_path, 2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def fill(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint_files, "save_file", fill)
    with pytest.raises(OSError, match="No space left"):
        files.write(TENSORS, {"number": 3})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    Checkpoint(tmp_path).save(model, [torch.optim.Adam(model.parameters())], {})
    other = nn.Linear(2, 4)
    with pytest.raises(UserError, match=r"000001\.safetensors cannot be resumed from"):
        Checkpoint(tmp_path).load(other, [torch.optim.Adam(other.parameters())])


def test_keep_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keep=0"):
        Checkpoint(tmp_path, keep=0)


@pytest.mark.parametrize("given", [{}, {"done": "4", "seconds": 1.0}, {"done": 4, "seconds": None}])
def test_progress_that_cannot_be_used_is_refused(given: dict[str, Any]) -> None:
    needed: dict[str, type] = {"done": int, "seconds": float}
    require_fields({"done": 4, "seconds": 2}, needed)
    with pytest.raises(ValueError, match=r"its (done|seconds) is"):
        require_fields(given, needed)


def a_state(part: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Any:
    """Return random states with a part of them changed, or left out."""
    state = random_state()
    changed = change(state[part])
    return {**state, part: changed} if changed is not None else {**state, part: torch.zeros(0)}


def put(tensor: torch.Tensor, index: int, value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed[index] = value
    return changed


WHOLE = ("python", "numpy", "gauss", "torch")
RANDOM: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor | None]]] = {
    **{f"{part}-missing": (part, lambda own: None) for part in WHOLE},
    **{f"{part}-short": (part, lambda own: own[:-1].clone()) for part in WHOLE},
    **{f"{part}-long": (part, lambda own: torch.cat([own, own])) for part in WHOLE},
    **{f"{part}-square": (part, lambda own: own.unsqueeze(0)) for part in WHOLE},
    **{f"{part}-halves": (part, lambda own: own.half()) for part in WHOLE},
    **{f"{part}-truth": (part, lambda own: own.bool()) for part in WHOLE},
    "python-negative": ("python", lambda own: put(own, 0, -1)),
    "python-large": ("python", lambda own: put(own, 0, 2**32)),
    "python-zeros": ("python", torch.zeros_like),
    "python-position": ("python", lambda own: put(own, -1, 625)),
    "numpy-negative": ("numpy", lambda own: put(own, 0, -1)),
    "numpy-large": ("numpy", lambda own: put(own, 5, 2**40)),
    "numpy-zeros": ("numpy", torch.zeros_like),
    "numpy-position": ("numpy", lambda own: put(own, -1, 10**9)),
    "numpy-position-negative": ("numpy", lambda own: put(own, -1, -7)),
    "gauss-infinite": ("gauss", lambda own: put(own, 0, float("inf"))),
    "torch-zeros": ("torch", torch.zeros_like),
    "torch-ones": ("torch", lambda own: torch.full_like(own, 255)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_state_with_impossible_random_states_is_damaged(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    Checkpoint(tmp_path).save(model, [optimizer], {"step": 1})
    Checkpoint(tmp_path).save(model, [optimizer], {"step": 2})
    last = CheckpointFiles(tmp_path, 2)
    part, change = RANDOM[name]
    tensors = {
        **last.read().tensors,
        **{f"random.{key}": own for key, own in a_state(part, change).items()},
    }
    last.write(tensors, {"step": 3})
    before = random_state()
    assert Checkpoint(tmp_path).progress() == {"step": 2}
    said = capsys.readouterr().err
    assert f"000003.safetensors is damaged (the random state {part}" in said
    assert said.endswith("000002.safetensors before it is used\n")
    assert all(
        torch.equal(own, before[key]) for key, own in random_state().items() if key != "gauss"
    )


@pytest.mark.parametrize("step", [-1, 5, float("nan"), "1", None, True, 10**30])
def test_a_state_that_no_stage_can_be_in_is_damaged(
    tmp_path: Path, step: object, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    sound = {"step": 4, "tokens": 9, "losses": {"recall": [1.5]}, "events": {}}
    stage_checkpoint(tmp_path, 4).save(model, [optimizer], sound)
    stage_checkpoint(tmp_path, 4).save(model, [optimizer], {**sound, "step": step})
    assert stage_checkpoint(tmp_path, 4).progress() == sound
    assert "its step is" in capsys.readouterr().err


@pytest.mark.parametrize("losses", [[], {"recall": 1.5}, {"recall": ["1"]}, None])
def test_losses_that_are_none_are_damage(tmp_path: Path, losses: object) -> None:
    model = nn.Linear(2, 3)
    state = {"step": 1, "tokens": 9, "losses": losses, "events": {}}
    stage_checkpoint(tmp_path, 4).save(model, [torch.optim.Adam(model.parameters())], state)
    with pytest.raises(UserError, match=r"cannot be resumed from .its losses"):
        stage_checkpoint(tmp_path, 4).progress()


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, 2)
    os.mkfifo(tmp_path / "000009.safetensors")
    assert CheckpointFiles(tmp_path, 2).read().progress == {"number": 2}


def test_progress_may_outgrow_the_headers_of_safetensors(tmp_path: Path) -> None:
    files = CheckpointFiles(tmp_path, 1)
    files.write(TENSORS, {"long": "x" * 100_000_100})
    assert len(files.read().progress["long"]) == 100_000_100
