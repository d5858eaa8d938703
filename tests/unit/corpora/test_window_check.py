"""Windows that cannot be scored are refused before anything is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from refrag_rl.corpora.windows import WindowCheck
from refrag_rl.errors import UserError
from tests.planted import PlantedWindows

WINDOWS = PlantedWindows(count=2)


def test_the_same_window_may_come_again_and_another_may_not_have_its_key() -> None:
    check = WindowCheck()
    first, second = WINDOWS[0], WINDOWS[1]
    assert check(first) is first and check(second) is second and check(WINDOWS[0])
    with pytest.raises(UserError, match=f"two windows have the key {first.key}"):
        check(replace(second, key=first.key))


def test_a_window_without_context_is_refused_with_its_domain() -> None:
    empty = replace(WINDOWS[0], chunk_mask=np.zeros_like(WINDOWS[0].chunk_mask))
    with pytest.raises(UserError, match="domain planted has no chunk of text"):
        WindowCheck()(empty)
