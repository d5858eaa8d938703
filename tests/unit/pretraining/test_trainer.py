"""A stage that was stopped and resumed goes through the same weights as one that was not."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.pretraining.batches import INDEFINITE, Batch, MixtureBatches, Part
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.optimizer import build_optimizers, learning_rate_factor
from refrag_rl.pretraining.trainer import StageSettings, run_stage
from tests.tiny_models import byte_level_tokenizer, tiny_refrag

STEPS = 9


def quiet(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def batches() -> MixtureBatches:
    rng = np.random.default_rng(0)
    text = " ".join(f"w{n}" for n in rng.integers(0, 30, 900))
    corpus = TokenizedCorpus([Document("d", "x", text)], byte_level_tokenizer())
    source = ContiguousWindows(
        corpus,
        chunk_size=4,
        context_length=16,
        prompt_length=2,
        output_length=8,
        count=INDEFINITE,
        with_texts=False,
    )
    return MixtureBatches([Part("c", source, 1.0, "mixed", 0.5)], batch_tokens=150, seed=0)


class StoppedError(Exception):
    """Stands for a kill."""


def train(
    folder: Path, batches: MixtureBatches, *, optimizer: str, stop_at: int | None = None
) -> RefragForCausalLM:
    model = tiny_refrag("lfm2")
    optimizers = build_optimizers(
        [model],
        name=optimizer,
        learning_rate=1e-2,
        muon_learning_rate=1e-2,
        weight_decay=0.01,
        betas=(0.9, 0.95),
    )

    def stopping(step: int, progress: float) -> Batch:
        if step == stop_at:
            raise StoppedError
        return batches(step, progress)

    with SummaryWriter(str(folder / "events")) as writer:
        run_stage(
            model,
            optimizers,
            stopping,
            mixed_loss,
            settings=StageSettings("s", STEPS, save_every=2, log_every=3, bfloat16=False),
            folder=folder / "state",
            writer=writer,
            show=quiet,
        )
    return model


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, batches: MixtureBatches, optimizer: str
) -> None:
    whole = train(tmp_path / "whole", batches, optimizer=optimizer)
    for stop_at in (5, 7):
        with pytest.raises(StoppedError):
            train(tmp_path / "parts", batches, optimizer=optimizer, stop_at=stop_at)
    resumed = train(tmp_path / "parts", batches, optimizer=optimizer)
    for (name, mine), theirs in zip(
        resumed.state_dict().items(), whole.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name


def test_loss_falls(batches: MixtureBatches, tmp_path: Path) -> None:
    before = tiny_refrag("lfm2")
    after = train(tmp_path, batches, optimizer="adamw")
    with torch.no_grad():
        losses = [
            [mixed_loss(model, batches(step, 0.0)).item() for step in range(100, 105)]
            for model in (before, after)
        ]
    assert np.mean(losses[1]) < np.mean(losses[0]) - 0.3


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_damaged_checkpoint_is_said(tmp_path: Path, batches: MixtureBatches, damage: str) -> None:
    with pytest.raises(StoppedError):
        train(tmp_path, batches, optimizer="adamw", stop_at=5)
    weights = tmp_path / "state" / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "gone":
        weights.unlink()
    else:
        (tmp_path / "state" / "progress.json").write_text("{")
    with pytest.raises(UserError, match="cannot be resumed"):
        train(tmp_path, batches, optimizer="adamw")


def test_loss_that_is_not_finite_stops_the_run(tmp_path: Path, batches: MixtureBatches) -> None:
    model = tiny_refrag()
    optimizers = build_optimizers(
        [model],
        name="adamw",
        learning_rate=1e-3,
        muon_learning_rate=1e-3,
        weight_decay=0.0,
        betas=(0.9, 0.95),
    )
    with (
        SummaryWriter(str(tmp_path)) as writer,
        pytest.raises(FloatingPointError, match="step 0"),
    ):
        run_stage(
            model,
            optimizers,
            batches,
            lambda model, batch: mixed_loss(model, batch) * float("nan"),
            settings=StageSettings("s", 2, bfloat16=False),
            folder=tmp_path / "state",
            writer=writer,
            show=quiet,
        )
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
