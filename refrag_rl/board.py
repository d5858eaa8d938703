"""What TensorBoard shows of a training besides curves: figure, texts, hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from refrag_rl.corpora.windows import Window
from refrag_rl.envs.rendering import render_window
from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.evaluation.plots import comparison_figure

_NOT_SETTINGS = ("hydra", "output", "resume", "keep", "save_every", "verbose")
"""Keys that change where a run goes or what is shown, not what comes of it."""


def add_figure(writer: SummaryWriter, rows: Sequence[Row], selector: str, step: int) -> None:
    """Add the figure of a comparison, the selector drawn thick."""
    writer.add_figure("comparison", comparison_figure(rows, [selector]), step)


def add_sample(
    writer: SummaryWriter, window: Window, expanded: NDArray[np.bool_], budget: int, step: int
) -> None:
    """Add a window's text with the expanded chunks marked.

    Args:
        writer: Of the run.
        window: Of held-out documents.
        expanded: (L,) bool.
        budget: Chunks that could be expanded.
        step: Training rewards.
    """
    text = as_code_block(render_window(window, expanded, budget))
    writer.add_text(f"expanded chunks/{budget} chunks", text, step)


def as_code_block(text: str) -> str:
    """Return a text as an indented block of Markdown, in which nothing has a meaning.

    A fence could be closed by the text itself; four spaces before each line cannot.
    """
    return "\n".join(f"    {line}" for line in text.splitlines())


def add_hyperparameters(
    writer: SummaryWriter, config: Mapping[str, Any], rows: Sequence[Row], agent: str, step: int
) -> None:
    """Add a run's settings with its final figures, which TensorBoard's HParams tab compares.

    Args:
        writer: Of the run.
        config: The run's config; lists and the like are shown as text.
        rows: Of the final comparison.
        agent: Selector whose figures they are.
        step: Training rewards.
    """
    metrics = final_figures(rows, agent)
    file_writer: Any = writer.file_writer  # None only once it is closed
    for summary in hparams(settings(config), metrics):
        file_writer.add_summary(summary)
    for name, value in metrics.items():
        writer.add_scalar(name, value, step)


def settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Return a nested config as ``a.b.c`` -> value, in the types that the HParams tab knows."""
    flat: dict[str, str | int | float | bool] = {}
    for key, value in config.items():
        if not prefix and key in _NOT_SETTINGS:
            continue
        if isinstance(value, Mapping):
            flat |= settings(value, f"{prefix}{key}.")
        else:
            known = isinstance(value, (str, int, float, bool))
            flat[f"{prefix}{key}"] = value if known else str(value)
    return flat


def final_figures(rows: Sequence[Row], agent: str) -> dict[str, float]:
    """Return an agent's figures as ``final/<domain>/<rate>/<figure>``, nats per token."""
    figures: dict[str, float] = {}
    for row in rows:
        if row["selector"] != agent or agent in REFERENCES:
            continue
        group = f"final/{row['domain']}/{row['compression_rate']:.3g}"
        figures[f"{group}/log_perplexity"] = row["log_perplexity"]
        if row["delta_to_best_heuristic"] is not None:
            figures[f"{group}/delta_to_best_heuristic"] = row["delta_to_best_heuristic"]
    return figures
