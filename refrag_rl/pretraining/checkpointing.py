"""Checkpoints of a running stage."""

from __future__ import annotations

from refrag_rl.training_state import Checkpoint


class StageCheckpoint(Checkpoint):
    """The newest state of one training stage."""
