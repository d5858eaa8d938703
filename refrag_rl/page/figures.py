"""Figures of a page, as SVG that takes the page's colours of ink and ground."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from refrag_rl.page.curves import Panel

_COLUMNS = 3
_BLACK = "#000000"


def as_svg(figure: Figure, described: str) -> str:
    """Return a figure as HTML: an SVG whose black is the page's ink and whose ground is the page's.

    Args:
        figure: Drawn; its legends lose their frames.
        described: HTML that is safe inside quotes; what the figure shows, in words.
    """
    for legend in figure.legends:
        legend.set_frame_on(False)
    drawn = io.StringIO()
    # Letters as shapes, so that the page needs no font; ids that depend on the figure alone.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": described}):
        nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
        figure.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    # Names of groups repeat from figure to figure, and nothing refers to them.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace(_BLACK, "currentColor")
    label = f'role="img" aria-label="{described}"'
    return f'<div class="wide" tabindex="0" {label}>{svg}</div>'


def position_figure(
    shares: NDArray[np.float64], selectors: Sequence[str], budgets: Sequence[str]
) -> Figure:
    """Draw where in the context selectors expand: one map a budget, one row a selector.

    Args:
        shares: (budgets, selectors, L), share of the windows in which the chunk is expanded.
        selectors: Names.
        budgets: Names.
    """
    height = 0.24 * len(selectors) + 0.7
    figure = Figure(figsize=(9, height * len(budgets) + 0.4), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(budgets), 1, squeeze=False)[:, 0]
    for axis, of_budget, budget in zip(axes, shares, budgets, strict=True):
        image = axis.imshow(of_budget, vmin=0, vmax=1, aspect="auto", cmap="viridis")
        axis.set_yticks(range(len(selectors)), selectors, fontsize=8, parse_math=False)
        axis.set_title(budget, fontsize=9, loc="left", parse_math=False)
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("chunk of the context, the first is 0", fontsize=8)
    figure.colorbar(image, ax=list(axes), label="share of the windows", shrink=0.9)
    return figure


def curves_figure(panels: Sequence[Panel], highlighted: str) -> Figure:
    """Draw learning curves, one panel each.

    Args:
        panels: At least one.
        highlighted: Selector whose curve is thick where there are several.
    """
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(10, 2.3 * rows + 0.2), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).reshape(-1)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, highlighted)
    return figure


def _draw(axis: Axes, panel: Panel, highlighted: str) -> None:
    ends = {name: points[-1][1] for name, points in panel.lines.items() if name != highlighted}
    best = min(ends, key=lambda name: ends[name], default="")
    for name, points in panel.lines.items():
        thick = name == highlighted or len(panel.lines) == 1
        steps, values = zip(*points, strict=True)
        axis.plot(
            steps,
            values,
            color=_BLACK if thick else "tab:orange" if name == best else "gray",
            linewidth=1.6 if thick else 1.2 if name == best else 0.5,
            marker="." if len(points) < 30 else None,
            markersize=4,
            zorder=2 if thick else 1,
            label=name if len(panel.lines) > 1 and (thick or name == best) else None,
        )
    axis.set_title(panel.title, fontsize=8, parse_math=False)
    axis.set_xlabel("training rewards", fontsize=7)
    axis.tick_params(labelsize=7)
    if len(panel.lines) > 1:
        legend = axis.legend(fontsize=7, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
