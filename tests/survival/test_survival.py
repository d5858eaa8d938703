"""Trainings that are killed or stopped come to what an uninterrupted one comes to, to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_and_stopped_runs_come_to_the_same(tmp_path: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-m", "tests.survival.trials", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    for row in rows:
        assert row["code"] == 0, row["log"]
        assert row["different"] == [], row
    kills: Counter[str] = Counter()
    for row in rows:
        kills[row["how"]] += len(row["killed"])
    assert kills["at random moments"] >= 20
    assert kills["while it saved"] >= 20
    # Not all of them before the first checkpoint or after the last.
    moments = [
        number for row in rows if row["how"] == "at random moments" for number in row["killed"]
    ]
    assert sum(0 < number < 16 for number in moments) >= 5, moments
    for row in rows:
        if "stop_code" in row:
            assert row["stop_code"] == {"SIGINT": 130, "SIGTERM": 143}[row["how"]]
            assert f"stopped by {row['how']}; last checkpoint: " in row["said"]
            command = "pretrain" if row["training"] == "never" else "train resume="
            assert f"go on with: python -m refrag_rl.{command}" in row["said"]
            assert "Traceback" not in row["said"]
