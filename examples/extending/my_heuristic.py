"""A heuristic: the first chunk of every passage, then the second of every passage, and so on."""

import numpy as np

from refrag_rl.agents.heuristics import Heuristic
from refrag_rl.observation import Inputs, feature


class RoundRobin(Heuristic):
    """Takes turns between the passages.

    Args:
        backwards: Whether each passage is taken from its last chunk instead.
    """

    name = "round_robin"
    inputs = Inputs(("passage_start",))

    def __init__(self, backwards: bool = False) -> None:
        self.backwards = backwards

    def scores(self, observation, rng):
        """Return the score of each chunk, (B, L); the highest are expanded."""
        starts = feature(observation, "passage_start")
        places = np.arange(starts.shape[-1])
        # The place of the last start at or before each chunk.
        first = np.maximum.accumulate(np.where(starts > 0, places, 0), axis=-1)
        within = places - first
        return within if self.backwards else -within
