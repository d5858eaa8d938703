"""Learning curves, read from the event files that a training wrote for TensorBoard."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from refrag_rl.evaluation.rows import ALL_DOMAINS
from refrag_rl.printable import printable

logger = logging.getLogger(__name__)

Points = list[tuple[int, float]]
"""(training rewards, value), in order."""

_COMPARISON = "comparison"
_LONGEST_TITLE, _MOST_PANELS = 80, 60
_SHOWN_GROUPS = ("reward", "policy", "train")
_DELTA = "delta_to_best_heuristic"


@dataclass(frozen=True)
class Panel:
    """One panel of the figure.

    Attributes:
        title: What is drawn.
        lines: By name; one, or one a selector.
    """

    title: str
    lines: Mapping[str, Points]


def read_scalars(folder: Path) -> dict[str, Points]:
    """Return all curves of a run by name; nothing where the folder holds none.

    Of a file that is damaged, or that somebody else made, only what is in order is read.
    """
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        if path.is_symlink() or not path.is_file():
            continue
        for event in _events(path):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return {tag: sorted(points.items()) for tag, points in found.items()}


def _events(path: Path) -> Iterator[Event]:
    """Yield the events of a file up to the first that cannot be read."""
    try:
        for record in RawEventFileLoader(str(path)).Load():
            yield Event.FromString(record)
    except (DecodeError, MemoryError, OSError, OverflowError) as error:
        logger.warning("%s: curves end at a damaged event (%s)", path, type(error).__name__)


def panels(scalars: Mapping[str, Points]) -> list[Panel]:
    """Return what of the curves is drawn: the comparisons first, then what the agent reports.

    Of several domains, the comparison over all of them; times and final figures are left out.
    """
    groups: dict[tuple[str, str], dict[str, Points]] = {}
    single = []
    for tag, points in sorted(scalars.items()):
        group, _, rest = tag.partition("/")
        if group == _COMPARISON and rest.count("/") >= 2:
            domain, rate, selector = rest.rsplit("/", 2)
            if _is_rate(rate):
                groups.setdefault((domain, rate), {})[_title(selector)] = points
        elif group in _SHOWN_GROUPS:
            single.append(Panel(_title(tag), {_title(rest): points}))
    several = any(domain == ALL_DOMAINS for domain, _ in groups)
    compared = []
    for (domain, rate), lines in sorted(groups.items(), key=lambda each: -float(each[0][1])):
        if several and domain != ALL_DOMAINS:
            continue
        lines.pop(_DELTA, None)
        if lines:
            compared.append(Panel(f"log-perplexity, validation, rate {rate}", lines))
    return [*compared, *single][:_MOST_PANELS]


def _title(tag: str) -> str:
    return printable(tag)[:_LONGEST_TITLE]


def _is_rate(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
