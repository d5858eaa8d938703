"""Invariants 4, 5 and 7 of policies and learning agents."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.stats import chisquare

import refrag_rl.conf
from refrag_rl.agents.grpo import Grpo
from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.imitation import Imitation
from refrag_rl.agents.losses import clipped_objective
from refrag_rl.agents.monitor import NullMonitor
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.agents.ppo import Ppo
from refrag_rl.agents.ppo_policy import MaskablePointerPolicy
from refrag_rl.agents.regression import Regression
from refrag_rl.agents.reinforce import Reinforce
from refrag_rl.agents.rloo import Rloo
from refrag_rl.envs import SelectiveExpansionVectorEnv
from refrag_rl.envs.sb3 import SelectiveExpansionVecEnv
from refrag_rl.policies import plackett_luce, selections
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy, as_tensors
from tests.planted import planted_problem, share_found
from tests.stepwise import sample_stepwise

LOGITS = torch.tensor([0.8, -float("inf"), -0.5, 1.5, 0.0])
VALID = [0, 2, 3, 4]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_policy(embedding_size: int, **options: object) -> PointerPolicy:
    torch.manual_seed(0)
    config = PointerConfig(embedding_size, width=16, output_scale=1.0, **options)
    return PointerPolicy(config)


def as_sb3_policy(pointer: PointerPolicy, view: SelectiveExpansionVecEnv) -> MaskablePointerPolicy:
    spaces = view.observation_space, view.action_space
    return MaskablePointerPolicy(*spaces, lr_schedule=lambda _: 1e-3, pointer=pointer)


# 4. Padding and masked chunks are never expanded; the budget is met exactly.


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 9))
def test_policies_and_samples_meet_the_budget_and_spare_the_padding(seed, rows):
    rng = np.random.default_rng(seed)
    problem = planted_problem(count=20, padding=True)
    indices = problem.sample_indices(rows, rng)
    budgets = rng.integers(1, problem.num_chunks + 3, size=rows)
    observation = problem.observe(indices, budgets)
    mask = observation["chunk_mask"].astype(bool)
    selector = PolicySelector(make_policy(problem.embedding_size), "grpo")
    logits = selector.logits(observation, budgets)
    assert (logits.softmax(-1).numpy()[~mask] == 0).all()
    sets = [selector.select(observation, budgets, rng)]
    for draw in (plackett_luce.sample, sample_stepwise):
        order = draw(logits, torch.from_numpy(budgets), generator(seed))
        sets.append(plackett_luce.expanded_from(order, problem.num_chunks).numpy())
    for expanded in sets:
        assert not (expanded & ~mask).any()
        assert (expanded.sum(-1) == np.minimum(budgets, mask.sum(-1))).all()


def test_ppo_gives_forbidden_chunks_no_probability():
    view = SelectiveExpansionVecEnv(planted_problem(count=20, padding=True), 4, flat=False)
    pointer = make_policy(view.problem.embedding_size)
    policy = as_sb3_policy(pointer, view)
    observation = view.reset()
    observation, *_ = view.step(np.array([0, 1, 2, 3]))
    masks = np.stack(view.env_method("action_masks"))
    tensors = as_tensors(observation)
    distribution = policy.get_distribution(tensors, action_masks=masks)
    probabilities = distribution.distribution.probs.detach().numpy()
    assert (probabilities[~masks] == 0).all()
    assert probabilities.sum(-1) == pytest.approx(1, abs=1e-5)


# 5. Probabilities at sampling and at update agree, sum to 1, and both ways of sampling are one.


@pytest.mark.parametrize("picks", [1, 2, 3, 4])
def test_probabilities_of_all_ordered_selections_sum_to_one(picks):
    orders = torch.tensor(list(permutations(VALID, picks)))
    log_prob = plackett_luce.log_prob(LOGITS.expand(len(orders), -1), orders).sum(-1)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_one_shot_probabilities_are_the_stepwise_softmax_s():
    for order in permutations(VALID, 3):
        remaining, total = LOGITS.clone(), 0.0
        for pick in order:
            total += remaining.log_softmax(-1)[pick].item()
            remaining[pick] = -torch.inf
        found = plackett_luce.log_prob(LOGITS.unsqueeze(0), torch.tensor([order])).sum()
        assert found.item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("draw", [plackett_luce.sample, sample_stepwise])
def test_samples_follow_the_enumerated_distribution(draw):
    count, budget = 20_000, 2
    orders = list(permutations(VALID, budget))
    every = LOGITS.expand(len(orders), -1)
    expected = plackett_luce.log_prob(every, torch.tensor(orders)).sum(-1).double().exp().numpy()
    drawn = draw(LOGITS.expand(count, -1), torch.full((count,), budget), generator(1))
    codes = (drawn * torch.tensor([5, 1])).sum(-1).numpy()
    observed = np.array([(codes == 5 * first + second).sum() for first, second in orders])
    assert observed.sum() == count
    assert chisquare(observed, count * expected / expected.sum()).pvalue > 0.01


@pytest.mark.parametrize("logits", ["once", "each_pick"])
def test_grpo_s_ratios_are_one_on_the_first_pass(logits):
    problem = planted_problem(count=20, padding=True, budget=(2, 6))
    options = {"width": 16, "output_scale": 1.0, "logits": logits}
    agent = Grpo(policy=options, device="cpu", windows_per_update=6)
    policy = agent._start(problem)
    batch = agent.collect(policy, problem, np.random.default_rng(0))
    budgets = torch.from_numpy(batch.budgets)
    log_prob = selections.pick_probabilities(
        policy, batch.observation, budgets, batch.order, copies=8
    ).log_prob
    picked = batch.order != plackett_luce.NO_PICK
    torch.testing.assert_close(log_prob, batch.log_prob, rtol=0, atol=1e-6)
    found = clipped_objective(log_prob, batch.log_prob, torch.ones(48, 1), picked, clip_range=0.2)
    assert found.loss.item() == pytest.approx(-1, abs=1e-5)
    assert abs(found.approximate_kl.item()) < 1e-6
    # What was scored is what is trained: the sets are those of the recorded picks.
    expanded = plackett_luce.expanded_from(batch.order, problem.num_chunks).numpy()
    again = problem.rewards(np.repeat(batch.indices, 8), expanded).reshape(6, 8)
    np.testing.assert_allclose(batch.rewards, again)
    assert (expanded.sum(-1) == np.repeat(batch.budgets, 8)).all()


@pytest.mark.parametrize("logits", ["once", "each_pick"])
def test_ppo_s_ratios_are_one_on_the_first_pass(logits):
    problem = planted_problem(count=20, padding=True, budget=(2, 6))
    agent = Ppo(
        policy={"width": 16, "output_scale": 1.0, "logits": logits},
        device="cpu",
        episodes_per_update=16,
        total_rewards=1,
        epochs=1,
    )
    model = agent._make_model(SelectiveExpansionVectorEnv(problem, num_envs=4))
    model.learn(model.n_steps * 4)
    assert model.logger.name_to_value["train/approx_kl"] == pytest.approx(0, abs=1e-6)
    assert model.logger.name_to_value["train/clip_fraction"] == 0
    assert np.abs(model.rollout_buffer.log_probs).max() > 0.1


def test_ppo_s_steps_multiply_to_the_plackett_luce_probability():
    view = SelectiveExpansionVecEnv(planted_problem(budget=3, count=8), 1, flat=False)
    pointer = make_policy(view.problem.embedding_size)
    policy = as_sb3_policy(pointer, view)
    observation = view.reset()
    logits = pointer(as_tensors(observation), torch.tensor([3]))
    order, steps = [7, 2, 11], []
    for pick in order:
        masks = np.stack(view.env_method("action_masks"))
        _, log_prob, _ = policy.evaluate_actions(
            as_tensors(observation), torch.tensor([pick]), action_masks=torch.from_numpy(masks)
        )
        steps.append(log_prob)
        observation, *_ = view.step(np.array([pick]))
    torch.testing.assert_close(
        torch.stack(steps, -1),
        plackett_luce.log_prob(logits, torch.tensor([order])),
        atol=1e-5,
        rtol=0,
    )


# 7. A planted task is solved by every learning agent.


LARGER = {"learning_rate": 2e-3, "policy": {"width": 32}, "device": "cpu"}
LEARNING = {
    "grpo": lambda: Grpo(total_rewards=6000, **LARGER),
    "grpo-credit": lambda: Grpo(total_rewards=6000, credit_per_chunk=True, **LARGER),
    "rloo": lambda: Rloo(total_rewards=6000, windows_per_update=8, **LARGER),
    "rloo-credit": lambda: Rloo(
        total_rewards=6000, windows_per_update=8, credit_per_chunk=True, **LARGER
    ),
    "rloo-each-pick": lambda: Rloo(
        total_rewards=6000,
        windows_per_update=8,
        **{**LARGER, "policy": {"width": 32, "logits": "each_pick"}},
    ),
    "rloo-warm": lambda: Rloo(total_rewards=5000, warm_start="imitation", **LARGER),
    "reinforce": lambda: Reinforce(total_rewards=12000, windows_per_update=48, **LARGER),
    "imitation": lambda: Imitation(total_rewards=5000, **LARGER),
    # What the planted chunk gains here is of order 1.
    "regression": lambda: Regression(total_rewards=6000, gain_scale=1.0, **LARGER),
    "ppo": lambda: Ppo(total_rewards=2500, **LARGER),
    "ppo-per-step": lambda: Ppo(total_rewards=2400, reward_timing="per_step", **LARGER),
}


@pytest.mark.parametrize("name", LEARNING)
def test_a_planted_task_is_solved_on_windows_never_seen(name):
    agent = LEARNING[name]()
    held_out = planted_problem(count=150, seed=1)
    agent.learn(SelectiveExpansionVectorEnv(planted_problem(), num_envs=32), NullMonitor())
    found = share_found(agent, held_out, budget=4)
    assert found > 0.95
    assert found > share_found(HEURISTICS["lexical"](), held_out, budget=4) + 0.2


@pytest.mark.parametrize(
    ("name", "rewards"), [("grpo", 6000), ("ppo", 2500), ("rloo", 6000), ("regression", 2000)]
)
def test_it_is_solved_with_the_settings_that_a_run_has(name, rewards):
    config = OmegaConf.load(Path(refrag_rl.conf.__file__).parent / "agent" / f"{name}.yaml")
    config = OmegaConf.create(
        {"seed": 0, "env": {"reward_timing": "terminal"}, "agent": config}
    ).agent
    agent = instantiate(config, total_rewards=rewards, device="cpu")
    held_out = planted_problem(count=150, seed=1)
    agent.learn(SelectiveExpansionVectorEnv(planted_problem(), num_envs=32), NullMonitor())
    assert share_found(agent, held_out, budget=4) > 0.95
