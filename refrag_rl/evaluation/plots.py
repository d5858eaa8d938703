"""Log-perplexity against the effective compression rate, the paper's Figure 3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.printable import printable

_MARKERS = "osD^v<>PX*hdp"


def comparison_figure(rows: Sequence[Row], highlighted: Iterable[str] = ()) -> Figure:
    """Draw one panel a domain: a line a selector with its intervals, references dashed.

    A star marks the bounds that chose by the output itself.

    Args:
        rows: Rows of a comparison.
        highlighted: Selectors drawn thick and black, such as the policy just trained.

    Returns:
        A figure that belongs to no window and to no global state.
    """
    bold = set(highlighted)
    panels = [list(group) for _, group in groupby(rows, key=lambda row: row["domain"])]
    figure = Figure(figsize=(5.5 * len(panels) + 2.5, 5), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        _panel(axis, panel, bold)
    handles, labels = axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    for text in legend.get_texts():
        # A selector may be named after a user's folder.
        text.set_parse_math(False)
    return figure


def _panel(axis: Axes, rows: list[Row], bold: set[str]) -> None:
    first = rows[0]
    names = list(
        dict.fromkeys(row["selector"] for row in rows if row["selector"] not in REFERENCES)
    )
    rates = sorted({_rate(row) for row in rows if row["selector"] in names})
    plain = [name for name in names if name not in bold]
    colors = {name: colormaps["tab20"](index % 20) for index, name in enumerate(plain)}
    for position, name in enumerate(names):
        points = sorted((row for row in rows if row["selector"] == name), key=_rate)
        # Shifted a little per selector, so that the intervals do not hide each other.
        shift = 1 + 0.006 * (position - len(names) / 2)
        axis.errorbar(
            [_rate(row) * shift for row in points],
            [row["log_perplexity"] for row in points],
            yerr=[[_below(row) for row in points], [_above(row) for row in points]],
            label=_label(f"{name}*" if points[0].get("sees_output") else name),
            color=colors.get(name, "black"),
            linewidth=2.5 if name in bold else 1.2,
            elinewidth=0.6,
            marker=_MARKERS[position % len(_MARKERS)],
            markersize=4,
        )
    for style, row in zip(
        ((0, (1, 1)), (0, (3, 1, 1, 1)), "--", "-."),
        (row for row in rows if row["selector"] in REFERENCES),
        strict=False,
    ):
        axis.axhline(row["log_perplexity"], color="gray", linestyle=style, label=row["selector"])
    axis.set_xscale("log", base=2)
    axis.set_xticks(rates, [f"{rate:.3g}" for rate in rates])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("effective compression rate")
    axis.set_ylabel("log-perplexity (nats per token)")
    # parse_math is off: a domain is a user's text, and a dollar sign in it is no formula.
    title = f"{first['domain']}, {first['windows']} windows (n = {first['count']})"
    axis.set_title(printable(title), parse_math=False)


def _label(name: str) -> str:
    """Return a selector's name for the legend, which would read formulas and hide ``_names``."""
    return printable(name).replace("$", r"\$").lstrip("_") or "?"


def _rate(row: Row) -> float:
    rate = row["compression_rate"]
    assert rate is not None
    return rate


def _below(row: Row) -> float:
    return 0.0 if row["ci_low"] is None else max(0.0, row["log_perplexity"] - row["ci_low"])


def _above(row: Row) -> float:
    return 0.0 if row["ci_high"] is None else max(0.0, row["ci_high"] - row["log_perplexity"])
