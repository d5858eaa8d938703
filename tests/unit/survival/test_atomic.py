"""A file is replaced, and a folder made, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from refrag_rl.atomic import making_folder, replacing, write_text


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


def make_and_fail(path: Path) -> None:
    with making_folder(path) as fresh:
        fresh.mkdir()
        (fresh / "one").write_text("half")
        raise KeyboardInterrupt


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer"
    with pytest.raises(KeyboardInterrupt):
        make_and_fail(path)
    assert list(tmp_path.iterdir()) == []
    # What a killed process left does not stand in the way.
    (tmp_path / ".tokenizer.new").mkdir()
    (tmp_path / ".tokenizer.new" / "two").write_text("half")
    with making_folder(path) as fresh:
        fresh.mkdir()
        (fresh / "one").write_text("whole")
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["one"]
