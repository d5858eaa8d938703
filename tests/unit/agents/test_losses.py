import pytest
import torch
from torch.autograd import gradcheck

from refrag_rl.agents.losses import (
    clipped_objective,
    group_advantages,
    leave_one_out_advantages,
    mean_over_picks,
    policy_gradient_loss,
)
from refrag_rl.policies import plackett_luce


def test_advantages_are_the_paper_s():
    rewards = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, 1.0, 1.0]])
    found = group_advantages(rewards, normalize_spread=True, spread_threshold=0.0)
    expected = (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, keepdim=True)
    torch.testing.assert_close(found.advantages, expected)
    assert found.has_spread.all()


def test_without_normalisation_the_unit_stays_the_reward_s():
    rewards = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    found = group_advantages(rewards, normalize_spread=False, spread_threshold=0.0)
    assert found.advantages.tolist() == [[-2.0, -1.0, 0.0, 3.0]]


@pytest.mark.parametrize("normalize_spread", [True, False])
def test_groups_without_spread_contribute_nothing(normalize_spread):
    rewards = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0005, 1.0], [1.0, 2.0, 3.0]])
    found = group_advantages(rewards, normalize_spread=normalize_spread, spread_threshold=1e-3)
    assert found.has_spread.tolist() == [False, False, True]
    assert (found.advantages[:2] == 0).all()
    assert torch.isfinite(found.advantages).all()


def test_a_constant_for_each_window_changes_no_advantage():
    rewards = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = rewards + torch.arange(5).unsqueeze(-1)
    first, second = (
        group_advantages(r, normalize_spread=True, spread_threshold=1e-3) for r in (rewards, moved)
    )
    torch.testing.assert_close(first.advantages, second.advantages)


def test_the_mean_is_over_each_row_s_picks_then_over_rows():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 100.0, 100.0]])
    picked = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_over_picks(values, picked) == 3.5


def test_objective_is_the_written_formula():
    generator = torch.Generator().manual_seed(0)
    new, old = torch.randn(2, 6, 3, generator=generator)
    advantages = torch.randn(6, 3, generator=generator)
    picked = torch.tensor([[True, True, True]] * 3 + [[True, True, False]] * 3)
    found = clipped_objective(new, old, advantages, picked, clip_range=0.2)
    total = 0.0
    for row in range(6):
        terms = []
        for step in range(int(picked[row].sum())):
            ratio = (new[row, step] - old[row, step]).exp()
            clipped = min(max(ratio, 0.8), 1.2)
            lead = advantages[row, step]
            terms.append(min(ratio * lead, clipped * lead))
        total += sum(terms) / len(terms) / 6
    assert found.loss.item() == pytest.approx(-total.item(), rel=1e-5)
    assert 0 < found.clip_fraction <= 1
    assert found.approximate_kl > 0


def test_at_ratio_one_the_gradient_is_the_policy_gradient():
    log_prob = torch.zeros(3, 2, requires_grad=True)
    advantages = torch.tensor([1.0, -2.0, 0.5]).unsqueeze(-1).expand(3, 2)
    picked = torch.ones(3, 2, dtype=torch.bool)
    found = clipped_objective(log_prob, torch.zeros(3, 2), advantages, picked, clip_range=0.2)
    found.loss.backward()
    torch.testing.assert_close(log_prob.grad, -advantages / 6)
    assert found.clip_fraction == 0
    assert found.approximate_kl == 0


@pytest.mark.parametrize(("advantage", "moves"), [(1.0, False), (-1.0, True)])
def test_a_ratio_above_the_range_stops_gain_but_not_loss(advantage, moves):
    log_prob = torch.full((1, 1), 1.0, requires_grad=True)
    found = clipped_objective(
        log_prob,
        torch.zeros(1, 1),
        torch.tensor([[advantage]]),
        torch.ones(1, 1).bool(),
        clip_range=0.2,
    )
    found.loss.backward()
    assert (log_prob.grad.item() != 0) == moves


def test_a_higher_upper_end_clips_only_above():
    log_prob = torch.tensor([[0.23], [0.23], [-0.3], [-0.3]], requires_grad=True)
    advantages = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    picked = torch.ones(4, 1, dtype=torch.bool)
    found = clipped_objective(
        log_prob, torch.zeros(4, 1), advantages, picked, clip_range=0.2, clip_range_upper=0.28
    )
    found.loss.backward()
    # exp(0.23) is 1.259: inside 1.28, outside 1.2; exp(-0.3) is 0.741: below 0.8 all the same.
    assert (log_prob.grad.squeeze(-1) != 0).tolist() == [True, True, True, False]
    assert found.clip_fraction == 0.5
    same = clipped_objective(log_prob, torch.zeros(4, 1), advantages, picked, clip_range=0.2)
    assert same.clip_fraction == 1


def test_a_ratio_beyond_float32_is_no_loss_where_there_is_no_advantage():
    log_prob = torch.tensor([[100.0], [0.0]], requires_grad=True)
    advantages, picked = torch.tensor([[0.0], [1.0]]), torch.ones(2, 1, dtype=torch.bool)
    found = clipped_objective(log_prob, torch.zeros(2, 1), advantages, picked, clip_range=0.2)
    found.loss.backward()
    assert found.loss.item() == -0.5
    assert log_prob.grad.tolist() == [[0.0], [-0.5]]


def test_grpo_s_advantages_are_trl_s():
    # trl's GRPOTrainer: mean and std of the group, 1e-4 added to the std.
    rewards = torch.randn(16, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat = rewards.flatten()
    mean = flat.view(-1, 8).mean(dim=1).repeat_interleave(8, dim=0)
    std = flat.view(-1, 8).std(dim=1).repeat_interleave(8, dim=0)
    found = group_advantages(rewards, normalize_spread=True, spread_threshold=1e-3)
    torch.testing.assert_close(
        found.advantages.flatten(), (flat - mean) / (std + 1e-4), rtol=1e-3, atol=1e-5
    )
    unscaled = group_advantages(rewards, normalize_spread=False, spread_threshold=1e-3)
    torch.testing.assert_close(unscaled.advantages.flatten(), flat - mean)


def test_rloo_s_advantages_are_trl_s():
    # trl's RLOOTrainer: rewards (k, n); baseline = (sum over k - r) / (k - 1).
    rewards = torch.randn(16, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    by_sample = rewards.T
    baseline = (by_sample.sum(0) - by_sample) / (8 - 1)
    torch.testing.assert_close(leave_one_out_advantages(rewards).T, by_sample - baseline)


def test_leaving_one_out_is_the_group_mean_s_lead_scaled():
    rewards = torch.randn(5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    group = group_advantages(rewards, normalize_spread=False, spread_threshold=0.0).advantages
    torch.testing.assert_close(leave_one_out_advantages(rewards), group * 4 / 3)


def test_the_policy_gradient_is_the_written_formula_s():
    generator = torch.Generator().manual_seed(4)
    log_prob = torch.randn(4, 3, generator=generator, requires_grad=True)
    advantages = torch.randn(4, 3, generator=generator)
    picked = torch.tensor([[True, True, True]] * 2 + [[True, False, False]] * 2)
    loss = policy_gradient_loss(log_prob, advantages, picked)
    written = sum(
        log_prob[row, step] * advantages[row, step]
        for row in range(4)
        for step in range(3 if row < 2 else 1)
    )
    torch.testing.assert_close(loss, -written / 4)
    loss.backward()
    torch.testing.assert_close(log_prob.grad, -advantages * picked / 4)


ORDER = torch.tensor([[2, 0, 3], [1, 4, plackett_luce.NO_PICK], [3, 1, 0]])
PICKED = ORDER != plackett_luce.NO_PICK
LEADS = torch.tensor([[1.0] * 3, [-0.7] * 3, [0.3, -0.2, 0.5]], dtype=torch.float64)

OLD = torch.tensor([[-1.2, -1.0, -0.9], [-1.8, -1.4, 0], [-1.5, -1.9, -0.6]], dtype=torch.float64)


def clipped(log_prob):
    return clipped_objective(
        log_prob, OLD, LEADS, PICKED, clip_range=0.15, clip_range_upper=0.25
    ).loss


OBJECTIVES = {
    "clipped": clipped,
    "policy gradient": lambda log_prob: policy_gradient_loss(log_prob, LEADS, PICKED),
    "listwise likelihood": lambda log_prob: -mean_over_picks(log_prob, PICKED),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_to_the_logits_are_finite_differences(name):
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: OBJECTIVES[name](plackett_luce.log_prob(x, ORDER)), logits)


def test_the_objectives_agree_at_the_first_step_where_all_rows_make_as_many_picks():
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(2, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    order, picked, leads = ORDER[[0, 2]], PICKED[[0, 2]], LEADS[[0, 2]]
    log_prob = plackett_luce.log_prob(logits, order)
    surrogate = clipped_objective(log_prob, log_prob.detach(), leads, picked, clip_range=0.2)
    (of_surrogate,) = torch.autograd.grad(surrogate.loss, logits, retain_graph=True)
    (of_sum,) = torch.autograd.grad(policy_gradient_loss(log_prob, leads, picked), logits)
    torch.testing.assert_close(of_surrogate, of_sum / 3)
