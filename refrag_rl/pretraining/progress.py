"""Progress of pre-training on a terminal, or line by line where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from refrag_rl.printable import printable

_LINE_SECONDS = 30.0


@contextmanager
def show_stages() -> Iterator:
    """Yield a function ``(stage, done, total, figures)`` that shows how far the run is."""
    console = Console()
    if not console.is_terminal:
        yield _Lines()
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total, figures="")
            progress.update(tasks[stage], completed=done, figures=_text(figures))

        yield show


class Silent:
    """Takes what a process that is not the main one would show and log, and drops it."""

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Show nothing."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Log nothing."""

    def position(self) -> dict[str, int]:
        """Return nothing: there are no event files."""
        return {}


class _Lines:
    """Prints a line every half minute, and one at the end of a stage."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        now = time.monotonic()
        if done == total or "tokens/s" not in figures or now - self._last >= _LINE_SECONDS:
            self._last = now
            print(f"{stage} {done}/{total} {_text(figures)}", flush=True)


def _text(figures: Mapping[str, float]) -> str:
    return "  ".join(
        f"{printable(name)} {value:.0f}" if value >= 100 else f"{printable(name)} {value:.3f}"
        for name, value in figures.items()
    )
