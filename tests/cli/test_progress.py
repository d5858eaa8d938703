from __future__ import annotations

import io

from rich.console import Console

from refrag_rl.progress import ProgressReport


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_a_terminal_a_line_every_ten_seconds_and_one_at_the_end() -> None:
    clock, file = Clock(), io.StringIO()
    with ProgressReport(Console(file=file, width=80), "training", "rewards", clock) as progress:
        for done in range(1, 41):
            clock.now = float(done)
            progress.advance(done, 40, {"mean": -3.25})
    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "training: 10/40, 1.0 rewards/s, mean -3.250, 0:30 left"
    assert lines[-1].startswith("training: 40/40")


def test_what_is_slow_is_counted_by_the_minute() -> None:
    clock, file = Clock(), io.StringIO()
    with ProgressReport(Console(file=file, width=80), "comparison", "selections", clock) as report:
        clock.now = 20.0
        report.advance(1, 3)
    assert file.getvalue() == "comparison: 1/3, 3.0 selections/min, 0:40 left\n"


def test_on_a_terminal_a_bar_with_rate_figures_and_time_left() -> None:
    clock, file = Clock(), io.StringIO()
    console = Console(file=file, width=100, force_terminal=True)
    with ProgressReport(console, "training", "rewards", clock) as progress:
        clock.now = 2.0
        progress.advance(10, 40, {"mean": -3.25})
    assert "5.0 rewards/s, mean -3.250" in file.getvalue()
    assert "25%" in file.getvalue()
