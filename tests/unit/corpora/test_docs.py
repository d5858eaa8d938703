"""The docs corpus reads docstrings and runs nothing."""

from pathlib import Path

import pytest

from refrag_rl.corpora import docs


def test_docstrings_come_in_order_under_their_names() -> None:
    source = '''"""Module text."""
raise SystemExit("never run")
class A:
    """Class text."""
    def f(self):
        """Method text.

            Indented.
        Not indented.
        """
async def g():
    "Function text."
def silent(): ...
'''
    assert docs.docstrings(source, "pkg.mod") == (
        "pkg.mod\nModule text.\n\npkg.mod.A\nClass text.\n\n"
        "pkg.mod.A.f\nMethod text.\n\n    Indented.\nNot indented.\n\n"
        "pkg.mod.g\nFunction text."
    )


@pytest.mark.parametrize("source", ["def broken(:", "x = 1", '"""\0"""', "﻿"])
def test_source_without_docstrings_or_syntax_gives_nothing(source: str) -> None:
    assert docs.docstrings(source, "m") == ""


def test_lone_surrogates_are_replaced() -> None:
    assert "\ud800" not in docs.docstrings('"""a \\ud800 b"""', "m")


def test_cache_is_read_back_and_a_damaged_one_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docs, "PACKAGES", {"bm25s": "bm25s"})
    first = docs.load(tmp_path)
    assert first and all(document.domain == "docs" for document in first)
    (cache,) = tmp_path.iterdir()
    assert docs.load(tmp_path) == first
    cache.write_text('{"id": "cut')
    assert docs.load(tmp_path) == first


def test_no_package_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(docs, "PACKAGES", {"no_such_package_here": "none"})
    with pytest.raises(ValueError, match="none of the packages"):
        docs.load(tmp_path)
