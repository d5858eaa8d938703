import copy
from typing import Any, get_args

import numpy as np
import pytest

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.envs import ExpansionProblem
from refrag_rl.envs.options import BaselineName
from refrag_rl.envs.problem import BASELINE_HEURISTICS
from refrag_rl.errors import NotFiniteError, UserError
from refrag_rl.observation import CHUNK_FEATURES, Inputs, feature
from refrag_rl.schema import RewardBaseline
from tests.toy_problem import NUM_CHUNKS, ToyRewardModel, ToyWindows, toy_problem


def one_chunk(n: int, chunk: int = 0) -> np.ndarray:
    return np.arange(NUM_CHUNKS) == np.full((n, 1), chunk)


def test_observation_is_the_same_whatever_the_batch_and_the_cache() -> None:
    batch = toy_problem().observe(np.arange(12), np.arange(12))
    small = toy_problem(cache_windows=1)
    for _ in range(2):
        for index in range(12):
            alone = small.observe([index], [index])
            for key, value in alone.items():
                np.testing.assert_array_equal(value[0], batch[key][index])  # type: ignore[index,literal-required]


def test_windows_in_the_cache_are_encoded_once() -> None:
    problem = toy_problem()
    encoded: list[int] = []
    encode = problem.reward_model.chunk_embeddings
    problem.reward_model.chunk_embeddings = lambda windows: (  # type: ignore[method-assign]
        encoded.append(len(windows)) or encode(windows)  # type: ignore[func-returns-value]
    )
    for indices in ([3, 3, 4], [4, 3], [5, 3]):
        problem.observe(indices)
    assert encoded == [2, 1]


def test_observation_of_a_batch_is_the_callers_to_change() -> None:
    problem = toy_problem()
    problem.observe([0])["features"][:] = 7
    assert not np.any(problem.observe([0])["features"] == 7)


def test_the_output_does_not_leak_into_the_observation() -> None:
    model = ToyRewardModel()
    plain, other = (
        ExpansionProblem(ToyWindows(output_shift=shift), model, 2).observe(np.arange(12))
        for shift in (0, 1)
    )
    for key, value in plain.items():
        np.testing.assert_array_equal(value, other[key])  # type: ignore[literal-required]


def test_rewards() -> None:
    expanded, indices = one_chunk(3), [0, 1, 2]
    problem = toy_problem()
    scored = problem.log_perplexity(indices, expanded).astype(np.float64)
    nothing = problem.log_perplexity(indices, np.zeros_like(expanded)).astype(np.float64)
    assert not np.allclose(scored, nothing)
    np.testing.assert_allclose(problem.rewards(indices, expanded), -scored)
    perplexity = problem.variant(reward="neg_perplexity")
    np.testing.assert_allclose(perplexity.rewards(indices, expanded), -np.exp(scored))
    baseline = problem.variant(reward_baseline="compressed")
    np.testing.assert_allclose(baseline.rewards(indices, expanded), nothing - scored)
    both = perplexity.variant(reward_baseline="compressed")
    np.testing.assert_allclose(both.rewards(indices, expanded), np.exp(nothing) - np.exp(scored))


def test_baseline_is_scored_with_the_sets_and_only_once() -> None:
    problem = toy_problem(reward_baseline="compressed")
    problem.rewards([0, 0, 1], one_chunk(3))
    problem.rewards([0, 1], one_chunk(2, 1))
    problem.compressed_log_perplexity([0, 1])
    assert problem.reward_model.calls == [5, 2]  # type: ignore[attr-defined]


def test_sampling() -> None:
    problem = toy_problem([1, 6])
    rng = np.random.default_rng(0)
    indices = problem.sample_indices(500, rng)
    assert set(indices.tolist()) == set(range(12))
    budgets = problem.sample_budgets(indices, rng)
    valid = problem.chunk_masks(indices).sum(axis=1)
    assert {int(b) for b in budgets[valid == 6]} == {1, 2, 3, 4, 5, 6}
    assert {int(b) for b in budgets[valid == 4]} == {1, 2, 3, 4}


def test_a_copy_is_the_problem_itself() -> None:
    problem = toy_problem()
    assert copy.copy(problem) is problem
    assert copy.deepcopy({"problem": problem})["problem"] is problem


def test_a_variant_leaves_the_original_as_it_was() -> None:
    problem = toy_problem(2)
    assert problem.variant(budget=3).budget.spec == 3
    assert problem.variant().budget.spec == problem.budget.spec == 2


@pytest.mark.parametrize(
    "options",
    [{"reward": "perplexity"}, {"reward_baseline": "mean"}, {"budget": 7}, {"count": 0}],
)
def test_impossible_options_are_user_errors(options: Any) -> None:
    with pytest.raises(UserError):
        toy_problem(**options)


@pytest.mark.parametrize("index", [12, -1, 0.5, "a"])
def test_window_that_is_not_there(index: Any) -> None:
    with pytest.raises(UserError, match=r"window"):
        toy_problem().observe([index])


def test_padding_cannot_be_expanded() -> None:
    with pytest.raises(ValueError, match="padding"):
        toy_problem().log_perplexity([2], one_chunk(1, 5))
    with pytest.raises(ValueError, match="shape"):
        toy_problem().log_perplexity([2], one_chunk(2))


def test_a_heuristic_as_baseline() -> None:
    plain = toy_problem(2)
    problem = plain.variant(reward_baseline="recency")
    indices, budgets = np.arange(12), np.tile([1, 2, 3], 4)
    observation = plain.observe(indices, budgets)
    rng = np.random.default_rng(0)
    chosen = {name: HEURISTICS[name]().select(observation, budgets, rng) for name in HEURISTICS}
    np.testing.assert_array_equal(problem.rewards(indices, chosen["recency"]), 0)
    lead = plain.rewards(indices, chosen["lead"]) - plain.rewards(indices, chosen["recency"])
    assert np.any(lead != 0)
    np.testing.assert_allclose(problem.rewards(indices, chosen["lead"]), lead)
    # Fewer chunks than the budget: the baseline keeps to the budget.
    nothing = np.zeros_like(chosen["lead"])
    wasted = plain.rewards(indices, nothing) - plain.rewards(indices, chosen["recency"])
    np.testing.assert_allclose(problem.rewards(indices, nothing, budgets), wasted)


def test_baselines_are_the_heuristics_that_draw_nothing() -> None:
    rules = set(get_args(BaselineName)) - {"none", "compressed", "best_heuristic"}
    assert rules == set(BASELINE_HEURISTICS) == set(HEURISTICS) - {"random"}
    assert {choice.value for choice in RewardBaseline} == set(get_args(BaselineName))


@pytest.mark.parametrize("names", [(), ("lead", "recency")])
def test_the_best_heuristic_of_each_window_as_baseline(names: tuple[str, ...]) -> None:
    plain = toy_problem(2)
    problem = toy_problem(2, reward_baseline="best_heuristic", baseline_heuristics=names)
    indices, budgets = np.arange(12), np.tile([1, 2, 3], 4)
    each = []
    for name in names or BASELINE_HEURISTICS:
        observation = plain.observe(indices, budgets)
        chosen = HEURISTICS[name]().select(observation, budgets, np.random.default_rng(0))
        each.append(plain.rewards(indices, chosen))
    best = np.max(each, axis=0)
    # Not the rewards of any single one of them.
    assert all((best != rewards).any() for rewards in each)
    nothing = np.zeros((12, NUM_CHUNKS), dtype=bool)
    gain = problem.rewards(indices, nothing, budgets)
    np.testing.assert_allclose(gain, plain.rewards(indices, nothing) - best, rtol=1e-6)
    perplexity = problem.variant(reward="neg_perplexity").rewards(indices, nothing, budgets)
    assert (np.sign(perplexity) == np.sign(gain)).all()


def test_a_random_rule_cannot_be_a_baseline() -> None:
    with pytest.raises(UserError, match="'random' cannot be one"):
        toy_problem(2, baseline_heuristics=["random"])


def test_what_nobody_reads_is_not_computed() -> None:
    problem = toy_problem(2, inputs=Inputs(("position",)))
    asked: list[str] = []
    for method in ("chunk_log_perplexity", "chunk_reconstruction_loss"):
        setattr(problem.reward_model, method, lambda windows, name=method: asked.append(name))
    observation = problem.observe([0, 1])
    assert not asked
    np.testing.assert_allclose(feature(observation, "position")[0], np.arange(6) / 5, rtol=1e-6)
    with pytest.raises(UserError, match="without the feature log_perplexity"):
        feature(observation, "log_perplexity")
    assert np.isnan(observation["features"]).any(axis=(0, 1)).sum() == len(CHUNK_FEATURES) - 1


def test_projected_embeddings_are_an_option() -> None:
    encoder = toy_problem(2)
    projector = encoder.variant(inputs=Inputs(chunk_embeddings="projector"))
    assert (encoder.embedding_size, projector.embedding_size) == (3, 5)
    windows = [projector.window(index) for index in range(3)]
    observation = projector.observe([0, 1, 2])
    expected = projector.reward_model.projected_chunk_embeddings(windows)
    np.testing.assert_array_equal(observation["chunk_embeddings"], expected)
    assert observation["prompt_embedding"].shape == (3, 5)
    # Similarity stays that of the encoder's embeddings, so that the heuristic is the same.
    np.testing.assert_array_equal(
        feature(observation, "similarity"), feature(encoder.observe([0, 1, 2]), "similarity")
    )
    with pytest.raises(UserError, match="choose from encoder, projector"):
        Inputs(chunk_embeddings="decoder")  # type: ignore[arg-type]


def test_the_baseline_of_a_heuristic_needs_budgets() -> None:
    nothing = np.zeros((0, NUM_CHUNKS), dtype=bool)
    with pytest.raises(ValueError, match="successor needs budgets"):
        toy_problem().log_perplexity_and_baseline([], nothing, [1], "successor")


@pytest.mark.parametrize("baseline", ["none", "compressed", "successor"])
def test_no_set_has_no_reward(baseline: Any) -> None:
    problem = toy_problem(reward_baseline=baseline)
    found, rewards = problem.log_perplexity_and_rewards([], np.zeros((0, NUM_CHUNKS), dtype=bool))
    assert found.shape == rewards.shape == (0,)


def test_a_token_that_is_not_finite_names_its_window() -> None:
    problem = toy_problem()
    problem.reward_model.token_log_likelihood = lambda windows, expanded: [  # type: ignore[method-assign]
        np.full(3, np.nan if window.key == "toy-4" else -1.0, dtype=np.float32)
        for window in windows
    ]
    with pytest.raises(NotFiniteError, match="toy-4"):
        problem.token_log_likelihood([3, 4], np.zeros((2, NUM_CHUNKS), dtype=bool))
