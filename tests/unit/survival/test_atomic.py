"""A file is replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from refrag_rl.atomic import replacing, write_text


def replace_and_fail(path: Path) -> None:
    with replacing(path) as fresh:
        fresh.write_text("half")
        raise KeyboardInterrupt


def test_an_error_leaves_the_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "whole")
    with pytest.raises(KeyboardInterrupt):
        replace_and_fail(path)
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new"
