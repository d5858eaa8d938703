"""Timing several ways of doing the same, in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from typing import TypeVar

import torch

from refrag_rl.benchmarks.machine import seconds_of

Name = TypeVar("Name")


def median_seconds(
    calls: Mapping[Name, Callable[[], object]], repeats: int, device: torch.device
) -> dict[Name, float]:
    """Return the median time of each call, in seconds.

    The calls take turns, so that whatever slows the machine for a while slows all of them. Each
    runs once unmeasured in each turn before it is measured: memory that the call before gave back
    is taken again, and caches hold what the call works on.

    Args:
        calls: By name.
        repeats: Measurements of each.
        device: To wait for.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            call()
            seconds[name].append(seconds_of(call, device))
    return {name: median(measured) for name, measured in seconds.items()}
