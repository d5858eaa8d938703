"""What the oracle picks on training windows, as examples to learn from.

1. A demonstration is the greedy oracle's order on a window: its first picks, each the chunk that
   lowers the true output's log-perplexity most beside those before it (``refrag_rl.agents.oracle``;
   without swaps, because a swap has no place in an order).
2. The loss is the negative log-likelihood of the picks in that order under the policy (its
   Plackett-Luce distribution where logits are computed once): the listwise loss of ListMLE (Xia et
   al. 2008, "Listwise approach to learning to rank"), of the list's top where ``picks`` ends it.
3. Windows and budgets of an update depend on the seed and the update's number alone. A label costs
   many scores, so a training that is stopped keeps its demonstrations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.agents.losses import mean_over_picks
from refrag_rl.agents.optimization import gradient_step
from refrag_rl.agents.oracle import greedy_order
from refrag_rl.agents.selector import Problem
from refrag_rl.policies import plackett_luce, selections
from refrag_rl.policies.pointer import PointerPolicy, as_tensors

LABELLED_PER_UPDATE = 4
STEPS_PER_UPDATE = 8
BATCH_WINDOWS = 32
LEARNING_RATE = 2e-3
PICKS = 4
"""What a warm start uses, and the defaults of the agent ``imitation``."""


class Demonstration(NamedTuple):
    """The oracle's picks on one window.

    Attributes:
        window: Its index.
        budget: Chunks to expand, of which ``order`` may hold the first only.
        order: (T,) the picks, without padding.
    """

    window: int
    budget: int
    order: NDArray[np.int64]


class Demonstrations:
    """Demonstrations made so far, the latest of each window.

    Args:
        problem: Windows, and what scores them.
        picks: Picks a window, at most; None: the whole budget.
        windows_per_update: How many windows an update adds.
        seed: Of the windows and budgets.

    Attributes:
        scored: Sets scored so far: each pick takes one for each chunk that is left.
    """

    def __init__(
        self, problem: Problem, picks: int | None, windows_per_update: int, seed: int
    ) -> None:
        self.problem = problem
        self.picks = picks
        self.windows_per_update = windows_per_update
        self.seed = seed
        self.scored = 0
        self._kept: dict[int, Demonstration] = {}

    def add(self, update: int) -> list[Demonstration]:
        """Make and keep the demonstrations of an update; the same number gives the same ones."""
        rng = np.random.default_rng([self.seed, update, 1])
        indices = np.unique(self.problem.sample_indices(self.windows_per_update, rng))
        budgets = self.problem.sample_budgets(indices, rng)
        held = self.problem.observe(indices, budgets)["chunk_mask"].astype(bool)
        picks = budgets if self.picks is None else np.minimum(budgets, self.picks)
        orders = greedy_order(indices, held, picks, self._losses)
        made = [
            Demonstration(int(index), int(budget), order[order >= 0])
            for index, budget, order in zip(indices, budgets, orders, strict=True)
        ]
        self._kept.update((demonstration.window, demonstration) for demonstration in made)
        return made

    def to_json(self) -> list[list[Any]]:
        """Return what JSON can hold: window, budget and order of each; ``from_json`` reads it."""
        return [[each.window, each.budget, each.order.tolist()] for each in self._kept.values()]

    def restore(self, kept: object) -> None:
        """Go on from what ``to_json`` returned; errors as ``from_json``."""
        self._kept = {made.window: made for made in from_json(kept)}

    def sample(self, count: int, rng: np.random.Generator) -> list[Demonstration]:
        """Draw demonstrations, each at most once; all of them where there are fewer."""
        kept = list(self._kept.values())
        places = rng.permutation(len(kept))[:count]
        return [kept[place] for place in places]

    def _losses(
        self, indices: NDArray[np.int64], expanded: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        self.scored += len(indices)
        return self.problem.log_perplexity(indices, expanded)


def from_json(kept: object) -> list[Demonstration]:
    """Return the demonstrations that ``Demonstrations.to_json`` wrote down.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(kept, list):
        raise ValueError(f"its demonstrations are {type(kept).__name__}, no list")
    return [_demonstration(entry) for entry in kept]


def _demonstration(entry: object) -> Demonstration:
    """Return what an entry says, or raise ``ValueError``."""
    if isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], list):
        window, budget, order = entry
        numbers = [window, budget, *order]
        whole = all(type(number) is int and 0 <= number < 2**40 for number in numbers)
        if whole and 0 < len(set(order)) == len(order):
            return Demonstration(window, budget, np.array(order, dtype=np.int64))
    raise ValueError(f"its demonstrations hold {str(entry)[:80]}")


def imitation_loss(
    policy: PointerPolicy, problem: Problem, demonstrations: list[Demonstration]
) -> Tensor:
    """Return the negative log-likelihood of the oracle's picks, a scalar, nats per pick."""
    indices = np.array([each.window for each in demonstrations])
    budgets = np.array([each.budget for each in demonstrations])
    longest = max(len(each.order) for each in demonstrations)
    order = np.full((len(indices), longest), plackett_luce.NO_PICK, dtype=np.int64)
    for row, each in enumerate(demonstrations):
        order[row, : len(each.order)] = each.order
    device = next(policy.parameters()).device
    observation = as_tensors(problem.observe(indices, budgets), device)
    picks = torch.from_numpy(order).to(device)
    found = selections.pick_probabilities(
        policy, observation, torch.from_numpy(budgets).to(device), picks
    )
    return -mean_over_picks(found.log_prob, picks != plackett_luce.NO_PICK)


def warm_start(
    policy: PointerPolicy,
    problem: Problem,
    rewards: int,
    seed: int,
    max_grad_norm: float,
    advance: Callable[[int], None],
) -> int:
    """Train a policy to imitate the oracle; see ``refrag_rl.agents.starting.WarmStart``."""
    demonstrations = Demonstrations(problem, PICKS, LABELLED_PER_UPDATE, seed)
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)
    update = 0
    while demonstrations.scored < rewards:
        demonstrations.add(update)
        rng = np.random.default_rng([seed, update, 2])
        for _ in range(STEPS_PER_UPDATE):
            loss = imitation_loss(policy, problem, demonstrations.sample(BATCH_WINDOWS, rng))
            gradient_step(policy, optimizer, loss, max_grad_norm)
        update += 1
        advance(demonstrations.scored)
    return demonstrations.scored
