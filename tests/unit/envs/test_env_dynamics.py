import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refrag_rl.envs import dynamics

MASKS = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=bool)
BOTH = np.array([True, True])


def test_an_allowed_action_expands_its_chunk_and_no_other() -> None:
    state = dynamics.start(MASKS, np.array([2, 2]))
    after, forbidden = dynamics.step(state, np.array([3, 0]), BOTH)
    assert after.expanded.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert not forbidden.any()
    assert not state.expanded.any(), "the state given was changed"


@pytest.mark.parametrize("action", [3, 0])
def test_padding_and_expanded_chunks_spend_a_step_and_expand_nothing(action: int) -> None:
    state = dynamics.start(MASKS[1:], np.array([2]))
    state, _ = dynamics.step(state, np.array([0]), BOTH[:1])
    after, forbidden = dynamics.step(state, np.array([action]), BOTH[:1])
    assert forbidden.tolist() == [True]
    np.testing.assert_array_equal(after.expanded, state.expanded)
    assert dynamics.finished(after).tolist() == [True]
    assert after.forbidden.tolist() == [1]


def test_an_inactive_episode_stays_as_it_is() -> None:
    state = dynamics.start(MASKS, np.array([2, 2]))
    after, _ = dynamics.step(state, np.array([0, 99]), np.array([True, False]))
    assert dynamics.budget_left(after).tolist() == [1, 2]
    assert not after.expanded[1].any()


@given(st.data())
@settings(max_examples=50)
def test_allowed_actions_meet_the_budget_exactly(data: st.DataObject) -> None:
    valid = data.draw(st.integers(1, 8))
    budget = data.draw(st.integers(1, valid))
    state = dynamics.start(np.arange(8)[None] < valid, np.array([budget]))
    while not dynamics.finished(state)[0]:
        allowed = np.flatnonzero(dynamics.action_mask(state)[0]).tolist()
        action = data.draw(st.sampled_from(allowed))
        state, forbidden = dynamics.step(state, np.array([action]), np.array([True]))
        assert not forbidden[0]
    assert state.expanded.sum() == state.steps[0] == budget
    assert not (state.expanded & ~state.chunk_mask).any()


def test_compression_rate_leaves_padding_out() -> None:
    state = dynamics.start(MASKS, np.array([2, 1]))
    assert dynamics.expanded_compression_rate(state, 16).tolist() == [16, 16]
    state, _ = dynamics.step(state, np.array([0, 0]), BOTH)
    # 1 of 4 chunks: 64 tokens in 3 + 16 positions; 1 of 2 chunks: 32 tokens in 1 + 16.
    np.testing.assert_allclose(dynamics.expanded_compression_rate(state, 16), [64 / 19, 32 / 17])


@pytest.mark.parametrize("budget", [0, 3])
def test_a_budget_that_does_not_fit(budget: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        dynamics.start(MASKS[1:], np.array([budget]))
