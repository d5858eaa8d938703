from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.envs import ExpansionProblem
from refrag_rl.envs.features import bm25, passage_rank, similarity, suffix_match
from refrag_rl.observation import CHUNK_FEATURES, Inputs
from tests.toy_problem import ToyRewardModel, ToyWindows, toy_window, with_output


def window_of(context: list[list[int]], prompt: list[int], passage: list[int]) -> Window:
    """A window of chunks of 3 tokens; a passage of -1 marks padding."""
    chunks = len(context)
    return Window(
        key="w",
        context_ids=np.array(context),
        chunk_mask=np.array(passage) >= 0,
        prompt_ids=np.array(prompt, dtype=np.int64),
        output_ids=np.array([1]),
        document_id="d",
        domain="toy",
        prompt_position="after",
        chunk_texts=("",) * chunks,
        prompt_text="",
        output_text="",
        passage=np.array(passage),
        passage_scores=np.zeros(chunks, dtype=np.float32),
        planted=np.zeros(chunks, dtype=bool),
    )


def features_of(window: Window) -> NDArray[np.float32]:
    class OneWindow(ToyWindows):
        def __getitem__(self, index: int) -> Window:
            return window

    problem = ExpansionProblem(OneWindow(1), ToyRewardModel(), 1, inputs=Inputs(CHUNK_FEATURES))
    return problem.observe([0])["features"][0]


def test_suffix_match_counts_the_end_of_the_prompt_across_chunks_of_a_passage() -> None:
    window = window_of(
        [[9, 9, 1], [2, 3, 9], [9, 2, 3], [3, 9, 9]], prompt=[7, 1, 2, 3], passage=[0, 0, 1, 1]
    )
    # 1 | 2 3 ends in chunk 1; chunk 2 repeats only 2 3; chunk 3 only the last token.
    assert suffix_match(window).tolist() == [0, 3 / 4, 2 / 4, 1 / 4]


def test_suffix_match_does_not_cross_from_one_passage_to_the_next() -> None:
    window = window_of([[9, 9, 1], [2, 3, 9]], prompt=[1, 2, 3], passage=[0, 1])
    assert suffix_match(window).tolist() == [0, 2 / 3]


def test_suffix_match_of_the_whole_prompt_is_one() -> None:
    window = window_of([[1, 2, 3], [4, 5, 6]], prompt=[3, 4], passage=[0, 0])
    assert suffix_match(window).tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(20))
def test_suffix_match_equals_a_search_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    passage = [0, 0, 1, 1, 1, 2]
    window = window_of(rng.integers(0, 3, (6, 3)).tolist(), rng.integers(0, 3, 5).tolist(), passage)
    prompt, expected = window.prompt_ids.tolist(), np.zeros(6)
    for name in set(passage):
        members = np.flatnonzero(np.array(passage) == name)
        tokens = window.context_ids[members].reshape(-1).tolist()
        for end in range(1, len(tokens) + 1):
            for length in range(1, min(end, 5) + 1):
                if tokens[end - length : end] == prompt[-length:]:
                    chunk = members[(end - 1) // 3]
                    expected[chunk] = max(expected[chunk], length / 5)
    assert suffix_match(window).tolist() == expected.tolist()


def test_bm25_equals_the_formula() -> None:
    window = window_of(
        [[1, 1, 2], [2, 3, 4], [5, 6, 7], [0, 0, 0]], prompt=[1, 2, 2], passage=[0, 0, 0, -1]
    )
    rare, common = np.log(1 + 2.5 / 1.5), np.log(1 + 1.5 / 2.5)
    expected = [rare * 2 / 3.5 + 2 * common * 1 / 2.5, 2 * common * 1 / 2.5, 0, 0]
    np.testing.assert_allclose(bm25(window), expected)


def test_similarity_is_the_cosine_with_the_prompt_else_with_the_last_chunk() -> None:
    window = window_of([[1] * 3] * 3, prompt=[1], passage=[0, 0, -1])
    chunks = np.array([[3, 4], [0, 2], [0, 0]], dtype=np.float32)
    prompt = np.array([1, 0], dtype=np.float32)
    np.testing.assert_allclose(similarity(window, chunks, prompt), [0.6, 0, 0])
    silent = replace(window, prompt_ids=np.zeros(0, dtype=np.int64))
    np.testing.assert_allclose(similarity(silent, chunks, prompt), [0.8, 1, 0])


def test_passage_rank_follows_the_scores_and_keeps_the_order_of_ties() -> None:
    window = window_of([[1] * 3] * 7, prompt=[1], passage=[0, 0, 1, 2, 2, 3, -1])
    scored = replace(window, passage_scores=np.array([1, 1, 5, 1, 1, 9, 0], dtype=np.float32))
    assert passage_rank(scored).tolist() == [0.5, 0.5, 0.25, 0.75, 0.75, 0, 0]
    assert passage_rank(window).tolist() == [0, 0, 0.25, 0.5, 0.5, 0.75, 0]


def test_position_and_passage_start() -> None:
    columns = dict(zip(CHUNK_FEATURES, features_of(toy_window(0)).T, strict=True))
    np.testing.assert_allclose(columns["position"], np.arange(6) / 5)
    assert columns["passage_start"].tolist() == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("index", range(12))
def test_padding_chunks_have_no_features_and_all_is_finite(index: int) -> None:
    window = toy_window(index)
    features = features_of(window)
    assert features.shape == (6, len(CHUNK_FEATURES))
    assert np.isfinite(features).all()
    assert not features[~window.chunk_mask].any()


def test_without_a_prompt_nothing_matches_it() -> None:
    window = toy_window(3)
    assert not window.prompt_ids.size
    assert not bm25(window).any()
    assert not suffix_match(window).any()


@pytest.mark.parametrize("index", range(12))
def test_the_output_does_not_leak_into_the_features(index: int) -> None:
    window = toy_window(index)
    # An output that copies the context would show in any feature that looks at it.
    copying = with_output(window, window.context_ids[1])
    np.testing.assert_array_equal(features_of(window), features_of(copying))
