"""Gains that are kept: drawn again as they were measured, and written and read to the bit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from refrag_rl.agents.gain_history import GainHistory
from refrag_rl.agents.gains import Gains
from refrag_rl.agents.regression import Regression
from tests.unit.agents.test_gains import measured


def known(gains: Gains) -> set[tuple[int, tuple[bool, ...], int, float]]:
    """Return window, set, chunk and gain of each measurement."""
    return {
        (int(gains.indices[row]), tuple(gains.bases[row].tolist()), int(chunk), float(gain))
        for row, chunk, gain in zip(gains.rows, gains.chunks, gains.gains, strict=True)
    }


def history() -> GainHistory:
    made = GainHistory()
    for share in (0.0, 1.0):
        made.add(measured(share, windows=5))
    return made


def test_all_that_is_drawn_was_measured_and_all_that_was_measured_can_be_drawn():
    everything = known(measured(0.0, windows=5)) | known(measured(1.0, windows=5))
    made = history()
    drawn = made.draw(100, np.random.default_rng(0))
    assert len(made) == len(drawn.indices) == 10
    assert known(drawn) == everything
    assert known(made.draw(3, np.random.default_rng(1))) < everything


def test_a_history_comes_back_to_the_bit():
    again = GainHistory.from_json(json.loads(json.dumps(history().to_json())))
    for mine, theirs in zip(
        history().draw(4, np.random.default_rng(2)),
        again.draw(4, np.random.default_rng(2)),
        strict=True,
    ):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    "damage",
    [
        {"index": -1},
        {"budget": 1.5},
        {"chunks_of_window": 0},
        {"chunks_of_window": 10**12},
        {"base": [99]},
        {"chunks": ["0", "1"]},
        {"chunks": [0]},
        {"gains": [float("nan"), 0.0]},
        {"gains": None},
    ],
)
def test_what_is_no_history_is_refused(damage):
    kept = history().to_json()
    kept[3] |= damage
    with pytest.raises(ValueError, match="its gains"):
        GainHistory.from_json(kept)


def test_a_kept_training_without_its_gains_cannot_be_gone_on_with():
    agent = Regression(total_rewards=1000, windows_per_update=5, replay=1)
    progress = {"update": 2, "done": 80, "kept": {"gains": history().to_json()}}
    agent.check_progress(progress)
    for kept in ({}, {"gains": history().to_json()[1:]}, []):
        with pytest.raises(ValueError, match=r"its gains|it keeps"):
            agent.check_progress({**progress, "kept": kept})
