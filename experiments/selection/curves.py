"""Curves of the trainings over decoder evaluations, and what they say: ``curves.json``, ``.png``.

    python experiments/selection/curves.py TRAININGS OUTPUT --agents NAME...

The horizontal axis is sets: every one that the agent's learning has scored, among them the oracle's
candidates, greedy baselines and warm starts. The vertical axis is the gain over the
best heuristic on validation windows (mean over domains and rates), nats per token, above 0 is
better. It is smoothed over three points, so that one lucky point reaches nothing.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, trim_mean
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SMOOTHED = 3
SHARE = 0.95
SETS = {"ppo_per_step": 8.5}
"""Sets scored for one training reward where that is not 1: with per-step rewards an episode scores
one a pick, and the mean of budgets from 2 to 15 is 8.5."""
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Training rewards and gains, (P,) each."""


def read(folder: Path) -> Curve:
    """Return the curve of one training; empty where it has no comparisons."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    points: dict[int, list[float]] = {}
    for tag in events.Tags()["scalars"]:
        # Of the validation windows; ``all`` holds every domain again.
        group, domain = tag.split("/")[:2]
        if group == "comparison" and domain != "all" and tag.endswith("/delta_to_best_heuristic"):
            for event in events.Scalars(tag):
                points.setdefault(event.step, []).append(-event.value)
    steps = sorted(points)
    return np.array(steps, dtype=float), np.array([np.mean(points[step]) for step in steps])


def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return running means of the last ``SMOOTHED`` points, of fewer at the start."""
    ends = range(1, len(values) + 1)
    return np.array([values[max(0, end - SMOOTHED) : end].mean() for end in ends])


def first_reaching(curve: Curve, level: float) -> float | None:
    """Return the training rewards at which a smoothed curve first reaches a level."""
    reached = np.flatnonzero(curve[1] >= level)
    return float(curve[0][reached[0]]) if len(reached) else None


def gain_start(curve: Curve) -> float:
    """Return where a final gain is measured from: the smoothed curve's first point."""
    return float(curve[1][0])


def near_end(start: float, final: float) -> float:
    """Return the level that is ``SHARE`` of the way from a start to a final gain."""
    return start + SHARE * (final - start)


def over_seeds(values: NDArray[np.float64]) -> list[float | None]:
    """Return the interquartile mean over seeds, with its 95 % interval if there are two or more."""
    level = float(trim_mean(values, 0.25))
    if len(values) < 2:
        return [level, None, None]
    found = bootstrap(
        (values,),
        lambda drawn, axis: trim_mean(drawn, 0.25, axis=axis),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return [level, float(found.low), float(found.high)]


def figures(curves: dict[str, Curve], of_reference: dict[str, Curve]) -> dict[str, Any]:
    """Return what the smoothed curves of an agent's seeds say.

    Args:
        curves: By seed.
        of_reference: The reference agent's, by seed.
    """
    final = np.array([curve[1][-1] for curve in curves.values()])
    level, *interval = over_seeds(final)
    in_order = list(curves.values())
    near = [first_reaching(c, near_end(gain_start(c), c[1][-1])) for c in in_order]
    return {
        "seeds": len(curves),
        "final_gain": level,
        "final_gain_interval": None if None in interval else interval,
        "lead_over_reference": lead_over(curves, of_reference),
        "rewards": float(np.mean([curve[0][-1] for curve in in_order])),
        "reaches_best_heuristic": [first_reaching(curve, 0.0) for curve in in_order],
        "reaches_share_of_own": near,
        "curves": [[curve[0].tolist(), curve[1].tolist()] for curve in in_order],
    }


def lead_over(curves: dict[str, Curve], other: dict[str, Curve]) -> list[float | None] | None:
    """Return how far an agent's final gains are above another's, seed by seed; see ``over_seeds``.

    Args:
        curves: By seed, smoothed.
        other: The other agent's; seeds have windows of their own, so only shared ones count.
    """
    shared = [seed for seed in curves if seed in other]
    lead = np.array([curves[seed][1][-1] - other[seed][1][-1] for seed in shared])
    return over_seeds(lead) if len(lead) else None


def compare_efficiency(
    curves: dict[str, dict[str, Curve]], agent: str, reference: str, others: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the rewards at which agents reach levels, seed by seed and by the mean over seeds.

    Args:
        curves: By agent and seed.
        agent: The one that is recommended.
        reference: The other one.
        others: Further agents that are compared with the two.

    Returns:
        Both names, and for each agent and level the rewards of the seeds; ``None`` for a seed that
        does not get there. The same of the mean over those seeds that all of the agents have.
    """
    compared = {name: curves[name] for name in (agent, reference, *others)}
    shared = set.intersection(*(set(of_agent) for of_agent in compared.values()))
    means = {
        name: {"mean": mean_curve([of_agent[seed] for seed in sorted(shared)])} if shared else {}
        for name, of_agent in compared.items()
    }
    of_mean = {
        level: {name: sets[0] if sets else None for name, sets in reached.items()}
        for level, reached in reached_levels(means, agent, reference).items()
    }
    return {
        "agent": agent,
        "reference": reference,
        **reached_levels(compared, agent, reference),
        "of_mean": {"seeds": len(shared), **of_mean},
    }


def reached_levels(
    curves: dict[str, dict[str, Curve]], agent: str, reference: str
) -> dict[str, dict[str, list[float | None]]]:
    """Return the rewards at which each agent's seeds reach two levels; seeds have own windows.

    A level is a share of the way from the reference's first point to an agent's final gain.
    """
    starts = {
        seed: gain_start(curve)
        for seed, curve in curves[reference].items()
        if seed in curves[agent]
    }

    def reached(name: str, final_of: str) -> list[float | None]:
        return [
            first_reaching(curve, near_end(starts[seed], curves[final_of][seed][1][-1]))
            for seed, curve in curves[name].items()
            if seed in starts
        ]

    return {
        "to_agents_level": {name: reached(name, agent) for name in curves},
        "to_references_level": {name: reached(name, reference) for name in curves},
    }


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of the curves of several seeds, at the points of the longest."""
    longest = max((x for x, _ in curves), key=len)
    return longest, np.mean([np.interp(longest, x, y) for x, y in curves], axis=0)


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the mean over the seeds of every agent, the seeds themselves thin."""
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for number, (name, of_agent) in enumerate(found.items()):
        colour = plt.get_cmap("tab20")(number % 20)
        for x, y in of_agent["curves"]:
            axis.plot(x, y, color=colour, linewidth=0.4, alpha=0.6)
        axis.plot(*mean_curve(of_agent["curves"]), color=colour, linewidth=2, label=name)
    axis.axhline(0, color="grey", linestyle="--", linewidth=1)
    axis.set_xlabel("decoder evaluations in training (sets)")
    axis.set_ylabel("gain over the best heuristic (nats per token)")
    axis.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=130)


def by_seed(trainings: Path, name: str) -> dict[str, Curve]:
    """Return the smoothed curves of an agent, by seed; those without points are left out."""
    curves = {}
    for folder in sorted(trainings.glob(f"{name}-*")):
        if re.fullmatch(rf"{re.escape(name)}-\d+", folder.name):
            x, y = read(folder)
            if len(x):
                curves[folder.name.removeprefix(f"{name}-")] = (x * SETS.get(name, 1), smooth(y))
    return curves


def main() -> None:
    """Read the trainings, write the JSON file and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainings", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--agents", nargs="+", required=True)
    parser.add_argument("--reference", default="grpo_paper")
    parser.add_argument(
        "--longer", nargs="*", default=[], help="with more sets: shown, but not the best"
    )
    parser.add_argument(
        "--compared", nargs="*", default=[], help="in efficiency, with the recommended agent"
    )
    parser.add_argument(
        "--alike", nargs="*", default=[], help="WITH_RL=WITHOUT, of the same network"
    )
    parser.add_argument("--recommended", help="that ends highest where nothing is said")
    options = parser.parse_args()
    names = [*options.agents, *options.longer]
    read_curves = {name: by_seed(options.trainings, name) for name in names}
    of_reference = read_curves.get(options.reference, {})
    found = {name: figures(curves, of_reference) for name, curves in read_curves.items() if curves}
    equal = [name for name in options.agents if name in found]
    longer = [name for name in options.longer if name in found]
    if not equal:
        print("no curves yet")
        return
    others = [*(name for name in options.compared if name in found), *longer]
    efficiency = None
    best = max(equal, key=lambda name: found[name]["final_gain"])
    recommended = options.recommended if options.recommended in equal else best
    if options.reference in found:
        efficiency = compare_efficiency(read_curves, recommended, options.reference, others)
    content = {
        "agents": found,
        "longer": longer,
        "best": best,
        "recommended": recommended,
        "reference": options.reference,
        "efficiency": efficiency,
        "alike": {
            pair: lead_over(*(read_curves[name] for name in pair.split("=")))
            for pair in options.alike
            if all(name in found for name in pair.split("="))
        },
    }
    text = json.dumps(content, indent=1)
    (options.output / "curves.json").write_text(text + "\n", encoding="utf-8")
    draw(found, options.output / "curves.png")


if __name__ == "__main__":
    main()
