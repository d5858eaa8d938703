"""The sliced cross-entropy is the cross-entropy, in value and gradient."""

import pytest
import torch
from torch.nn import functional

from refrag_rl.pretraining.fused_loss import sliced_cross_entropy


@pytest.mark.parametrize("positions", [1, 511, 512, 1300])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradients_are_those_of_cross_entropy(positions: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(positions)
    states = torch.randn(positions, 12, generator=generator, requires_grad=True)
    weight = torch.randn(70, 12, generator=generator, requires_grad=True)
    tokens = torch.randint(70, (positions,), generator=generator)
    weights = torch.rand(positions, generator=generator) if weighted else None
    scale = torch.ones(positions) if weights is None else weights
    expected = (functional.cross_entropy(states @ weight.T, tokens, reduction="none") * scale).sum()
    expected = 3 * expected / scale.sum()
    wanted = torch.autograd.grad(expected, (states, weight))
    loss = 3 * sliced_cross_entropy(states, weight, tokens, weights)
    got = torch.autograd.grad(loss, (states, weight))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for mine, theirs in zip(got, wanted, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6, rtol=1e-4)


def test_bfloat16_autocast_stays_close() -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(900, 16), torch.randn(50, 16)
    tokens = torch.randint(50, (900,))
    exact = sliced_cross_entropy(states, weight, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = sliced_cross_entropy(states, weight, tokens)
    assert rounded.dtype == torch.float32
    assert abs(exact.item() - rounded.item()) < 0.02


def test_large_logits_stay_finite() -> None:
    states, weight = torch.full((4, 2), 300.0), torch.tensor([[300.0, 0], [0, -300.0]])
    assert torch.isfinite(sliced_cross_entropy(states, weight, torch.tensor([0, 1, 0, 1])))
