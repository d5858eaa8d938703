"""How soon a regression of gains predicts them, without scoring a set: what settings do to that.

    python experiments/selection/learning_speed.py OUTPUT.json RUN... [--agent NAME KEY=VALUE...]
        [--updates 32] [--points 8 16 32] [--seeds 0 1]

RUN are folders of ``agent=regression`` with ``agent.replay`` above 0: their last checkpoints hold
the gains that they measured. Each update of a training is given some of them, in an order of
chance, in place of gains that it measures; after some updates the policy is asked for the gains of
a quarter of the documents, of which it was given none, four times in turn. ``--agent`` is one
variant: the first run's ``agent`` with some keys changed. Held-out documents of the corpus play no
part: this is for choosing.
"""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import torch
from cross_validation import Figures, by_kind, configured, folds, of_policy, parser_of, read
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from recorded_gains import Recorded

from refrag_rl.agents.averaging import AveragedAdam
from refrag_rl.agents.gain_fitting import Fit
from refrag_rl.agents.gain_history import GainHistory
from refrag_rl.agents.optimization import set_learning_rate
from refrag_rl.agents.selector import Problem
from refrag_rl.policies.pointer import PointerPolicy

Predictions = dict[int, NDArray[np.floating]]
"""Of the measured chunks of each row."""


def learn(
    recorded: Recorded,
    given: NDArray[np.int64],
    asked: NDArray[np.int64],
    agent: DictConfig,
    updates: int,
    points: list[int],
    seed: int,
) -> dict[int, Predictions]:
    """Return what a policy predicts after some updates.

    Args:
        recorded: The gains.
        given: Rows that are learned from.
        asked: Rows that are predicted.
        agent: Keys of ``conf/agent/regression.yaml``.
        updates: Of the whole training, over which the learning rate falls to 0.
        points: After how many updates the policy is asked.
        seed: Of the weights, and of what is given when.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    policy = PointerPolicy(configured(recorded, agent, []))
    optimizer = AveragedAdam(policy.parameters(), agent.learning_rate, agent.averaging)
    fit = Fit(agent.gain_scale, agent.variance, agent.epochs, agent.replay, agent.max_grad_norm)
    history, order = GainHistory(), rng.permutation(given)
    predicted = {}
    for update in range(updates):
        set_learning_rate(optimizer, agent.learning_rate * (1 - update / updates))
        rows = order[update * agent.windows_per_update :][: agent.windows_per_update]
        with optimizer.at_iterate():
            gains = recorded.gains(rows)
            fit.step(policy, optimizer, cast(Problem, recorded), gains, history, rng)
        if update + 1 in points:
            predicted[update + 1] = of_policy(recorded, asked, policy)
    return predicted


def measure(
    recorded: Recorded, agent: DictConfig, updates: int, points: list[int], seed: int
) -> dict[int, dict[str, Figures]]:
    """Return, after some updates, what the predictions of each kind of windows are worth."""
    predicted: dict[int, Predictions] = {point: {} for point in points}
    for held_out in folds(recorded, "documents"):
        given, asked = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        needed = updates * agent.windows_per_update
        if len(given) < needed:
            raise SystemExit(f"{len(given)} windows of gains; {needed} are needed: give more runs")
        of_fold = learn(recorded, given, asked, agent, updates, points, seed)
        for point, of_point in of_fold.items():
            predicted[point] |= of_point
    return {point: by_kind(recorded, each, "all") for point, each in predicted.items()}


def main() -> None:
    """Measure, print and write."""
    parser = parser_of(__doc__)
    parser.add_argument("--agent", nargs="+", action="append", default=[])
    parser.add_argument("--updates", type=int, default=32)
    parser.add_argument("--points", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    recorded, of_run = read(options.runs)
    results: list[dict[str, Any]] = []
    print(f"| agent | sets | {' | '.join(recorded.kinds)} | mean |")
    for name, *changes in options.agent or [["agent"]]:
        # A run may be from before the weights were averaged.
        merged = OmegaConf.merge({"averaging": 0.0}, of_run, OmegaConf.from_dotlist(changes))
        agent = cast(DictConfig, merged)
        seeds = [
            measure(recorded, agent, options.updates, options.points, seed)
            for seed in options.seeds
        ]
        for point in options.points:
            sets = point * agent.windows_per_update * (agent.chunks_per_window + 1)
            gains = {
                kind: float(np.mean([each[point][kind].gain for each in seeds]))
                for kind in recorded.kinds
            }
            results.append({"name": name, "sets": sets, "gains": gains})
            cells = [f"{gain * 1e4:.0f}" for gain in (*gains.values(), np.mean([*gains.values()]))]
            print(f"| {name} | {sets} | {' | '.join(cells)} |", flush=True)
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
