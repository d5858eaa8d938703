"""Runs the command lines of the documentation, made small.

What trains or compares runs with a few windows and rewards; what pre-trains or measures is only
composed. A command line of another kind is an error, so that none is left out.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from refrag_rl import conf
from tests.cli.running import InProcess
from tests.docs.blocks import ROOT

SMALL = {
    "train": {
        "train_count": "8",
        "env.num_envs": "4",
        "evaluation.rates": "[8]",
        "evaluation.heuristics": "[random,successor]",
        "evaluation.count": "3",
        "evaluation.validation_count": "2",
        "evaluation.eval_every": "0",
    },
    "evaluate": {"count": "3", "rates": "[8]"},
}
SMALL_AGENT = {
    "total_rewards": "8",
    "windows_per_update": "2",
    "episodes_per_update": "8",
    "reference_windows": "1",
}
"""Keys that are set where the agents' YAML files have them."""

SMALL_EXAMPLES = {
    "cleanrl_style": {"updates": 2, "num_envs": 4},
    "make_vec": {"num_envs": 2},
    "maskable_ppo": {"steps": 64, "n_steps": 64, "episodes": 2},
    "plain_ppo": {"steps": 64, "num_envs": 4, "n_steps": 16},
    "serve_policy": {"tokens": 4},
    "torchrl_rollout": {"steps": 8},
}


class Shell:
    """A shell for one page, in an empty folder with a copy of ``examples``.

    Args:
        in_process: Runs a command of the package.
        monkeypatch: Undoes what is changed.
        folder: Where the page begins.
        checkpoint: Stands for what ``refrag_rl.pretrain`` would have made.
    """

    def __init__(
        self,
        in_process: InProcess,
        monkeypatch: pytest.MonkeyPatch,
        folder: Path,
        checkpoint: Path,
    ) -> None:
        self._in_process = in_process
        self._monkeypatch = monkeypatch
        self._checkpoint = checkpoint
        self._enter(folder)

    def run(self, line: str) -> None:
        """Run a command line, and check that it ends with code 0."""
        program, *words = shlex.split(line)
        handlers: dict[str, Callable[[list[str]], None]] = {
            "cd": lambda words: self._enter(Path(words[0]).resolve()),
            "make": _check_targets,
            "tensorboard": _check_curves,
            "accelerate": self._launch,
            "python": self._python,
        }
        assert program in handlers, f"{line}: the test does not know how to run this"
        handlers[program](words)

    def _enter(self, folder: Path) -> None:
        self._monkeypatch.chdir(folder)
        self._monkeypatch.syspath_prepend(str(folder))

    def _python(self, words: list[str]) -> None:
        if words[0] == "-m":
            self._command(words[1].removeprefix("refrag_rl."), words[2:])
        else:
            run_example(Path(words[0]))

    def _command(self, name: str, words: list[str]) -> None:
        shown_only = "--cfg" in words
        if name in SMALL and not shown_only:
            words = self._made_small(name, words)
        elif not shown_only:
            words = [*words, "--cfg", "job"]
        outcome = self._in_process(name, *words)
        assert outcome.code == 0, (name, words, outcome.err)
        if name == "pretrain":
            output = next(word for word in words if word.startswith("output="))
            shutil.copytree(self._checkpoint, Path(output.removeprefix("output=")) / "model")

    def _made_small(self, name: str, words: list[str]) -> list[str]:
        if any(word.startswith("resume=") for word in words):
            return words
        small = dict(SMALL[name])
        given = dict(word.split("=", 1) for word in words if re.match(r"[\w.]+=", word))
        if name == "train":
            small["budget"] = given.get("budget", "2")
            agents = given.get("agent", "ppo").split(",")
            texts = [self._agent_file(agent).read_text() for agent in agents]
            small |= {
                f"agent.{key}": value
                for key, value in SMALL_AGENT.items()
                if all(f"\n{key}:" in text for text in texts)
            }
        if "oracle" in given:
            small["oracle"] = "1"
        kept = [word for word in words if word.split("=", 1)[0] not in small]
        return [*kept, *(f"{key}={value}" for key, value in small.items())]

    def _agent_file(self, agent: str) -> Path:
        own = Path("conf") / "agent" / f"{agent}.yaml"
        return own if own.exists() else Path(conf.__file__).parent / "agent" / f"{agent}.yaml"

    def _launch(self, words: list[str]) -> None:
        from accelerate.commands.launch import launch_command_parser

        assert words[0] == "launch"
        launched: Namespace = launch_command_parser().parse_args(words[1:])
        assert launched.module
        script = launched.training_script.removeprefix("refrag_rl.")
        self._command(script, launched.training_script_args)


def run_example(path: Path) -> object:
    """Run the ``main`` of an example with its small numbers, and return what it does."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(**SMALL_EXAMPLES[path.stem])


def _check_targets(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in words:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def _check_curves(words: list[str]) -> None:
    assert words[0] == "--logdir"
    assert list(Path(words[1]).rglob("events.out.tfevents.*"))
