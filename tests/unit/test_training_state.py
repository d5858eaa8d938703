"""Checkpoints of a model in shards (FSDP) are whole: they load with and without shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from refrag_rl.training_state import Checkpoint


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """Open a group of a single process: its shards are whole, their types are those of FSDP."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def make(seed: int, *, in_shards: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    if in_shards:
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(7)
    model(torch.randn(5, 3)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def whole(model: nn.Module) -> list[torch.Tensor]:
    return [(t.full_tensor() if isinstance(t, DTensor) else t).detach() for t in model.parameters()]


@pytest.mark.parametrize("to_shards", [False, True])
@pytest.mark.usefixtures("one_process")
def test_state_in_shards_is_saved_whole(tmp_path: Path, to_shards: bool) -> None:
    model, optimizer = make(0, in_shards=True)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    step(model, optimizer)
    Checkpoint(tmp_path / "state").save(model, [optimizer], {"step": 1})
    other, its_optimizer = make(1, in_shards=to_shards)
    assert Checkpoint(tmp_path / "state").load(other, [its_optimizer]) == {"step": 1}
    for _ in range(2):
        step(model, optimizer)
        step(other, its_optimizer)
    for mine, theirs in zip(whole(other), whole(model), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_process_that_does_not_write_leaves_nothing(tmp_path: Path) -> None:
    model, optimizer = make(0, in_shards=False)
    Checkpoint(tmp_path / "state", writes=False).save(model, [optimizer], {})
    assert list(tmp_path.iterdir()) == []
