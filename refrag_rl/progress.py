"""Progress on the terminal: a bar, or quiet lines where the output is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 10.0


class ProgressReport:
    """Tells how far a piece of work is, how fast it goes and how long it will take.

    Args:
        console: Where it is shown; a bar on a terminal, else a line every ten seconds.
        label: What is being done.
        unit: What is counted, in the plural.
        clock: Seconds; replaced in tests.
    """

    def __init__(
        self,
        console: Console,
        label: str,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._label = label
        self._unit = unit
        self._clock = clock
        self._started = clock()
        self._last_line = self._started
        self._before = 0
        self._done = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[figures]}", markup=False),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(label, total=None, figures="")

    def __enter__(self) -> ProgressReport:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin_at(self, done: int) -> None:
        """Take it that so many were done before: neither they nor the time so far make the rate."""
        self._before = done
        self._started = self._clock()

    def advance(self, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        """Show progress.

        Args:
            done: How many are done.
            total: Of how many.
            figures: Shown beside it, by name.
        """
        now = self._clock()
        elapsed = now - self._started
        rate = (done - self._before) / elapsed if elapsed > 0 else 0.0
        shown = [f"{rate:.1f} {self._unit}/s" if rate >= 1 else f"{60 * rate:.1f} {self._unit}/min"]
        shown += [f"{name} {value:.3f}" for name, value in (figures or {}).items()]
        text = ", ".join(shown)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, figures=text)
        elif done >= total or now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (total - done) / rate if rate else 0.0
            line = f"{self._label}: {done}/{total}, {text}, {_minutes(left)} left"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def step(self, total: int) -> None:
        """Show that one more is done, of ``total``."""
        self._done += 1
        self.advance(self._done, total)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
