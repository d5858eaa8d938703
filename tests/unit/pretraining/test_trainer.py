"""Stages come to the same weights whether stopped and resumed, and however batches are cut."""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from refrag_rl.errors import NotFiniteError, UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.pretraining.batch import Batch, positions
from refrag_rl.pretraining.batches import MixtureBatches
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.optimizer import build_optimizers, learning_rate_factor
from refrag_rl.pretraining.processes import build_accelerator
from refrag_rl.pretraining.trainer import StageSettings, run_stage
from tests.stage_runs import (
    Losses,
    StoppedError,
    build,
    quiet,
    small_batches,
    train,
    train_in_processes,
)
from tests.tiny_models import tiny_refrag


@pytest.fixture(scope="module")
def batches() -> MixtureBatches:
    return small_batches()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, optimizer: str) -> None:
    whole, losses = train(tmp_path / "whole", optimizer=optimizer)
    for stop_at in (5, 7):
        with pytest.raises(StoppedError):
            train(tmp_path / "parts", optimizer=optimizer, stop_at=stop_at)
    resumed, last_losses = train(tmp_path / "parts", optimizer=optimizer)
    assert last_losses == losses[-len(last_losses) :]
    for (name, mine), theirs in zip(
        resumed.state_dict().items(), whole.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def require_same(
    weights: dict[str, torch.Tensor], losses: list[float], optimizer: str, folder: Path
) -> None:
    """Compare with one process that reads whole batches."""
    model, expected = train(folder, optimizer=optimizer)
    # AdamW divides gradients that are almost 0 by themselves, and Muon orthogonalizes in bfloat16:
    # both turn last digits into second ones. SGD steps are in proportion to the gradient.
    exact = optimizer == "sgd"
    assert np.allclose(losses, expected, rtol=1e-5 if exact else 1e-3)
    start, theirs = flat(tiny_refrag("lfm2")), flat(model)
    mine = torch.cat([weights[name].detach().flatten() for name, _ in model.named_parameters()])
    away, moved = (torch.linalg.vector_norm(x - theirs).item() for x in (mine, start))
    assert moved > 0.1
    assert away < (1e-4 if exact else 0.05) * moved


def flat(model: RefragForCausalLM) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(("optimizer", "accumulate"), [("sgd", 2), ("sgd", 5), ("muon", 2)])
def test_accumulated_steps_equal_whole_ones(
    tmp_path: Path, optimizer: str, accumulate: int
) -> None:
    model, losses = train(tmp_path / "parts", optimizer=optimizer, accumulate=accumulate)
    require_same(dict(model.named_parameters()), losses, optimizer, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "accumulate"), [("sgd", 1), ("sgd", 2), ("muon", 1)])
def test_two_processes_equal_one(tmp_path: Path, optimizer: str, accumulate: int) -> None:
    weights, losses = train_in_processes(
        tmp_path / "two", optimizer=optimizer, accumulate=accumulate, processes=2
    )
    require_same(weights, losses, optimizer, tmp_path / "one")


class Rates(Losses):
    """Keeps the tokens per second that a stage logs."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        if "tokens_per_second" in tag:
            self.values.append(scalar_value)


def test_tokens_per_second_leave_validation_out(
    tmp_path: Path, batches: MixtureBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    sizes: list[int] = []

    def slow(step: int, progress: float) -> Batch:
        nonlocal now
        now += 2.0
        batch = batches(step, progress)
        sizes.append(positions(batch))
        return batch

    def validate(loss_of: object) -> dict[str, float]:
        nonlocal now
        now += 100.0
        return {}

    rates, model = Rates(), tiny_refrag()
    run_stage(
        model,
        build(model, "sgd"),
        slow,
        mixed_loss,
        accelerator=build_accelerator(bfloat16=False),
        settings=StageSettings("s", 4, log_every=4, validate_every=1),
        folder=tmp_path / "state",
        writer=rates,
        show=quiet,
        validate=validate,
    )
    assert rates.values == [pytest.approx(sum(sizes) / 8)]


def test_loss_falls(batches: MixtureBatches, tmp_path: Path) -> None:
    before = tiny_refrag("lfm2")
    after, _ = train(tmp_path, optimizer="adamw")
    with torch.no_grad():
        losses = [
            [mixed_loss(model, batches(step, 0.0)).item() for step in range(100, 105)]
            for model in (before, after)
        ]
    assert np.mean(losses[1]) < np.mean(losses[0]) - 0.3


def test_when_all_checkpoints_are_damaged_it_is_said(
    tmp_path: Path, batches: MixtureBatches
) -> None:
    with pytest.raises(StoppedError):
        train(tmp_path, optimizer="adamw", stop_at=5)
    for saved in (tmp_path / "state").iterdir():
        saved.write_bytes(saved.read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be resumed"):
        train(tmp_path, optimizer="adamw")


def times_nan(model: RefragForCausalLM, batch: Batch) -> torch.Tensor:
    return mixed_loss(model, batch) * float("nan")


def with_infinite_gradient(model: RefragForCausalLM, batch: Batch) -> torch.Tensor:
    weight = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    # The root's slope at 0 is infinite, its value is 0.
    return mixed_loss(model, batch) + (weight.flatten()[0] * 0).abs().sqrt()


@pytest.mark.parametrize(
    ("loss_of", "learning_rate", "said"),
    [
        (times_nan, 1e-3, "step 0: the loss is nan"),
        (with_infinite_gradient, 1e-3, "step 0: the gradient's norm is nan"),
        (mixed_loss, float("inf"), "the largest weight is nan"),
    ],
)
def test_what_is_not_finite_stops_the_run(
    tmp_path: Path,
    batches: MixtureBatches,
    loss_of: Callable[[RefragForCausalLM, Batch], torch.Tensor],
    learning_rate: float,
    said: str,
) -> None:
    model = tiny_refrag()
    optimizers = build_optimizers(
        [model],
        name="adamw",
        learning_rate=learning_rate,
        muon_learning_rate=1e-3,
        weight_decay=0.0,
        betas=(0.9, 0.95),
    )
    with pytest.raises(NotFiniteError, match=said) as stopped:
        run_stage(
            model,
            optimizers,
            batches,
            loss_of,
            accelerator=build_accelerator(bfloat16=False),
            settings=StageSettings("s", 2, save_every=1),
            folder=tmp_path / "state",
            writer=Losses(),
            show=quiet,
        )
    assert list(stopped.value.windows) == list(batches(0, 0.0).keys)
    assert stopped.value.windows[0] in str(stopped.value)
    assert not (tmp_path / "state").exists()


def test_loss_scores_what_its_weights_say(batches: MixtureBatches) -> None:
    model = tiny_refrag()
    batch = batches(0, 0.0)
    layout = model.lay_out(
        batch.context_ids, batch.chunk_mask, batch.expanded, batch.prompt_ids, batch.output_ids
    )
    start = torch.full((*batch.expanded.shape, 1), model.config.chunk_start_token_id)
    ids = torch.cat([start, batch.context_ids], dim=2)
    with torch.no_grad():
        embeddings = model.embed_context(ids, torch.ones_like(ids), batch.chunk_mask)
        likelihood = model.log_likelihood(layout, embeddings, layout.token_mask)
        kind = layout.kind[layout.token_mask]
        weights = torch.where(kind == 4, batch.context_weight, 1.0)
        expected = -(likelihood * weights).sum() / weights.sum()
        assert mixed_loss(model, batch).item() == pytest.approx(expected.item(), abs=1e-5)


def test_learning_rate_warms_up_and_falls() -> None:
    factors = [learning_rate_factor(step, 100, warmup=0.04, final=0.1) for step in range(100)]
    assert factors[0] == 0.25 and factors[3] == 1.0
    assert all(a >= b for a, b in pairwise(factors[3:]))
    assert factors[-1] == pytest.approx(0.1, abs=1e-3)


def test_every_parameter_is_optimized_once() -> None:
    model = tiny_refrag("lfm2")
    optimizers = build_optimizers(
        [model.encoder, model.projector, model.decoder],
        name="muon",
        learning_rate=1e-3,
        muon_learning_rate=1e-3,
        weight_decay=0.1,
        betas=(0.9, 0.95),
    )
    seen = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(seen) == sorted({id(p) for p in model.parameters()})
    muon = {id(p) for group in optimizers[1].param_groups for p in group["params"]}
    assert id(model.get_input_embeddings().weight) not in muon


@pytest.mark.parametrize("decoder", ["llama", "qwen2"])
@pytest.mark.parametrize("whole", [True, False])
def test_output_layers_are_no_matrices_of_layers(decoder: str, whole: bool) -> None:
    model = tiny_refrag(decoder)
    optimizers = build_optimizers(
        [model] if whole else [model.encoder, model.projector, model.decoder],
        name="muon",
        learning_rate=1e-3,
        muon_learning_rate=1e-3,
        weight_decay=0.1,
        betas=(0.9, 0.95),
    )
    adamw, muon = (
        {id(p) for group in optimizer.param_groups for p in group["params"]}
        for optimizer in optimizers
    )
    output_layer = model.get_output_embeddings().weight
    assert id(output_layer) in adamw and id(output_layer) not in muon
    assert all(id(p) in muon for p in model.decoder.model.layers.parameters() if p.ndim == 2)
