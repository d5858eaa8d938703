"""Event files, damaged or forged: what is in order is drawn, nothing else is, nothing fails."""

from __future__ import annotations

import logging
import math
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from refrag_rl.page.curves import panels, read_scalars
from refrag_rl.page.figures import as_svg, curves_figure

NAME = "events.out.tfevents.1"
TAG = "reward/mean"


def record(data: bytes, length: int | None = None) -> bytes:
    """Return a record as TensorBoard frames it, its checks in order whatever it says."""
    header = struct.pack("<Q", len(data) if length is None else length)
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (header, data)]
    return header + checks[0] + data + checks[1]


def scalar(step: int, value: float, tag: str = TAG) -> bytes:
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
    return record(Event(step=step, summary=summary).SerializeToString())


GOOD = scalar(1, 0.5) + scalar(2, 0.25)
READ = {TAG: [(1, 0.5), (2, 0.25)]}


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(GOOD)
    assert read_scalars(tmp_path) == READ


@pytest.mark.parametrize(
    ("tail", "warns"),
    [
        (record(b"\xff\xff no event"), True),
        (record(b"", length=2**62), True),
        (record(b"", length=2**64 - 1), True),
        (scalar(3, 0.1)[:-3], False),
        (b"\0" * 40, False),
    ],
)
def test_what_comes_before_damage_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tail: bytes, warns: bool
) -> None:
    (tmp_path / NAME).write_bytes(GOOD + tail + scalar(4, 9.0))
    with caplog.at_level(logging.WARNING):
        assert read_scalars(tmp_path) == READ
    assert (NAME in caplog.text) == warns


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(GOOD)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).symlink_to(outside)
    (tmp_path / "run" / (NAME + "0")).mkdir()
    assert read_scalars(tmp_path / "run") == {}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=200), place=st.integers(0, len(GOOD)))
def test_any_bytes_are_read_or_left_out(tmp_path: Path, data: bytes, place: int) -> None:
    (tmp_path / NAME).write_bytes(GOOD[:place] + data + GOOD[place + len(data) :])
    for points in read_scalars(tmp_path).values():
        assert all(isinstance(step, int) for step, _ in points)


@pytest.mark.parametrize("rate", ["", "four", "nan", "inf", "1e999"])
def test_a_comparison_at_no_rate_is_not_drawn(rate: str) -> None:
    scalars = {f"comparison/docs/{rate}/random": [(0, 1.0)], "comparison/docs/4/random": [(0, 1.0)]}
    assert [panel.title for panel in panels(scalars)] == ["log-perplexity, validation, rate 4"]


@pytest.mark.parametrize("name", ["<script>", "$\\frac", "\x1b[31m", "a" * 5000, ""])
@pytest.mark.parametrize("value", [math.inf, math.nan, 3e38])
def test_forged_names_and_values_are_drawn_as_text(name: str, value: float) -> None:
    points = [(-(2**63), value), (2**63 - 1, 0.0)]
    drawn = panels({f"reward/{name}": points, f"comparison/docs/4/{name}": points})
    assert "<script" not in as_svg(curves_figure(drawn, "random"), "curves")


def test_there_are_not_more_panels_than_anyone_looks_at() -> None:
    assert len(panels({f"reward/{number}": [(0, 1.0)] for number in range(5000)})) <= 100
