"""Adapters start as nothing, are all of the decoder that learns, and leave a plain decoder."""

from __future__ import annotations

import sys

import pytest
import torch

from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.pretraining.lora import Lora, lora_dropouts
from refrag_rl.pretraining.loss import mixed_loss
from tests.stage_runs import build, small_batches
from tests.tiny_models import tiny_refrag


def add_lora(model: RefragForCausalLM, **options: object) -> Lora:
    settings = {"rank": 3, "alpha": 6.0, "dropout": 0.0, "target_modules": "all-linear"}
    return Lora(model.decoder, **{**settings, **options})


@pytest.mark.parametrize("decoder", ["llama", "lfm2"])
def test_only_adapters_learn_and_merging_keeps_the_loss(decoder: str) -> None:
    model, batches = tiny_refrag(decoder), small_batches()
    plain = {name: tensor.clone() for name, tensor in model.decoder.state_dict().items()}
    with torch.no_grad():
        before = mixed_loss(model, batches(0, 0.0)).item()
    lora = add_lora(model)
    with torch.no_grad():
        assert mixed_loss(model, batches(0, 0.0)).item() == pytest.approx(before, abs=1e-6)
    model.requires_grad_(False)
    for module in [model.encoder, model.projector, *lora.adapters]:
        module.requires_grad_(True)
    optimizers = build(model, "adamw")
    for step in range(4):
        mixed_loss(model, batches(step, 0.0)).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for name, tensor in model.decoder.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, plain[name.replace(".base_layer", "")]), name
    with torch.no_grad():
        trained = [mixed_loss(model, batches(step, 0.0)).item() for step in range(5)]
        lora.merge()
        merged = [mixed_loss(model, batches(step, 0.0)).item() for step in range(5)]
    assert abs(trained[0] - before) > 0.01
    assert merged == pytest.approx(trained, abs=1e-4)
    assert set(model.decoder.state_dict()) == set(plain)
    assert any(not torch.equal(t, plain[name]) for name, t in model.decoder.state_dict().items())


def test_dropouts_are_found_where_there_are_any() -> None:
    without, with_dropout = tiny_refrag(), tiny_refrag()
    add_lora(without)
    add_lora(with_dropout, dropout=0.5)
    assert lora_dropouts(without) == []
    assert {module.p for module in lora_dropouts(with_dropout)} == {0.5}


@pytest.mark.parametrize(
    "options",
    [{"target_modules": ["lm_head"]}, {"target_modules": ["nosuch"]}, {"rank": -1}],
)
def test_unfit_adapters_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match=r"model\.lora"):
        add_lora(tiny_refrag(), **options)


def test_missing_library_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match="pip install") as caught:
        add_lora(tiny_refrag())
    assert len(str(caught.value).splitlines()) == 2
