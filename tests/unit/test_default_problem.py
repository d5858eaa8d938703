"""``gymnasium.make`` without a problem: settings take effect, or are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refrag_rl.default_problem import default_problem
from refrag_rl.errors import UserError


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("corpus.split=test", "split="),
        ("seed=5", "seed="),
        ("count=3", "count="),
        ("refrag.path=tiny-k8", "refrag="),
        ("rates=[2]", "corpus, windows, refrag"),
        ("+selectors=[random]", "corpus, windows, refrag"),
    ],
)
def test_settings_that_would_have_no_effect_are_refused(override: str, instead: str) -> None:
    with pytest.raises(UserError, match=r"has no effect") as raised:
        default_problem(overrides=[override])
    assert override in str(raised.value) and instead in str(raised.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"corpus": "files"}, r"corpus\.path is missing"),
        ({"overrides": "corpus.path=x"}, "give a list"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": "a"}, "seed"),
        ({"count": 1.5}, "count"),
        ({"count": 0}, "count=0"),
        ({"refrag": None}, "refrag=None"),
        ({"features": None}, "features=None"),
    ],
)
def test_mistakes_are_named(
    tiny_checkpoint: Path, tiny_corpus: Path, options: dict[str, Any], named: str
) -> None:
    usual: dict[str, Any] = {
        "corpus": "files",
        "overrides": [] if options == {"corpus": "files"} else [f"corpus.path={tiny_corpus}"],
        "refrag": str(tiny_checkpoint),
        "windows": "contiguous",
    }
    usual["overrides"] += [f"windows.{part}_length=32" for part in ("context", "output")]
    with pytest.raises(UserError, match=named):
        default_problem(**usual | options)
