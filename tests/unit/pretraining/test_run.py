"""Which folder a pre-training goes on in."""

from __future__ import annotations

from pathlib import Path

import pytest

from refrag_rl.errors import UserError
from refrag_rl.pretraining.run import _claim


def test_a_run_goes_on_wherever_its_folder_is_now(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert _claim(first, f"output: {first}\nseed: 0\n", main=False)
    assert not _claim(first, "output: ./first/\nseed: 0\n", main=False)
    first.rename(second)
    assert not _claim(second, f"output: {second}\nseed: 0\n", main=False)
    with pytest.raises(UserError, match="another config"):
        _claim(second, f"output: {second}\nseed: 1\n", main=False)


def test_a_run_from_before_a_key_goes_on_with_its_default(tmp_path: Path) -> None:
    config = f"output: {tmp_path / 'run'}\ndata:\n  files: [a.txt]\n"
    assert _claim(tmp_path / "run", config, main=False)
    assert not _claim(tmp_path / "run", f"{config}  text_field: text\n", main=False)
    for other in ("  text_field: body\n", "  nothing: 1\n"):
        with pytest.raises(UserError, match="another config"):
            _claim(tmp_path / "run", config + other, main=False)


def test_a_run_from_before_compiling_was_a_choice_goes_on_as_it_was(tmp_path: Path) -> None:
    config = f"output: {tmp_path / 'run'}\nseed: 0\n"
    assert _claim(tmp_path / "run", config, main=False)
    assert not _claim(tmp_path / "run", f"{config}compile: false\n", main=False)
    with pytest.raises(UserError, match="another config"):
        _claim(tmp_path / "run", f"{config}compile: true\n", main=False)
