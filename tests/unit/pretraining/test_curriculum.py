"""The geometric curriculum against the paper's Table 8 and its own definition."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refrag_rl.errors import UserError
from refrag_rl.pretraining.batches import BatchSize, Sizes
from refrag_rl.pretraining.curriculum import (
    Curriculum,
    curriculum_table,
    data_point_sizes,
    geometric_counts,
)


def test_ends_of_the_published_rows_follow_from_first_term_and_total() -> None:
    shortest = geometric_counts(1333, 2000, 9)
    assert round(shortest[0]) == 1333 and round(shortest[-1]) == 0
    longest = geometric_counts(1, 8000, 9)
    assert round(longest[0]) == 1
    assert abs(longest[-1] - 5259) < 1


@given(first=st.floats(0.01, 100), factor=st.floats(1.0, 1e4), stages=st.integers(2, 12))
def test_sequence_is_geometric_and_keeps_its_sum(first: float, factor: float, stages: int) -> None:
    total = first * factor
    counts = geometric_counts(first, total, stages)
    assert counts[0] == pytest.approx(first)
    assert counts.sum() == pytest.approx(total, rel=1e-6)
    if counts[1] > 1e-6:
        ratios = counts[1:] / counts[:-1]
        assert np.allclose(ratios, ratios[0], rtol=1e-4)


@pytest.mark.parametrize(("first", "total", "stages"), [(0, 5, 3), (6, 5, 3), (1, 5, 0), (1, 5, 1)])
def test_impossible_sequences_are_refused(first: float, total: float, stages: int) -> None:
    with pytest.raises(ValueError, match="sum"):
        geometric_counts(first, total, stages)


def test_sizes_double_up_to_the_longest() -> None:
    assert data_point_sizes(32) == [1, 2, 4, 8, 16, 32]
    assert data_point_sizes(20) == [1, 2, 4, 8, 16, 20]
    assert data_point_sizes(1) == [1]
    assert data_point_sizes(20, 5) == [8, 16, 20]


def test_short_data_points_can_be_left_out() -> None:
    only = Curriculum(32, stages=1, min_chunks=32)
    assert only.sizes == [32] and only.shares_of_windows(0.5).tolist() == [1.0]
    with pytest.raises(UserError, match="min_chunks=33"):
        Curriculum(32, min_chunks=33)


def test_rows_keep_their_totals_and_turn_from_short_to_long() -> None:
    totals = [2000.0, 2000, 2000, 4000, 4000, 4000, 8000, 8000, 8000]
    table = curriculum_table(totals, 9)
    assert np.allclose(table.sum(1), totals)
    assert (np.diff(table[0]) < 0).all() and (np.diff(table[-1]) > 0).all()
    assert (np.diff(table[:, 0]) <= 0).all() and (np.diff(table[:, -1]) >= 0).all()


def test_share_of_long_data_points_grows_with_progress() -> None:
    curriculum = Curriculum(32)
    means = [
        float(curriculum.shares_of_positions(progress) @ np.array(curriculum.sizes))
        for progress in np.linspace(0, 0.999, 9)
    ]
    assert all(a < b for a, b in pairwise(means))
    assert curriculum.shares_of_positions(0.5).sum() == pytest.approx(1)


@pytest.mark.parametrize("lengths", [None, [20.0, 30, 50, 90, 170, 330]])
def test_one_stage_is_the_same_mix_in_no_order(lengths: list[float] | None) -> None:
    shuffled, ordered = Curriculum(32, stages=1), Curriculum(32)
    moments = (np.arange(14_000) + 0.5) / 14_000
    for shares, in_order in (
        (shuffled.shares_of_windows, ordered.shares_of_windows),
        (
            partial(shuffled.shares_of_positions, lengths=lengths),
            partial(ordered.shares_of_positions, lengths=lengths),
        ),
    ):
        assert np.array_equal(shares(0.0), shares(0.99))
        assert np.allclose(shares(0.5), np.mean([in_order(m) for m in moments], 0), atol=1e-3)


PUBLISHED = """
1333 445 148  49  16    6    2    1    0
 333 298 267 238 213  191  171  153  137
  83 102 126 156 193  238  293  362  447
  20  35  61 106 185  324  565  985 1719
   5  11  23  48 103  220  468  997 2125
   1   3   7  19  50  133  353  939 2496
   1   3   9  25  73  212  618 1802 5259
   1   3   9  25  73  212  618 1802 5259
   1   3   9  25  73  212  618 1802 5259
"""
"""Table 8 of the paper, of 1, 2, 4, ... 256 chunks."""


def test_published_table_follows_from_totals_and_first_terms() -> None:
    table = curriculum_table([2000.0] * 3 + [4000.0] * 3 + [8000.0] * 3, 9)
    published = [[int(count) for count in row.split()] for row in PUBLISHED.split("\n") if row]
    assert np.array_equal(np.round(table), published)


def test_batches_of_so_many_windows_follow_the_counts() -> None:
    curriculum = Curriculum(8)
    counts = np.array([1333, 333, 83, 20])
    assert np.allclose(curriculum.shares_of_windows(0), counts / counts.sum())
    tokens = counts * np.array([1, 2, 4, 8])
    assert np.allclose(curriculum.shares_of_positions(0), tokens / tokens.sum())


def test_windows_that_are_drawn_are_those_of_the_table() -> None:
    sizes = Sizes(range(9), Curriculum(256))  # type: ignore[arg-type]
    totals = np.array([2000] * 3 + [4000] * 3 + [8000] * 3)
    columns = curriculum_table(totals, 9).sum(0).astype(int).tolist()
    rng = np.random.default_rng(0)
    steps = int(totals.sum()) // 2
    drawn = [
        sizes.draw(step / steps, BatchSize(windows=1), rng)  # type: ignore[misc]
        for step in range(steps)
    ]
    counts = np.bincount(np.array(drawn), minlength=9)
    assert (np.abs(counts - totals / 2) < 4 * np.sqrt(totals / 2)).all()
    first = np.bincount(np.array(drawn[: columns[0] // 2]), minlength=9)
    assert abs(first[0] - 1333 / 2) < 4 * np.sqrt(1333 / 2)
    last = np.bincount(np.array(drawn[-columns[-1] // 2 :]), minlength=9)
    assert abs(last[-1] - 5259 / 2) < 4 * np.sqrt(5259 / 2)


def test_stages_of_batches_of_so_many_positions_are_equally_long() -> None:
    curriculum = Curriculum(32, stages=4)
    moments = np.arange(400) / 400
    shares = np.array([curriculum.shares_of_positions(progress) for progress in moments])
    changes = np.flatnonzero((shares[1:] != shares[:-1]).any(axis=1)) + 1
    assert changes.tolist() == [100, 200, 300]


@pytest.mark.parametrize(("num_chunks", "stages"), [(0, 9), (4, 0), (4, -1)])
def test_no_chunks_or_stages_are_refused(num_chunks: int, stages: int) -> None:
    with pytest.raises(UserError, match="curriculum_stages"):
        Curriculum(num_chunks, stages=stages)
