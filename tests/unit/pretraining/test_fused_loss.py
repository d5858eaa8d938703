"""The sliced cross-entropy is the cross-entropy, in value and gradient."""

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from refrag_rl.pretraining import fused_loss
from refrag_rl.pretraining.fused_loss import sliced_cross_entropy


@pytest.mark.parametrize("positions", [1, 511, 512, 1300])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cached_logits", [50, 900, 2**18])
def test_value_and_gradients_are_those_of_cross_entropy(
    positions: int, weighted: bool, cached_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_loss, "_CACHED_LOGITS", cached_logits)
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


@pytest.mark.parametrize(
    ("learns_states", "learns_weight", "products"),
    [(True, True, 3), (True, False, 2), (False, True, 2), (False, False, 1)],
)
def test_only_gradients_that_are_needed_are_computed(
    learns_states: bool, learns_weight: bool, products: int
) -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(30, 12), torch.randn(70, 12)
    tokens = torch.randint(70, (30,))
    wanted = [states.clone().requires_grad_(), weight.clone().requires_grad_()]
    functional.cross_entropy(wanted[0] @ wanted[1].T, tokens).backward()
    states.requires_grad_(learns_states)
    weight.requires_grad_(learns_weight)
    with FlopCounterMode(display=False) as counter:
        loss = sliced_cross_entropy(states, weight, tokens)
        if loss.requires_grad:
            loss.backward()
    assert counter.get_total_flops() == products * 2 * 30 * 12 * 70
    for mine, theirs, learns in zip(
        (states, weight), wanted, (learns_states, learns_weight), strict=True
    ):
        if learns:
            assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)
        else:
            assert mine.grad is None


def test_without_gradients_none_is_computed() -> None:
    weight = torch.randn(70, 12, requires_grad=True)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        sliced_cross_entropy(torch.randn(30, 12), weight, torch.randint(70, (30,)))
    assert counter.get_total_flops() == 2 * 30 * 12 * 70


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
