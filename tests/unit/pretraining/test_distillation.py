"""Targets that are mixed with the decoder's own reading of all tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.mixing import Kind
from refrag_rl.pretraining import fused_loss
from refrag_rl.pretraining.batch import Batch, stack
from refrag_rl.pretraining.distillation import Teacher
from refrag_rl.pretraining.fused_loss import sliced_cross_entropy
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.mixture import StageBatches
from refrag_rl.pretraining.settings import ContinualSection, Expansion, PartSection
from tests.tiny_models import byte_level_tokenizer, random_window, tiny_refrag

CHUNKS = 4


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_value_and_gradients_are_those_of_the_mixed_target(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_loss, "_CACHED_LOGITS", 100 * 60)
    generator = torch.Generator().manual_seed(1)
    positions, vocabulary = 700, 60
    states = torch.randn(positions, 12, generator=generator, requires_grad=True)
    weight = torch.randn(vocabulary, 12, generator=generator, requires_grad=True)
    tokens = torch.randint(vocabulary, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator)
    teacher = Teacher(
        torch.randn(positions, 12, generator=generator),
        share * (torch.rand(positions, generator=generator) > 0.4).float(),
    )
    target = torch.lerp(
        torch.nn.functional.one_hot(tokens, vocabulary).float(),
        (teacher.states @ weight.detach().T).softmax(1),
        teacher.share[:, None],
    )
    own = -(target * (states @ weight.T).log_softmax(1)).sum(1)
    expected = (own * weights).sum() / weights.sum()
    wanted = torch.autograd.grad(expected, (states, weight))
    loss = sliced_cross_entropy(states, weight, tokens, weights, teacher)
    got = torch.autograd.grad(loss, (states, weight))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for mine, theirs in zip(got, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6, rtol=1e-4)


def batch_for(model: RefragForCausalLM, expanded: list[bool], distillation: float) -> Batch:
    k = model.config.chunk_size
    windows = [random_window(seed, num_chunks=CHUNKS, chunk_size=k) for seed in range(3)]
    rows = np.tile(np.array(expanded), (len(windows), 1))
    return stack(windows, rows, context_weight=0.5, distillation=distillation)


def all_gradients(model: RefragForCausalLM, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    mixed_loss(model, batch).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def test_the_teacher_reads_without_dropout() -> None:
    model = tiny_refrag("gpt2")
    batch = batch_for(model, [True] * CHUNKS, 1.0)
    kind = torch.full((batch.output_ids.numel(),), int(Kind.OUTPUT))
    steady = Teacher.of(model.eval(), batch, kind).states
    assert any(module.p > 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))
    assert torch.equal(Teacher.of(model.train(), batch, kind).states, steady)
    assert model.training and model.decoder.training


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_reading_of_all_tokens_follows_itself(family: str) -> None:
    """Where nothing is compressed the loss is the entropy, which no step can lower."""
    model = tiny_refrag(family)
    expanded = [True] * CHUNKS
    whole = replace(batch_for(model, expanded, 1.0), context_weight=0.0, prompt_weight=0.0)
    gradients = all_gradients(model, whole)
    plain = all_gradients(model, replace(whole, distillation=0.0))
    largest = max(float(gradient.abs().max()) for gradient in plain.values())
    assert all(float(gradient.abs().max()) < 1e-4 * largest for gradient in gradients.values())


def test_the_teacher_gets_no_gradient_and_cuts_none() -> None:
    model = tiny_refrag("llama")
    expanded = [False, True, False, False]
    with torch.autocast("cpu", torch.bfloat16):
        plain = all_gradients(model, batch_for(model, expanded, 0.0))
        taught = all_gradients(model, batch_for(model, expanded, 0.5))
    assert taught.keys() == plain.keys()
    assert all(gradient.abs().max() > 0 for gradient in taught.values())


@pytest.mark.parametrize(
    ("kind", "expansion", "share"),
    [
        ("contiguous", Expansion.none, 1.5),
        ("contiguous", Expansion.none, -0.1),
        ("contiguous", Expansion.all, 0.5),
        ("reconstruction", Expansion.none, 0.5),
    ],
)
def test_shares_that_mean_nothing_are_refused(
    kind: str, expansion: Expansion, share: float
) -> None:
    part = PartSection(
        kind=kind,
        weight=1.0,
        expansion=expansion,
        distillation=share,
        windows={"context_length": 32},
    )
    stage = ContinualSection(steps=1, batch_tokens=64, curriculum_stages=1, parts=[part])
    corpus = TokenizedCorpus([Document("d", "x", "a b c " * 99)], byte_level_tokenizer())
    batches = StageBatches(corpus, chunk_size=16, seed=0, with_texts=False)
    with pytest.raises(UserError, match="distillation"):
        batches.mixture(stage, 0)
