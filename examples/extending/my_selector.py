"""A selector around any other model: a MaskablePPO of sb3-contrib, trained on the environment.

A selector names all chunks at once and the model one a step, so the episode is played here.
"""

import numpy as np
from sb3_contrib import MaskablePPO

from refrag_rl.envs.layout import flattened


class Sb3Selector:
    """Expands what a saved MaskablePPO picks.

    Args:
        path: What ``model.save`` wrote. It holds pickles, which can run code: load your own only.
    """

    name = "sb3"

    def __init__(self, path):
        self.model = MaskablePPO.load(path)

    def select(self, observation, budget, rng):
        """Return the chunks to expand, (B, L) bool, as many as the budget (B,) says."""
        # Copies. Features that were not asked for are NaN here, and zero in the environment.
        seen = {name: np.nan_to_num(array) for name, array in observation.items()}
        picks = np.minimum(budget, seen["chunk_mask"].sum(axis=-1))
        for step in range(picks.max()):
            seen["budget_left"][:, 0] = np.maximum(picks - step, 0)
            actions, _ = self.model.predict(
                flattened(seen), action_masks=seen["action_mask"], deterministic=True
            )
            rows = np.flatnonzero(picks > step)
            seen["expanded"][rows, actions[rows]] = 1
            seen["action_mask"][rows, actions[rows]] = 0
        return seen["expanded"].astype(bool)
