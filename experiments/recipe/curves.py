"""Draw the curves of README.md over decoder positions trained on, from TensorBoard's events.

    python experiments/recipe/curves.py FIGURE=RUN,RUN,... ...

RUN is a run's folder. Figures, each a PNG beside this script:

- ``training``: recall and contiguous windows (full context, nothing expanded, no context) by
  domain, and reconstruction of 1 and 8 chunks; the runs one after the other, as when each starts
  from the one before it.
- ``table-11``, ``encoders``: reconstruction of 1 and 8 chunks, one line a run.
- ``optimizers``: stage 0, full context and reconstruction of one chunk, one line a run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refrag_rl.errors import UserError

HERE = Path(__file__).parent
STAGES = ("language_modelling", "reconstruction", "continual")
DOMAINS = ("docs", "books", "math")
READINGS = {"no_context": "#999999", "compressed": "#d55e00", "full": "#0072b2"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
RECONSTRUCTIONS = {"reconstruction-1": "#0072b2", "reconstruction-8": "#d55e00"}
OVERLAYS = {
    "table-11": tuple(RECONSTRUCTIONS),
    "encoders": tuple(RECONSTRUCTIONS),
    "optimizers": ("contiguous-docs/full", "recall-docs/full", "reconstruction-1"),
}
GOAL = 1.0
"""What reconstruction of one chunk should come below, nats per token."""

Curve = list[tuple[float, float]]
"""Millions of decoder positions, nats per token."""


class Run:
    """The validation curves of a run, its stages one after the other.

    Args:
        folder: Of the run.

    Raises:
        UserError: It has no curves.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._events = EventAccumulator(str(folder))
        self._events.Reload()
        self._tags = set(self._events.Tags()["scalars"])
        self._starts: dict[str, int] = {}
        self.positions = 0
        for stage in STAGES:
            tag = f"{stage}/tokens_per_second"
            if tag in self._tags:
                self._starts[stage] = self.positions
                self.positions += max(point.step for point in self._events.Scalars(tag))
        if not self._starts:
            raise UserError(f"{folder} holds no curves of a pre-training run")

    def curve(self, figure: str, offset: int = 0) -> Curve:
        """Return a figure of the validation over positions, ``offset`` added to them."""
        points: dict[int, float] = {}
        for stage, start in self._starts.items():
            tag = f"{stage}/validation/{figure}"
            if tag in self._tags:
                # A run that was stopped and resumed has some points twice.
                for point in self._events.Scalars(tag):
                    points[offset + start + point.step] = point.value
        return [(step / 1e6, points[step]) for step in sorted(points)]


def main(arguments: Sequence[str]) -> None:
    """Draw the figures that are named.

    Raises:
        UserError: There is no such figure or run.
    """
    for argument in arguments:
        name, _, folders = argument.partition("=")
        runs = [Run(Path(folder)) for folder in folders.split(",")]
        if name == "training":
            training(runs)
        elif name in OVERLAYS:
            overlay(name, runs)
        else:
            raise UserError(
                f"{argument}: there is no figure {name}: training, {', '.join(OVERLAYS)}"
            )


def training(runs: Sequence[Run]) -> None:
    """Draw the curves of runs that follow each other."""
    figure, panels = plt.subplots(2, 4, figsize=(13, 5.6), layout="constrained", sharex=True)
    for row, kind in zip(panels, ("recall", "contiguous"), strict=True):
        for panel, domain in zip(row, DOMAINS, strict=False):
            for reading, colour in READINGS.items():
                _follow(panel, runs, f"{kind}-{domain}/{reading}", reading, colour)
            panel.set_title(f"{kind}, {domain}")
    for name, colour in RECONSTRUCTIONS.items():
        _follow(panels[0, 3], runs, name, name, colour)
    panels[0, 3].axhline(GOAL, color="#999999", linestyle=":", linewidth=0.8)
    panels[0, 3].set_title("reconstruction of 1 and 8 chunks")
    panels[0, 3].legend(frameon=False)
    panels[0, 0].legend(frameon=False)
    for reading, colour in READINGS.items():
        _follow(panels[1, 3], runs, f"retrieved-docs/{reading}", reading, colour)
    panels[1, 3].set_title("retrieved, docs")
    _label(panels)
    figure.savefig(HERE / "training.png", dpi=130)


def _follow(panel: Axes, runs: Sequence[Run], name: str, label: str, colour: str) -> None:
    """Draw one figure through several runs, with a line where one ends and the next starts."""
    offset = 0
    curve: Curve = []
    for run in runs:
        curve += run.curve(name, offset)
        offset += run.positions
    _plot(panel, curve, name, colour, label)
    for count in range(1, len(runs)):
        end = sum(run.positions for run in runs[:count]) / 1e6
        panel.axvline(end, color="#cccccc", linewidth=0.6, zorder=0)


def overlay(name: str, runs: Sequence[Run]) -> None:
    """Draw one panel a figure and one line a run."""
    shown = OVERLAYS[name]
    figure, row = plt.subplots(
        1, len(shown), figsize=(3.8 * len(shown), 3.2), layout="constrained", squeeze=False
    )
    for panel, title in zip(row[0], shown, strict=True):
        for run, colour in zip(runs, COLOURS, strict=False):
            _plot(panel, run.curve(title), title, colour, run.name)
        panel.set_title(title)
    row[0, 0].legend(frameon=False)
    _label(row)
    figure.savefig(HERE / f"{name}.png", dpi=130)


def _plot(panel: Axes, curve: Curve, name: str, colour: str, label: str) -> None:
    if not curve:
        raise UserError(f"the runs have no figure {name}, which {label} is to show")
    x, y = zip(*curve, strict=True)
    panel.plot(x, y, color=colour, label=label, marker=".", markersize=4)


def _label(panels: Any) -> None:
    """Name the axes of a grid of panels, (rows, columns)."""
    for panel in panels[-1]:
        panel.set_xlabel("decoder positions (millions)")
    for row in panels:
        row[0].set_ylabel("nats per token")


if __name__ == "__main__":
    main(sys.argv[1:])
