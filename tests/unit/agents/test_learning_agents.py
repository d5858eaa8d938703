import json

import numpy as np
import pytest
import torch

from refrag_rl.agents.demonstrations import Demonstrations, from_json
from refrag_rl.agents.figures import difference_to_reference
from refrag_rl.agents.grpo import Grpo
from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.imitation import Imitation
from refrag_rl.agents.loading import load_selector
from refrag_rl.agents.monitor import NullMonitor
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.agents.ppo import EpisodeRecorder, Ppo, _batch_size
from refrag_rl.agents.regression import Regression
from refrag_rl.agents.reinforce import Reinforce
from refrag_rl.agents.rloo import Rloo
from refrag_rl.agents.selector import Agent
from refrag_rl.envs import SelectiveExpansionVectorEnv
from refrag_rl.errors import UserError
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.policies.storage import CONFIG_FILE, WEIGHTS_FILE
from tests.planted import planted_problem

SMALL = {"policy": {"width": 16, "heads": 2}, "device": "cpu"}
AGENTS = {
    "grpo": lambda **options: Grpo(**{"windows_per_update": 4, **SMALL, **options}),
    "rloo": lambda **options: Rloo(**{"windows_per_update": 4, **SMALL, **options}),
    "reinforce": lambda **options: Reinforce(**{"windows_per_update": 16, **SMALL, **options}),
    "imitation": lambda **options: Imitation(
        **{"picks": 1, "windows_per_update": 2, "steps_per_update": 2, **SMALL, **options}
    ),
    "regression": lambda **options: Regression(**{"windows_per_update": 4, **SMALL, **options}),
    "ppo": lambda **options: Ppo(**{"episodes_per_update": 32, **SMALL, **options}),
}
FIGURES = {
    "grpo": {"groups_without_spread", "clip_fraction", "approximate_kl", "entropy", "grad_norm"},
    "rloo": {"entropy", "grad_norm"},
    "reinforce": {"greedy_reward", "entropy", "grad_norm"},
    "imitation": {"agreement_with_oracle", "grad_norm"},
    "regression": {"explained_variance", "grad_norm"},
    "ppo": {"explained_variance", "clip_fraction", "approximate_kl", "entropy"},
}


class Curve(NullMonitor):
    """Keeps what it is told, but for the wall-clock figure."""

    def __init__(self, reference=None, evaluate_at=()):
        self.reference = reference
        self.evaluate_at = set(evaluate_at)
        self.rows, self.progress, self.evaluated = [], [], []

    def record(self, step, scalars):
        kept = {k: v for k, v in scalars.items() if k != "reward/rewards_per_second"}
        self.rows.append((step, kept))

    def advance(self, done, total, scalars):
        self.progress.append((done, total))

    def should_evaluate(self, done):
        return done in self.evaluate_at

    def evaluate(self, selector, done):
        self.evaluated.append((selector.name, done))


def environment(problem=None, num_envs: int = 8) -> SelectiveExpansionVectorEnv:
    return SelectiveExpansionVectorEnv(problem or planted_problem(count=50), num_envs=num_envs)


def train(name: str, monitor=None, problem=None, **options):
    agent = AGENTS[name](**{"total_rewards": 96, **options})
    agent.learn(environment(problem), monitor or NullMonitor())
    return agent


@pytest.mark.parametrize("name", AGENTS)
def test_the_same_seed_gives_the_same_curve_and_another_seed_another(name):
    first, second, other = Curve(), Curve(), Curve()
    train(name, first, seed=3)
    torch.rand(7), np.random.rand(7)  # noqa: NPY002  what was drawn before must not matter
    train(name, second, seed=3)
    train(name, other, seed=4)
    np.testing.assert_equal(first.rows, second.rows)
    assert first.rows[0][1]["reward/mean"] != other.rows[0][1]["reward/mean"]


@pytest.mark.parametrize("name", AGENTS)
def test_what_is_reported(name):
    curve = Curve(HEURISTICS["random"](), evaluate_at=[32, 64, 96])
    train(name, curve)
    steps = [step for step, _ in curve.rows]
    assert steps == sorted(steps)
    assert steps[-1] >= 96
    common = {"reward/mean", "reward/log_perplexity", "reward/difference_to_best_heuristic"}
    common |= {f"policy/{n}" for n in {"loss", "learning_rate"} | FIGURES[name]}
    for _, scalars in curve.rows:
        assert common <= scalars.keys()
        assert np.isfinite(list(scalars.values())).all()
    assert curve.progress[-1] == (96, 96)
    assert {name for name, _ in curve.evaluated} <= {name}
    # Nearly uniform at first: the entropy of four picks of 16 chunks is that of 16 .. 13 choices.
    if "entropy" in FIGURES[name]:
        assert curve.rows[0][1]["policy/entropy"] == pytest.approx(
            np.log([16, 15, 14, 13]).mean(), abs=0.1
        )


@pytest.mark.parametrize("name", sorted(set(AGENTS) - {"ppo"}))
def test_training_rewards_are_the_sets_that_learning_scored(name):
    # Sets in one batch may repeat, so they are counted where they are asked for.
    problem = planted_problem(count=2000)
    asked = []
    score = problem.log_perplexity
    problem.log_perplexity = lambda indices, expanded: (
        asked.append(len(indices)) or score(indices, expanded)
    )
    curve = Curve()
    agent = AGENTS[name](total_rewards=1, reference_windows=0)
    agent.learn(environment(problem), curve)
    done = curve.rows[0][0]
    windows = {"grpo": 32, "rloo": 32, "reinforce": 32, "imitation": 32, "regression": 32}
    assert done == windows[name]
    assert done in asked or name in ("grpo", "rloo", "reinforce")


def test_grpo_evaluates_when_it_is_due():
    curve = Curve(evaluate_at=[64])
    train("grpo", curve)
    assert curve.evaluated == [("grpo", 64)]


def test_grpo_scores_each_update_s_groups_in_one_call():
    problem = planted_problem(count=50)
    calls = []
    score = problem.reward_model.log_perplexity
    problem.reward_model.log_perplexity = lambda windows, expanded: (
        calls.append([window.key for window in windows]) or score(windows, expanded)
    )
    agent = AGENTS["grpo"](total_rewards=32)
    policy = agent._start(problem)
    batch = agent.collect(policy, problem, np.random.default_rng(0))
    assert len(calls[0]) >= 32
    keys = [problem.window(int(i)).key for i in batch.indices for _ in range(8)]
    assert calls[0][:32] == keys


def test_difference_to_reference_is_paired():
    problem = planted_problem(count=20)
    indices, budgets = np.arange(20), np.full(20, 4)
    lead = HEURISTICS["lead"]()
    rng = np.random.default_rng(0)
    expanded = lead.select(problem.observe(indices, budgets), budgets, rng)
    rewards = problem.rewards(indices, expanded) + 0.25
    found = difference_to_reference(problem, lead, indices, budgets, rewards, rng)
    assert found == {"reward/difference_to_best_heuristic": pytest.approx(0.25)}
    assert difference_to_reference(problem, None, indices, budgets, rewards, rng) == {}


@pytest.mark.parametrize("name", AGENTS)
def test_a_saved_agent_selects_as_before_and_learns_on(name, tmp_path):
    problem = planted_problem(count=50)
    agent = train(name, problem=problem, seed=1)
    agent.save(tmp_path / "policy")
    budgets = np.full(50, 3)
    observation = problem.observe(np.arange(50), budgets)
    rng = np.random.default_rng(0)
    before = agent.select(observation, budgets, rng)
    restored = AGENTS[name](total_rewards=32)
    restored.load(tmp_path / "policy")
    for selector in (restored, load_selector(tmp_path), load_selector(tmp_path / "policy")):
        assert selector.name == name
        assert (selector.select(observation, budgets, rng) == before).all()
    weights = {n: t.clone() for n, t in restored.selector.policy.state_dict().items()}
    restored.learn(environment(problem), NullMonitor())
    moved = restored.selector.policy.state_dict()
    distance = sum((moved[n] - weights[n]).abs().sum().item() for n in weights)
    assert 0 < distance < sum(t.abs().sum().item() for t in weights.values()) / 2
    assert {file.name for file in (tmp_path / "policy").iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}


@pytest.mark.parametrize("name", AGENTS)
def test_learning_agents_are_agents_and_need_a_policy(name, tmp_path):
    agent = AGENTS[name]()
    assert isinstance(agent, Agent)
    with pytest.raises(UserError, match="no policy yet"):
        agent.save(tmp_path)


def test_a_policy_for_another_width_is_refused(tmp_path):
    selector = PolicySelector(PointerPolicy(PointerConfig(5, width=16)), "grpo")
    selector.save(tmp_path)
    problem = planted_problem(count=4)
    with pytest.raises(UserError, match="width 5, not 12"):
        load_selector(tmp_path, embedding_size=12)
    with pytest.raises(UserError, match="width 5, not 12"):
        load_selector(tmp_path).select(
            problem.observe([0]), np.array([2]), np.random.default_rng(0)
        )
    agent = AGENTS["grpo"]()
    agent.load(tmp_path)
    with pytest.raises(UserError, match="width 5, not 12"):
        agent.learn(environment(problem), NullMonitor())


def test_an_unknown_selector_lists_the_choices(tmp_path):
    assert load_selector("recency").name == "recency"
    with pytest.raises(UserError, match=r"is a folder without a policy.*\n.*resume="):
        load_selector(tmp_path)
    for given in ("recent", tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"run folder, a policy folder.*random, .*successor"):
            load_selector(given)


@pytest.mark.parametrize(
    ("agent", "options", "message"),
    [
        (Grpo, {"group_size": 1}, r"agent.group_size=1: .* at least 2"),
        (Grpo, {"total_rewards": 1e4}, "agent.total_rewards=10000.0: give a whole number"),
        (Grpo, {"learning_rate": 0}, "above 0"),
        (Grpo, {"clip_range": 1.0}, "above 0 and below 1"),
        (Grpo, {"normalize_spread": "yes"}, "true or false"),
        (Grpo, {"policy": {"widht": 3}}, "unknown policy option 'widht'"),
        (Grpo, {"device": "abacus"}, "auto, cpu, cuda"),
        (Grpo, {"clip_range_upper": 0}, "agent.clip_range_upper=0: .* above 0"),
        (Grpo, {"credit_per_chunk": 1}, "true or false"),
        (Rloo, {"credit_ridge": 0.0}, "above 0"),
        (Rloo, {"group_size": 1}, "at least 2"),
        (Reinforce, {"group_size": 0}, "at least 1"),
        (Imitation, {"picks": 0}, "at least 1"),
        (Regression, {"chunks_per_window": 0}, "at least 1"),
        (Ppo, {"warm_start": "nowhere"}, "give imitation, regression, null, or a run"),
        (Rloo, {"warm_start": 3}, "give imitation, regression, null, or a run"),
        (Rloo, {"warm_start": "imitation", "warm_start_rewards": 4000}, "=4000 leaves none"),
        (Ppo, {"learning_rate_schedule": "cosine"}, "choose from constant, linear"),
        (Ppo, {"reward_timing": "never"}, "choose from terminal, per_step"),
        (Ppo, {"gae_lambda": 1.5}, "at least 0 and at most 1"),
        (Ppo, {"target_kl": True}, "above 0"),
    ],
)
def test_wrong_arguments_are_user_errors(agent, options, message):
    with pytest.raises(UserError, match=message):
        agent(**options)


@pytest.mark.parametrize("steps", range(2, 60))
def test_no_minibatch_is_a_single_step(steps):
    for minibatches in range(1, 9):
        assert steps % _batch_size(steps, minibatches) != 1


def test_ppo_counts_each_episode_once_with_per_step_rewards_too():
    curves = [Curve(), Curve()]
    for curve, timing in zip(curves, ("terminal", "per_step"), strict=True):
        train("ppo", curve, reward_timing=timing, seed=2)
    # The first rollout does not depend on the rewards: same episodes, same terminal rewards.
    assert curves[0].rows[0][0] == curves[1].rows[0][0]
    for name in ("reward/mean", "reward/log_perplexity"):
        first, second = (curve.rows[0][1][name] for curve in curves)
        assert first == pytest.approx(second, abs=1e-5)


def test_the_recorder_keeps_only_what_ended():
    recorder = EpisodeRecorder()
    ended = {"window": 3, "budget": 1, "expanded": np.array([1, 0]), "log_perplexity": 2.5}
    recorder.locals = {"infos": [ended, {"window": 4}], "dones": np.array([True, False])}
    recorder._on_step()
    episodes = recorder.take(2)
    assert episodes.indices.tolist() == [3]
    assert episodes.expanded.tolist() == [[True, False]]
    assert len(recorder.take(2).indices) == 0


WARM_STARTED = sorted(set(AGENTS) - {"imitation"})


@pytest.mark.parametrize("start", ["imitation", "regression"])
@pytest.mark.parametrize("name", WARM_STARTED)
def test_a_warm_start_counts_and_comes_first(name, start):
    curve = Curve()
    agent = train(name, curve, warm_start=start, warm_start_rewards=300, total_rewards=600)
    assert curve.rows[0][0] > 300
    assert curve.rows[-1][0] >= 600
    assert agent.selector.training["training_rewards"] == curve.rows[-1][0]
    again = Curve()
    train(name, again, warm_start=start, warm_start_rewards=300, total_rewards=600)
    np.testing.assert_equal(curve.rows, again.rows)


def test_a_warm_start_takes_a_quarter_and_shows_its_progress():
    agent = Rloo(warm_start="regression", total_rewards=2000, **SMALL)
    assert agent.warm_start_rewards == 500
    curve = Curve()
    train("rloo", curve, warm_start="regression", total_rewards=1200)
    first = curve.rows[0][0]
    during = [done for done, total in curve.progress if done < first]
    assert during == sorted(set(during))
    assert len(during) > 1
    assert during[0] > 0
    assert {total for _, total in curve.progress} == {1200}


def test_a_short_training_has_a_short_regression_first():
    curve = Curve()
    train("rloo", curve, warm_start="regression", total_rewards=40)
    assert 0 < curve.progress[0][0] <= 8
    assert curve.rows[-1][0] >= 40
    shortest = Curve()
    train("rloo", shortest, warm_start="regression", total_rewards=8)
    assert shortest.progress[0] == (2, 8)


def test_a_warm_start_that_leaves_nothing_to_learn_from_is_a_user_error():
    with pytest.raises(UserError, match=r"the warm start scored .* give more"):
        train("rloo", warm_start="imitation", warm_start_rewards=200, total_rewards=201)


@pytest.mark.parametrize("name", WARM_STARTED)
def test_a_warm_start_from_a_folder_is_that_policy(name, tmp_path):
    train("imitation", seed=7).save(tmp_path / "run" / "policy")
    agent = AGENTS[name](warm_start=str(tmp_path / "run"), seed=3)
    policy = agent._start(planted_problem())
    kept = PolicySelector.load(tmp_path / "run" / "policy").policy.state_dict()
    for key, tensor in policy.state_dict().items():
        assert torch.equal(tensor, kept[key])
    assert agent.selector.agent == name
    with pytest.raises(UserError, match="give one of them"):
        AGENTS[name](warm_start=str(tmp_path / "run")).load(tmp_path / "run" / "policy")


@pytest.mark.parametrize("name", WARM_STARTED)
def test_a_loaded_policy_is_not_fitted_anew_before_it_is_trained(name, tmp_path):
    train("imitation", seed=7).save(tmp_path / "policy")
    agent = AGENTS[name](warm_start="regression", total_rewards=60)
    agent.load(tmp_path / "policy")
    curve = Curve()
    agent.selector.training["commit"] = "of the first training"
    agent.learn(environment(), curve)
    assert curve.rows[0][0] == curve.progress[0][0]
    assert agent.selector.training == {"seed": agent.seed, "training_rewards": curve.rows[-1][0]}


def test_options_of_a_policy_that_is_loaded_in_its_place_are_said_to_have_no_effect(
    tmp_path, caplog
):
    train("imitation").save(tmp_path / "policy")
    kept = PolicySelector.load(tmp_path / "policy").policy.config
    other = 2 * kept.width
    agent = AGENTS["grpo"](policy={"width": other, "heads": kept.heads})
    agent.load(tmp_path / "policy")
    said = f"agent.policy.width={other} has no effect"
    assert [said in message for message in caplog.messages] == [True]
    assert f"keeps its own, {kept.width}" in caplog.text


def test_sets_of_a_warm_start_that_there_is_not_are_a_user_error():
    with pytest.raises(UserError, match=r"warm_start_rewards=8, but agent.warm_start is None"):
        AGENTS["grpo"](warm_start_rewards=8)


@pytest.mark.parametrize("name", AGENTS)
def test_a_policy_of_several_members_is_trained_saved_and_loaded(name, tmp_path):
    agent = train(name, policy={"members": 2, "width": 8, "heads": 2})
    agent.save(tmp_path)
    loaded = PolicySelector.load(tmp_path)
    assert loaded.policy.config.members == 2
    problem = planted_problem(count=20)
    indices, budgets = np.arange(20), np.full(20, 2)
    observation = problem.observe(indices, budgets)
    assert torch.equal(
        loaded.logits(observation, budgets), agent.selector.logits(observation, budgets)
    )
    first = agent.selector.policy
    assert not torch.equal(first.output.weight, first.others[0].output.weight)


def test_ppo_learns_without_reference_windows():
    curve = Curve()
    train("ppo", curve, reference_windows=0)
    assert curve.rows
    assert not any("reference" in name for _, scalars in curve.rows for name in scalars)


def test_a_policy_of_passages_has_their_starts_computed_whatever_its_features():
    agent = Grpo(policy={"features": ["lexical"], "neighbours": "passage"})
    assert set(agent.inputs.features) == {"lexical", "passage_start"}


def test_demonstrations_that_were_kept_are_gone_on_from():
    problem = planted_problem([2, 5], count=50)
    made, again = (Demonstrations(problem, 2, 3, seed=0) for _ in range(2))
    for update in range(4):
        made.add(update)
    again.restore(json.loads(json.dumps(made.to_json())))
    assert not again.scored
    for mine, theirs in zip(
        again.sample(9, np.random.default_rng(1)),
        made.sample(9, np.random.default_rng(1)),
        strict=True,
    ):
        assert (mine.window, mine.budget) == (theirs.window, theirs.budget)
        assert mine.order.tolist() == theirs.order.tolist()


@pytest.mark.parametrize(
    "kept", ["text", [[1, 2]], [[1, 2, []]], [[-1, 2, [0]]], [[1, 2, [3, 3]]], [[1, 2, ["0"]]]]
)
def test_what_is_no_demonstration_is_not_gone_on_from(kept):
    with pytest.raises(ValueError, match="its demonstrations"):
        from_json(kept)
