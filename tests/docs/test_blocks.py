"""Every code block of README and docs runs, with a small model, corpus and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, ROOT, blocks_of, command_lines
from tests.docs.shell import Shell, run_example

LANGUAGES = {"python", "bash", "yaml", "text"}
"""``text`` is for drawings, equations and what a command has printed: nothing that runs."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_in_their_order(page: Path, shell: Shell) -> None:
    names: dict[str, object] = {}
    for block in blocks_of(page):
        if block.shown is not None:
            assert block.code == block.shown.read_text(encoding="utf-8"), block.shown
        elif block.language == "bash":
            for line in command_lines(block.code):
                shell.run(line)
        elif block.language == "python":
            exec(compile(block.code, str(page), "exec"), names)
        else:
            assert block.language == "text", block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page: Path) -> None:
    fences = [line for line in page.read_text(encoding="utf-8").splitlines() if "```" in line]
    blocks = blocks_of(page)
    assert len(fences) == 2 * len(blocks)
    assert {block.language for block in blocks} <= LANGUAGES
    assert not [line for line in fences if "~~~" in line]


def test_every_file_of_the_extending_examples_is_shown() -> None:
    folder = ROOT / "examples" / "extending"
    files = {path for path in folder.rglob("*") if path.suffix in (".py", ".yaml")}
    assert {block.shown for block in blocks_of(ROOT / "docs" / "extending.md")} - {None} == files


def test_examples_are_short() -> None:
    examples = sorted((ROOT / "examples").rglob("*.py"))
    assert len(examples) >= 9
    most = dict.fromkeys(examples, 60) | {ROOT / "examples" / "serve_policy.py": 80}
    assert [path for path in examples if len(path.read_text().splitlines()) > most[path]] == []


def test_torchrl_plays_the_environment(small_defaults: None) -> None:
    pytest.importorskip("torchrl", reason="TorchRL is not installed: pip install torchrl")
    # Episodes of 4 picks, 8 steps.
    assert run_example(ROOT / "examples" / "torchrl_rollout.py") == 2


def test_without_torchrl_its_example_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchrl.envs", None)
    assert run_example(ROOT / "examples" / "torchrl_rollout.py") is None
    assert "skipped: TorchRL is not installed" in capsys.readouterr().out
