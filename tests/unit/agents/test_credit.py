"""Credit per chunk on a case small enough to enumerate: every group of every selection."""

from itertools import permutations, product

import pytest
import torch

from refrag_rl.agents.credit import chunk_credit, pick_credit
from refrag_rl.agents.losses import leave_one_out_advantages
from refrag_rl.policies import plackett_luce

L, PICKS, G = 5, 2, 2
ORDERS = torch.tensor(list(permutations(range(L), PICKS)))
GROUPS = torch.tensor(list(product(range(len(ORDERS)), repeat=G)))
LOGITS = torch.tensor([0.5, -0.3, 0.0, 0.2, -0.6], dtype=torch.float64)
SETS = plackett_luce.expanded_from(ORDERS, L)


def log_prob(logits):
    return plackett_luce.log_prob(logits.expand(len(ORDERS), -1), ORDERS)


def rewards_of(single, pair=None):
    found = SETS.double() @ torch.tensor(single, dtype=torch.float64)
    if pair is not None:
        first, second, worth = pair
        found += worth * (SETS[:, first] & SETS[:, second])
    return found


def exact_gradient(logits, rewards):
    logits = logits.clone().requires_grad_()
    (log_prob(logits).sum(-1).exp() * rewards).sum().backward()
    return logits.grad


def expected_gradients(logits, rewards, per_chunk, ridge=1.0):
    """Return mean and covariance's trace of the estimate over all groups of G selections."""
    with torch.no_grad():
        probability = log_prob(logits).sum(-1).exp()[GROUPS].prod(-1)
    jacobian = torch.autograd.functional.jacobian(log_prob, logits)
    advantages = leave_one_out_advantages(rewards[GROUPS])
    if per_chunk:
        credit = chunk_credit(advantages, SETS[GROUPS], ridge)
        of_picks = pick_credit(credit, ORDERS[GROUPS])
    else:
        of_picks = advantages.unsqueeze(-1).expand(-1, -1, PICKS)
    each = torch.einsum("ngt,ngtl->nl", of_picks, jacobian[GROUPS]) / G
    mean = (probability.unsqueeze(-1) * each).sum(0)
    return mean, (probability * ((each - mean) ** 2).sum(-1)).sum()


WORTHS = {
    "additive": ([1, 0.2, 0, -0.5, 0.3], None),
    "a redundant pair": ([1, 1, 0.6, 0, 0], (0, 1, -1.0)),
    "a synergistic pair": ([0.4, 0.3, 0, 0, 0], (3, 4, 1.5)),
}


@pytest.mark.parametrize("worth", WORTHS)
def test_the_whole_selection_s_advantage_has_no_bias(worth):
    rewards = rewards_of(*WORTHS[worth])
    mean, _ = expected_gradients(LOGITS, rewards, per_chunk=False)
    torch.testing.assert_close(mean, exact_gradient(LOGITS, rewards))


@pytest.mark.parametrize("worth", WORTHS)
def test_credit_is_biased_in_size_and_hardly_in_direction(worth):
    rewards = rewards_of(*WORTHS[worth])
    exact = exact_gradient(LOGITS, rewards)
    mean, _ = expected_gradients(LOGITS, rewards, per_chunk=True)
    assert mean.norm() < 0.6 * exact.norm()
    cosine = torch.cosine_similarity(mean, exact, dim=0).item()
    assert 0.99 < cosine < 1 - 1e-6


@pytest.mark.parametrize("worth", WORTHS)
def test_a_policy_that_follows_credit_ends_at_the_best_set(worth):
    rewards, logits = rewards_of(*WORTHS[worth]), LOGITS.clone()
    for _ in range(50):
        mean, _ = expected_gradients(logits, rewards, per_chunk=True)
        logits += 4 * mean / mean.norm().clamp(min=0.1)
    expected = log_prob(logits).sum(-1).exp() @ rewards
    assert expected.item() > 0.97 * rewards.max().item()


def test_credit_has_less_variance_where_worth_is_additive_and_picks_are_many():
    generator = torch.Generator().manual_seed(0)
    chunks, picks, groups = 16, 6, 4000
    single = torch.randn(chunks, generator=generator, dtype=torch.float64)
    logits = torch.zeros(groups * 8, chunks, dtype=torch.float64, requires_grad=True)
    order = plackett_luce.sample(logits, torch.full((groups * 8,), picks), generator)
    expanded = plackett_luce.expanded_from(order, chunks)
    rewards = (expanded.double() @ single).view(groups, 8)
    advantages = leave_one_out_advantages(rewards)
    credit = chunk_credit(advantages, expanded.view(groups, 8, -1), 1.0)
    per_chunk = pick_credit(credit, order.view(groups, 8, -1)).flatten(0, 1)
    relative = []
    for of_picks in (advantages.flatten().unsqueeze(-1), per_chunk):
        total = (plackett_luce.log_prob(logits, order) * of_picks).sum()
        (gradient,) = torch.autograd.grad(total, logits)
        each = gradient.view(groups, 8, -1).mean(1)
        relative.append((each.var(0).sum() / each.mean(0).square().sum()).item())
    assert relative[1] < 0.8 * relative[0]


def test_credit_is_ridge_regression_on_inclusion():
    generator = torch.Generator().manual_seed(1)
    advantages = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    expanded = torch.rand(3, 6, 4, generator=generator) < 0.5
    found = chunk_credit(advantages, expanded, ridge=0.7)
    for row in range(3):
        x = expanded[row].double() - expanded[row].double().mean(0)
        y = advantages[row] - advantages[row].mean()
        primal = torch.linalg.solve(x.T @ x + 0.7 * torch.eye(4, dtype=torch.float64), x.T @ y)
        torch.testing.assert_close(found[row], primal)


def test_chunks_that_all_or_none_expand_get_no_credit():
    expanded = torch.tensor([[[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]]]).bool()
    advantages = torch.tensor([[1.0, -2.0, 1.0]], dtype=torch.float64)
    credit = chunk_credit(advantages, expanded, ridge=0.1)[0]
    assert (credit[0], credit[3]) == (0, 0)
    assert credit[1] > 0 > credit[2]
    order = torch.tensor([[[0, 1], [2, 0], [1, plackett_luce.NO_PICK]]])
    of_picks = pick_credit(credit.unsqueeze(0), order)
    assert of_picks[0, 2, 1] == 0
    assert of_picks.sum().item() == pytest.approx(0)
    assert of_picks[0, 0, 1] == of_picks[0, 2, 0] > of_picks[0, 1, 0]
