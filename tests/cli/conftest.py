from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from refrag_rl.commands import run_command
from tests.cli.running import InProcess, Outcome

SIZES = (
    "windows.context_length=64",
    "windows.passage_length=16",
    "windows.prompt_length=8",
    "windows.output_length=16",
)


@pytest.fixture
def in_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> InProcess:
    """Return what runs a command in this process, in an empty folder: no second import of torch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def run(name: str, *arguments: object) -> Outcome:
        module = import_module(f"refrag_rl.{name}")
        monkeypatch.setattr(sys, "argv", [f"refrag_rl.{name}", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            if hasattr(module, "main"):
                module.main()
            else:
                run_command(getattr(module, name), name)
        except SystemExit as end:
            code = end.code
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def tiny(tiny_checkpoint: Path, tiny_corpus: Path) -> tuple[str, ...]:
    """Return the arguments that make a command use the tiny model and corpus."""
    return (
        f"refrag.path={tiny_checkpoint}",
        "corpus=files",
        f"corpus.path={tiny_corpus}",
        *SIZES,
    )
