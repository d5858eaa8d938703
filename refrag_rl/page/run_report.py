"""``report.html`` of a run: what was run, what came of it, and the reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import Row, Selector
from refrag_rl.evaluation.plots import comparison_figure
from refrag_rl.page.curves import Panel, panels, read_scalars
from refrag_rl.page.figures import as_svg, curves_figure, position_figure
from refrag_rl.page.html import reader_section, section, write_page
from refrag_rl.page.plain import decoding, plain
from refrag_rl.page.reading import TokenScoredProblem, budget_name, read_windows, spread
from refrag_rl.page.tables import circumstances_html, comparison_html
from refrag_rl.progress import ProgressReport
from refrag_rl.run_folder import CONFIG_FILE, METADATA_FILE

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class RunReport:
    """Writes the report of a run.

    Attributes:
        tokenizer: The decoder's.
        windows: Windows in the reader; 0: no reader.
    """

    tokenizer: PreTrainedTokenizerFast
    windows: int

    def write(
        self,
        folder: Path,
        comparator: Comparator,
        selectors: Sequence[Selector],
        rows: Sequence[Row],
        console: Console,
        *,
        highlighted: Sequence[str],
        curves: Path | None = None,
    ) -> None:
        """Write ``report.html`` into a run's folder, which holds its config and metadata.

        Args:
            folder: Of the run.
            comparator: Has just compared.
            selectors: That were compared besides the heuristics.
            rows: What it returned.
            console: For the progress.
            highlighted: Names of what the run is about, first in the reader.
            curves: Folder of the learning curves.
        """
        metadata = json.loads((folder / METADATA_FILE).read_text(encoding="utf-8"))
        config = (folder / CONFIG_FILE).read_text(encoding="utf-8")
        everyone = sorted(
            [*selectors, *comparator.heuristics], key=lambda one: one.name not in highlighted
        )
        figure = as_svg(
            comparison_figure(rows, highlighted),
            "Log-perplexity of each selector against the effective compression rate; "
            "the figures are in the table",
        )
        parts = [section("Comparison", figure, comparison_html(rows, highlighted))]
        drawn = panels(read_scalars(curves)) if curves is not None else []
        if drawn:
            parts.append(section("Learning curves", _curves(drawn, highlighted)))
        parts.append(section("Where in the context", _positions(comparator, everyone)))
        if self.windows:
            parts.append(self._reader(comparator, everyone, console))
        parts.append(section("What was run", circumstances_html(metadata, config)))
        title = f"refrag_rl.{metadata['command']}: {', '.join(highlighted) or 'heuristics'}"
        write_page(folder / REPORT_FILE, title, parts)

    def _reader(
        self, comparator: Comparator, selectors: Sequence[Selector], console: Console
    ) -> str:
        problem = comparator.problem
        assert isinstance(problem, TokenScoredProblem)
        indices = spread(len(problem.windows), self.windows)
        with ProgressReport(console, "reader of the report", "windows") as progress:
            data = read_windows(
                problem,
                indices,
                selectors,
                comparator.columns,
                lambda selector, position: comparator.expanded(selector, position)[indices],
                decoding(self.tokenizer),
                seed=comparator.seed,
                progress=lambda: progress.step(len(indices)),
            )
        return reader_section(data)


def _curves(drawn: Sequence[Panel], highlighted: Sequence[str]) -> str:
    """Return the learning curves; beside the agent, the best heuristic at the end is orange."""
    figure = curves_figure(drawn, next(iter(highlighted), ""))
    return as_svg(
        figure, "Learning curves: comparisons on validation windows, and what the agent reports"
    )


def _positions(comparator: Comparator, selectors: Sequence[Selector]) -> str:
    """Return the map of where each selector expands, over all windows."""
    windows = comparator.problem.windows
    held = comparator.problem.chunk_masks(np.arange(len(windows))).sum(axis=0)
    shares = np.array(
        [
            [
                comparator.expanded(selector, position).sum(axis=0) / np.maximum(held, 1)
                for selector in selectors
            ]
            for position in range(len(comparator.columns))
        ]
    )
    budgets = [budget_name(column, windows.num_chunks) for column in comparator.columns]
    figure = position_figure(shares, [plain(selector.name) for selector in selectors], budgets)
    return as_svg(
        figure, "Share of the windows in which each selector expands each chunk of the context"
    )
