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
