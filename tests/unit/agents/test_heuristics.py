from itertools import pairwise

import numpy as np
import pytest

from refrag_rl.agents.heuristics import HEURISTICS, Successor, expand_highest
from refrag_rl.agents.selector import Agent, Selector
from refrag_rl.errors import UserError
from refrag_rl.observation import CHUNK_FEATURES, Observation


def observe(mask: list[int] | None = None, rows: int = 1, **features: list[float]) -> Observation:
    """Return ``rows`` equal observations with the features given, the others zero."""
    chunks = len(next(iter(features.values()))) if features else len(mask or [1] * 6)
    held = np.array(mask or [1] * chunks, dtype=np.int8)
    columns = np.zeros((chunks, len(CHUNK_FEATURES)), dtype=np.float32)
    for name, values in features.items():
        columns[:, CHUNK_FEATURES.index(name)] = values
    one = Observation(
        chunk_embeddings=np.zeros((chunks, 2), dtype=np.float32),
        prompt_embedding=np.zeros(2, dtype=np.float32),
        features=columns * held[:, None],
        chunk_mask=held,
        expanded=np.zeros(chunks, dtype=np.int8),
        action_mask=held,
        budget_left=np.zeros(1, dtype=np.float32),
    )
    return Observation(**{name: np.stack([array] * rows) for name, array in one.items()})


def picked(name: str, budget: int, observation: Observation, **options: str) -> list[int]:
    selector = HEURISTICS[name](**options)
    expanded = selector.select(observation, np.array([budget]), np.random.default_rng(0))
    return np.flatnonzero(expanded[0]).tolist()


VALUES = [0.3, 0.9, 0.1, 0.9, 0.2, 0.8]


@pytest.mark.parametrize(
    ("name", "features", "expected"),
    [
        ("perplexity_desc", {"log_perplexity": VALUES}, [1, 3]),
        ("perplexity_asc", {"log_perplexity": VALUES}, [2, 4]),
        ("recency", {}, [4, 5]),
        ("lead", {}, [0, 1]),
        ("similarity", {"similarity": VALUES}, [1, 3]),
        ("lexical", {"lexical": [0, 0, 5, 0, 5, 7]}, [2, 5]),
        ("passage_rank", {"passage_rank": [0.5, 0.5, 0, 0, 0.25, 0.25]}, [2, 3]),
    ],
)
def test_each_rule_takes_what_it_says(name, features, expected):
    assert picked(name, 2, observe(**features)) == expected


def test_recency_counts_from_the_last_chunk_that_holds_text():
    assert picked("recency", 2, observe([1, 1, 1, 1, 0, 0])) == [2, 3]


@pytest.mark.parametrize("name", ["lexical", "successor", "lead", "passage_rank"])
def test_without_a_prompt_the_first_chunks_are_taken(name):
    assert picked(name, 3, observe()) == [0, 1, 2]


STARTS = [1, 0, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(1, [4]), (2, [4, 5]), (3, [1, 4, 5]), (4, [1, 2, 4, 5]), (5, [0, 1, 2, 4, 5])],
)
def test_successor_goes_on_to_the_end_of_the_passage_then_takes_the_next_match(budget, expected):
    observation = observe(passage_start=STARTS, lexical=[1, 3, 0, 0, 9, 0, 0, 0.5])
    assert picked("successor", budget, observation) == expected


def test_successor_does_not_go_on_into_what_it_has_taken():
    # From 1 to the end of the passage, then 0, whose next chunk is taken: the best of the rest.
    observation = observe(passage_start=STARTS, lexical=[5, 9, 0, 0, 0, 1, 0, 0])
    assert picked("successor", 4, observation) == [0, 1, 2, 5]


def test_successor_by_suffix_match():
    observation = observe(
        passage_start=STARTS, lexical=[9] + [0] * 7, suffix_match=[0] * 6 + [1, 0]
    )
    assert picked("successor", 2, observation, match="suffix_match") == [6, 7]
    with pytest.raises(UserError, match="lexical, suffix_match"):
        Successor(match="bm25")


@pytest.mark.parametrize("name", HEURISTICS)
def test_the_budget_is_met_exactly_and_padding_never_expanded(name):
    rng = np.random.default_rng(1)
    observation = observe([1, 1, 1, 1, 1, 0, 0, 0], rows=40, passage_start=STARTS)
    observation["features"][..., 1:6] = rng.random((40, 8, 5)).round(1)
    budget = rng.integers(1, 9, size=40)
    expanded = HEURISTICS[name]().select(observation, budget, rng)
    assert expanded.dtype == bool
    assert (expanded.sum(-1) == np.minimum(budget, 5)).all()
    assert not expanded[:, 5:].any()


@pytest.mark.parametrize("name", HEURISTICS)
def test_a_larger_budget_only_adds_and_the_same_rng_gives_the_same(name):
    observation = observe(passage_start=STARTS, lexical=[0, 2, 0, 1, 0, 2, 0, 0])
    sets = [set(picked(name, budget, observation)) for budget in range(1, 9)]
    assert all(small < large for small, large in pairwise(sets))


def test_scores_of_features_that_were_not_asked_for_are_refused():
    observation = observe([1, 1, 1, 0, 0, 0, 0, 0])
    budget = np.array([1])
    scores = np.full((1, 8), np.nan)
    with pytest.raises(UserError, match="NaN"):
        expand_highest(scores, observation, budget)
    scores[:, :3] = [0, 2, 1]  # those of padding may be anything
    assert expand_highest(scores, observation, budget)[0].tolist() == [False, True] + [False] * 6


def test_random_takes_every_set_equally_often():
    count = 6000
    expanded = HEURISTICS["random"]().select(
        observe([1] * 5, rows=count), np.full(count, 2), np.random.default_rng(0)
    )
    _, seen = np.unique(expanded, axis=0, return_counts=True)
    assert len(seen) == 10
    assert seen == pytest.approx(np.full(10, count / 10), rel=0.15)


def test_heuristics_are_selectors_and_do_not_learn():
    for name, heuristic in HEURISTICS.items():
        assert heuristic().name == name
        assert isinstance(heuristic(), Selector)
        assert not isinstance(heuristic(), Agent)
