"""Selections of policies that compute their logits once, and of those that do so at each pick."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from refrag_rl.errors import UserError
from refrag_rl.policies import plackett_luce, selections
from refrag_rl.policies.plackett_luce import NO_PICK
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy, as_tensors
from tests.planted import planted_problem

BUDGETS = torch.tensor([2, 3, 1])


def make(logits: str, seed: int = 0, **options) -> PointerPolicy:
    torch.manual_seed(seed)
    config = PointerConfig(12, width=16, heads=2, output_scale=1.0, logits=logits, **options)
    policy = PointerPolicy(config)
    if policy.expanded_type is not None:
        torch.nn.init.normal_(policy.expanded_type, std=1.0)
    return policy


def contexts(count: int = 3, **options):
    problem = planted_problem(count=8, **{"passages": 2, "passage_chunks": 2, "span": 2, **options})
    return as_tensors(problem.observe(np.arange(count), BUDGETS.numpy()[:count]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_logits_computed_once_are_plackett_luce_s():
    policy, observation = make("once"), contexts()
    logits, copies = policy(observation, BUDGETS), BUDGETS.repeat_interleave(4)
    rows = logits.repeat_interleave(4, 0)
    order = selections.sample(policy, observation, BUDGETS, generator(3), copies=4)
    assert torch.equal(order, plackett_luce.sample(rows, copies, generator(3)))
    found = selections.pick_probabilities(policy, observation, BUDGETS, order, copies=4)
    assert torch.equal(found.log_prob, plackett_luce.log_prob(rows, order))
    assert torch.equal(found.entropy, plackett_luce.entropy(rows, order))
    best = selections.greedy(policy, observation, BUDGETS)
    assert torch.equal(best, plackett_luce.greedy(logits, BUDGETS))


def test_log_probabilities_are_the_steps_own():
    policy, observation = make("each_pick"), contexts()
    order = selections.sample(policy, observation, BUDGETS, generator(), copies=2)
    found = selections.pick_probabilities(policy, observation, BUDGETS, order, copies=2)
    for row in range(6):
        window = {name: tensor[row // 2 : row // 2 + 1] for name, tensor in observation.items()}
        expanded = torch.zeros(1, 4, dtype=torch.bool)
        for step, pick in enumerate(order[row].tolist()):
            if pick == NO_PICK:
                assert (found.log_prob[row, step], found.entropy[row, step]) == (0, 0)
                continue
            state = {**window, "expanded": expanded}
            logits = policy(state, BUDGETS[row // 2 : row // 2 + 1])
            left = logits.masked_fill(expanded, -torch.inf)
            distribution = torch.distributions.Categorical(logits=left)
            torch.testing.assert_close(
                found.log_prob[row, step], distribution.log_prob(torch.tensor([pick]))[0]
            )
            torch.testing.assert_close(found.entropy[row, step], distribution.entropy()[0])
            expanded = expanded.clone()
            expanded[0, pick] = True


@pytest.mark.parametrize("picks", [1, 2, 3, 4])
def test_probabilities_of_all_ordered_selections_sum_to_one(picks):
    policy, observation = make("each_pick"), contexts(1)
    orders = torch.tensor(list(permutations(range(4), picks)))
    budget = torch.tensor([picks])
    found = selections.pick_probabilities(policy, observation, budget, orders, copies=len(orders))
    assert found.log_prob.sum(-1).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_samples_follow_the_probabilities_and_a_pick_depends_on_those_before():
    policy, observation = make("each_pick"), contexts(1)
    orders, budget, count = torch.tensor(list(permutations(range(4), 2))), torch.tensor([2]), 8000
    with torch.no_grad():
        found = selections.pick_probabilities(policy, observation, budget, orders, len(orders))
        drawn = selections.sample(policy, observation, budget, generator(1), count)
        once = plackett_luce.log_prob(policy(observation, budget).expand(12, -1), orders)
    observed = np.array([(drawn == order).all(-1).sum().item() for order in orders])
    expected = found.log_prob.sum(-1).double().exp().numpy()
    assert chisquare(observed, count * expected / expected.sum()).pvalue > 0.01
    assert (found.log_prob - once).abs().max() > 0.1


@pytest.mark.parametrize("logits", ["once", "each_pick"])
def test_budgets_are_met_and_padding_spared(logits):
    policy = make(logits)
    observation = contexts(3, padding=True, passages=3)
    budgets = torch.tensor([1, 9, 9])
    held = observation["chunk_mask"].bool()
    for order in (
        selections.greedy(policy, observation, budgets),
        selections.sample(policy, observation, budgets, generator()),
    ):
        expanded = plackett_luce.expanded_from(order, held.shape[-1])
        assert not (expanded & ~held).any()
        assert expanded.sum(-1).tolist() == [1, 4, 6]
        found = selections.pick_probabilities(policy, observation, budgets, order)
        assert torch.isfinite(found.log_prob).all()
        assert torch.isfinite(found.entropy).all()
        policy.zero_grad()
        (found.log_prob.sum() + found.entropy.sum()).backward()
        gradients = [p.grad for p in policy.parameters() if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_greedy_selection_takes_the_most_probable_pick_each_time():
    policy, observation = make("each_pick", seed=4), contexts(1)
    budget = torch.tensor([3])
    order = selections.greedy(policy, observation, budget)
    for step in range(3):
        others = torch.tensor([[*order[0, :step].tolist(), chunk] for chunk in range(4)])
        allowed = [c for c in range(4) if c not in order[0, :step].tolist()]
        found = selections.pick_probabilities(
            policy, observation, budget, others[allowed], len(allowed)
        )
        assert allowed[found.log_prob[:, step].argmax()] == order[0, step]


def test_single_picks_inside_an_episode_have_the_logits_of_their_state():
    policy, observation = make("each_pick"), contexts()
    expanded = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.int8)
    left = (BUDGETS - expanded.sum(-1)).unsqueeze(-1).float()
    state = {**observation, "expanded": expanded, "budget_left": left}
    logits, _ = policy.logits_and_value(state)
    torch.testing.assert_close(logits, policy(state, BUDGETS))
    assert not torch.allclose(logits[0], policy(observation, BUDGETS)[0])


def test_the_option_is_checked():
    with pytest.raises(UserError, match="choose from once, each_pick"):
        PointerConfig(12, logits="twice")


@pytest.mark.parametrize("logits", ["once", "each_pick"])
def test_selections_that_go_on_begin_with_those_of_the_budget(logits):
    policy, observation = make(logits), contexts(budget=2)
    every = selections.sample_all(policy, observation, BUDGETS, generator(3))
    assert every.sort(-1).values.tolist() == [[0, 1, 2, 3]] * 3
    drawn = selections.sample(policy, observation, BUDGETS, generator(3))
    made = drawn != NO_PICK
    assert torch.equal(every[:, : drawn.shape[1]][made], drawn[made])
