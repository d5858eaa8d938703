"""Reading the JSON files of this folder, and Markdown for their figures."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]
Interval = tuple[float, float | None, float | None]
"""Mean, lower end, upper end; no ends where nothing could be resampled."""

CONTEXT = ("refrag", "domain", "windows", "reading")
RECONSTRUCTION = ("refrag", "domain", "chunks")
NEXT_PARAGRAPH = ("refrag", "domain", "chunks", "output")


class Figures:
    """The rows of all files of one kind of measurement.

    Args:
        folder: Of the JSON files.
        kind: What the files' names start with.
        fields: What names a row.
        compared: Field that the names in ``differences`` are values of.

    Raises:
        ValueError: Two rows measure the same.
    """

    def __init__(self, folder: Path, kind: str, fields: Sequence[str], compared: str) -> None:
        self._rows: dict[Key, Row] = {}
        self._place = fields.index(compared)
        for path in sorted(folder.glob(f"{kind}-*.json")):
            for row in json.loads(path.read_text(encoding="utf-8")):
                key = tuple(row[field] for field in fields)
                if key in self._rows:
                    raise ValueError(f"{path}: {key} is in another file, too; remove one of them")
                self._rows[key] = row

    def __contains__(self, key: Key) -> bool:
        """Return whether it was measured."""
        return key in self._rows

    def __getitem__(self, key: Key) -> Row:
        """Return the row."""
        return self._rows[key]

    def of(self, refrag: str) -> Figures:
        """Return the rows of one checkpoint, which is the first of the fields."""
        those = copy.copy(self)
        those._rows = {key: row for key, row in self._rows.items() if key[0] == refrag}
        return those

    def values(self, place: int, among: Iterable[Any] = ()) -> list[Any]:
        """Return the values of a field; those of ``among`` in its order, if it is given."""
        there = dict.fromkeys(key[place] for key in self._rows)
        return [value for value in among if value in there] if among else list(there)

    def loss(self, key: Key) -> float:
        """Return a log-perplexity, nats per token."""
        return float(self._rows[key]["log_perplexity"])

    def difference(self, key: Key, other: Any) -> Interval:
        """Return the paired difference to another reading or checkpoint, with its interval."""
        known = self._rows[key]["differences"]
        if other in known:
            mean, low, high = known[other]
            return mean, low, high
        reverse = (*key[: self._place], other, *key[self._place + 1 :])
        mean, low, high = self._rows[reverse]["differences"][key[self._place]]
        return -mean, None if high is None else -high, None if low is None else -low


def signed(interval: Interval) -> str:
    """Return a difference with its interval."""
    mean, low, high = interval
    ends = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
    return f"{mean:+.3f}{ends}"


def share(interval: Sequence[float | None] | None) -> str:
    """Return a share of the gap, with its interval where it has one."""
    if interval is None:
        return "no gap"
    mean, low, high = interval
    return f"{mean:.2f}" if low is None else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def below(interval: Interval, limit: float = 0.0) -> bool:
    """Return whether a whole interval lies below a limit."""
    return interval[2] is not None and interval[2] < limit


def count_of(chunks: int) -> str:
    """Return a number of chunks in words."""
    return "1 chunk" if chunks == 1 else f"{chunks} chunks"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(claim: str, by_domain: dict[str, bool]) -> str:
    """Say in a line where a claim holds and where it does not."""
    if not by_domain:
        return f"- {claim}: not measured."
    holds = ", ".join(name for name, is_true in by_domain.items() if is_true) or "nowhere"
    fails = ", ".join(name for name, is_true in by_domain.items() if not is_true) or "nowhere"
    return f"- {claim}: holds on {holds}; fails on {fails}."
