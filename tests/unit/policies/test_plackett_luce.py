import numpy as np
import pytest
import torch

from refrag_rl.policies import plackett_luce as pl
from tests.stepwise import sample_stepwise

INF = float("inf")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def logits() -> torch.Tensor:
    rows = torch.randn(3, 6, generator=generator())
    rows[1, 4:] = -INF
    rows[2, 1:] = -INF
    return rows


@pytest.mark.parametrize("draw", [pl.sample, sample_stepwise])
def test_rows_pick_their_budget_or_all_they_have(draw, logits):
    order = draw(logits, torch.tensor([2, 9, 3]), generator())
    assert (order != pl.NO_PICK).sum(-1).tolist() == [2, 4, 1]
    expanded = pl.expanded_from(order, 6)
    assert expanded.sum(-1).tolist() == [2, 4, 1]
    assert not expanded[torch.isneginf(logits)].any()


def test_greedy_takes_the_highest_and_the_earlier_of_equals():
    logits = torch.tensor([[0.0, 1.0, 1.0, -INF, 2.0]])
    assert pl.greedy(logits, torch.tensor([2])).tolist() == [[4, 1]]
    assert pl.greedy(logits, torch.tensor([9])).tolist() == [[4, 1, 2, 0]]


def test_log_prob_is_the_written_formula(logits):
    order = torch.tensor([[3, 0, -1], [0, 2, 1], [0, -1, -1]])
    found = pl.log_prob(logits, order)
    for row, picks in enumerate([[3, 0], [0, 2, 1], [0]]):
        left = [c for c in range(6) if torch.isfinite(logits[row, c])]
        for step, pick in enumerate(picks):
            expected = logits[row, pick] - torch.logsumexp(logits[row, left], 0)
            assert found[row, step].item() == pytest.approx(expected.item(), abs=1e-6)
            left.remove(pick)
    assert found[0, 2] == 0
    assert (found[2, 1:] == 0).all()


def test_entropy_is_that_of_the_choices_left(logits):
    uniform = torch.zeros(1, 5)
    order = torch.tensor([[2, 0, 1]])
    assert pl.entropy(uniform, order).squeeze(0).numpy() == pytest.approx(np.log([5, 4, 3]))


def test_sampled_conditional_entropies_estimate_the_entropy_of_the_selection():
    logits = torch.tensor([[0.5, -1.0, 1.5, 0.0]])
    orders = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    orders = orders[orders[:, 0] != orders[:, 1]]
    every = logits.expand(len(orders), -1)
    log_prob = pl.log_prob(every, orders).sum(-1)
    exact = -(log_prob.exp() * log_prob).sum()
    by_chain_rule = (log_prob.exp() * pl.entropy(every, orders).sum(-1)).sum()
    assert by_chain_rule.item() == pytest.approx(exact.item(), abs=1e-5)


def test_gradients_are_finite_with_padding_and_with_every_chunk_taken(logits):
    logits = logits.clone().requires_grad_()
    order = pl.sample(logits.detach(), torch.tensor([6, 6, 6]), generator())
    (pl.log_prob(logits, order).sum() + pl.entropy(logits, order).sum()).backward()
    assert torch.isfinite(logits.grad).all()


def test_same_generator_state_same_selection(logits):
    budget = torch.tensor([3, 3, 3])
    first, second = (pl.sample(logits, budget, generator(5)) for _ in range(2))
    assert torch.equal(first, second)
