"""Acceleration against context length, the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

_PANELS = (
    ("time to first token", "ttft_acceleration"),
    ("time per further token", "ttit_acceleration"),
    ("throughput", "throughput_acceleration"),
)


def latency_figure(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draw a panel each for TTFT, TTIT and throughput: a line a method over the full context's.

    Chunk sizes have colors; not cached is dashed, a policy thin with squares.

    Args:
        rows: Of the measurement.
        title: Above the panels.

    Returns:
        A figure that belongs to no window and to no global state.
    """
    figure = Figure(figsize=(13, 4.5), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(_PANELS))
    shown = [row for row in rows if row["chunk_size"] is not None]
    methods = list(dict.fromkeys(row["method"] for row in shown))
    sizes = sorted({row["chunk_size"] for row in shown})
    lengths = sorted({row["context_length"] for row in shown})
    for axis, (name, key) in zip(axes, _PANELS, strict=True):
        for method in methods:
            points = [row for row in shown if row["method"] == method]
            has_policy = points[0]["policy_rate"] is not None
            axis.plot(
                [row["context_length"] for row in points],
                [row[key] for row in points],
                label=method,
                color=colormaps["tab10"](sizes.index(points[0]["chunk_size"]) % 10),
                linestyle="-" if points[0]["cached"] else "--",
                linewidth=1.0 if has_policy else 2.0,
                marker="s" if has_policy else "o",
                markersize=4,
            )
        axis.axhline(1, color="gray", linewidth=0.8)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}x")
        axis.set_xticks(lengths, [str(length) for length in lengths], rotation=45)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel("context length (tokens)")
        axis.set_title(name)
    axes[0].set_ylabel("acceleration over the full context")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    figure.suptitle(title, fontsize="medium", parse_math=False)
    return figure
