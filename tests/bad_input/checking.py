"""What every mistake must come to."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cli.running import Outcome

QUICK = (
    "agent.total_rewards=8",
    "agent.windows_per_update=2",
    "agent.group_size=2",
    "agent.policy.width=16",
    "agent.policy.heads=2",
    "evaluation.rates=[2]",
    "evaluation.heuristics=[recency]",
    "evaluation.count=2",
    "evaluation.validation_count=2",
    "evaluation.eval_every=0",
    "train_count=4",
    "env.num_envs=2",
    "budget=2",
    "save_every=4",
)
"""Settings of a GRPO training of a second or two, should a mistake be let through."""


def check_refused(outcome: Outcome, folder: Path) -> None:
    """Check that a command ended with a message of a few lines and left no folder behind."""
    lines = outcome.err.strip().split("\n")
    assert outcome.code == 2, outcome
    assert 1 <= len(lines) <= 3, outcome.err
    assert lines[0].startswith("refrag_rl."), outcome.err
    assert all(character.isprintable() or character == "\n" for character in outcome.err)
    assert "Traceback" not in outcome.err + outcome.out
    assert not (folder / "runs").exists()
    assert not (folder / "out").exists()


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its path."""
    return {
        str(Path(base) / name): (Path(base) / name).read_bytes()
        for base, _, names in os.walk(folder)
        for name in names
    }
