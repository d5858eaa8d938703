"""The loss of decoders whose output layer is more than one matrix."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.mixing import Kind
from refrag_rl.pretraining.batch import Batch, stack
from refrag_rl.pretraining.loss import mixed_loss
from tests.tiny_models import CHUNK_SIZE, VOCABULARY, random_window, tiny_encoder

CHUNKS = 3


@pytest.fixture
def model() -> RefragForCausalLM:
    """A decoder whose output layer has a bias, of the size of its logits."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "phi",
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
    )
    decoder = AutoModelForCausalLM.from_config(config)
    torch.nn.init.normal_(decoder.get_output_embeddings().bias)
    return RefragForCausalLM.from_encoder_decoder(
        tiny_encoder("roberta"), decoder, CHUNK_SIZE, shared_tokenizer=True
    )


def batch(distillation: float = 0.0) -> Batch:
    """Windows of expanded chunks alone, their output alone scored."""
    windows = [random_window(seed, num_chunks=CHUNKS) for seed in range(2)]
    expanded = np.ones((len(windows), CHUNKS), np.bool_)
    return replace(stack(windows, expanded, distillation=distillation), prompt_weight=0.0)


def log_probabilities(model: RefragForCausalLM, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return what the whole decoder predicts at the output, and the output, row by row."""
    layout = model.lay_out(
        batch.context_ids, batch.chunk_mask, batch.expanded, batch.prompt_ids, batch.output_ids
    )
    scored = layout.kind == Kind.OUTPUT
    logits = model.decoder(layout.token_ids).logits[:, :-1]
    return logits[scored[:, 1:]].log_softmax(1), layout.token_ids[scored]


def test_an_output_layers_bias_is_in_the_loss_and_learns(model: RefragForCausalLM) -> None:
    predicted, tokens = log_probabilities(model, batch())
    expected = torch.nn.functional.nll_loss(predicted, tokens)
    loss = mixed_loss(model, batch())
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    bias = model.decoder.get_output_embeddings().bias
    (wanted,) = torch.autograd.grad(expected, bias)
    (got,) = torch.autograd.grad(loss, bias)
    assert torch.allclose(got, wanted, atol=1e-6)


def test_an_output_layers_bias_is_in_what_a_teacher_predicts(model: RefragForCausalLM) -> None:
    predicted, _ = log_probabilities(model, batch())
    entropy = -(predicted.exp() * predicted).sum(1).mean()
    loss = mixed_loss(model, batch(distillation=1.0))
    assert loss.item() == pytest.approx(entropy.item(), abs=1e-5)
    gradients = torch.autograd.grad(loss, list(model.decoder.parameters()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-5
