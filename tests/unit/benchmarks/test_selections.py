"""Groups of random selections: different, of the budget's size, never of padding."""

from __future__ import annotations

import numpy as np
import pytest

from refrag_rl.benchmarks.selections import random_groups
from refrag_rl.errors import UserError


def test_selections_of_a_window_differ_and_keep_to_budget_and_text() -> None:
    masks = np.array([[True] * 6, [True] * 4 + [False] * 2])
    groups = random_groups(masks, np.array([2, 3]), 4, seed=0)
    for group, mask, budget in zip(groups, masks, (2, 3), strict=True):
        assert len({row.tobytes() for row in group}) == 4
        assert (group.sum(1) == budget).all()
        assert not (group & ~mask).any()
    assert (groups == random_groups(masks, np.array([2, 3]), 4, seed=0)).all()


def test_more_than_there_are() -> None:
    with pytest.raises(UserError, match="group_size=4: a window of 3 chunks has 3 selections of 2"):
        random_groups(np.ones((1, 3), dtype=np.bool_), np.array([2]), 4, seed=0)
