"""Run folders to resume that are damaged, or a stranger's: refused, and nothing outside touched."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]
from safetensors.torch import load_file

from refrag_rl.checkpoint_files import CheckpointFiles
from refrag_rl.commands import run_command
from refrag_rl.train import train
from tests.bad_input.checking import QUICK, contents
from tests.bad_input.damage import NO_JSON, NO_SAFETENSORS, Damage, content, edited, pipe, put
from tests.cli.conftest import SIZES
from tests.cli.running import InProcess, Outcome


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, tiny_corpus: Path
) -> Path:
    """Return the folder of a short run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    arguments = (
        "agent=grpo",
        f"refrag.path={tiny_checkpoint}",
        "corpus=files",
        f"corpus.path={tiny_corpus}",
        *SIZES,
        *QUICK,
        f"output={folder}",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        patch.setenv("HYDRA_FULL_ERROR", "0")
        patch.setattr(sys, "argv", ["refrag_rl.train", *arguments])
        run_command(train, "train")
    return folder


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Path:
    """Return a copy of it that was stopped before its final comparison."""
    shutil.copytree(finished, tmp_path / "run")
    for path in (tmp_path / "run").glob("comparison.*"):
        path.unlink()
    return tmp_path / "run"


def check_not_resumed(outcome: Outcome, said: str = "") -> None:
    lines = outcome.err.strip().split("\n")
    assert outcome.code == 2, outcome
    assert 1 <= len(lines) <= 3, outcome.err
    assert "Traceback" not in outcome.err
    assert said in outcome.err
    assert not Path("executed").exists()


def config(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change a run's config."""

    def damage(path: Path) -> None:
        data = yaml.safe_load(path.read_text())
        change(data)
        path.write_text(yaml.safe_dump(data))

    return damage


def setting(key: str, value: object) -> Damage:
    """Set a key of a run's config; dots lead into what lies deeper."""

    def change(data: dict[str, Any]) -> None:
        *outer, last = key.split(".")
        for name in outer:
            data = data[name]
        data[last] = value

    return config(change)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

CONFIGS: dict[str, Damage] = {
    **NO_JSON,
    "tabs": content("a:\n\tb: 1\n"),
    "bomb": content(BOMB),
    "long": content("a: 1\n" * 300_000),
    "nested": content("a: " + "[" * 900 + "]" * 900),
    "python": content("!!python/object/apply:os.mkdir ['executed']\n"),
    "python-value": content("agent: !!python/object/apply:os.mkdir ['executed']\n"),
    "no-int": content('seed: !!int ""\n'),
    "no-truth": content("seed: !!bool x\n"),
    "no-time": content("seed: !!timestamp x\n"),
    "no-float": content("seed: !!float [1]\n"),
    "set": content("seed: !!set {a, b}\n"),
    "ordered": content("seed: !!omap [5]\n"),
    "list-key": content("? [a, b]\n: 1\n"),
    "date": content("2020-01-01: 2020-01-01\n"),
    "agent": setting("agent._target_", "os.mkdir"),
    "agent-inside": setting("agent.policy", {"_target_": "os.mkdir", "path": "executed"}),
    "agent-list": setting("agent.policy.features", [{"_target_": "os.mkdir", "path": "executed"}]),
    "agent-number": setting("agent._target_", 5),
    "agent-other-section": setting("agent._target_", "refrag_rl.corpora.files.load"),
    "corpus": setting("corpus._target_", "os.mkdir"),
    "windows": setting("windows._target_", "os.mkdir"),
    "root": setting("_target_", "os.mkdir"),
    "env": setting("env._target_", "os.mkdir"),
    "environment": setting("corpus.path", "${oc.env:HOME}/secret.txt"),
    "decoded": setting("budget", "${oc.decode:1}"),
    "unknown": setting("nothing", 1),
    "unknown-agent-option": setting("agent.nothing", 1),
    "seed": setting("seed", -1),
    "seed-text": setting("seed", "x"),
    "keep": setting("keep", 0),
    "keep-huge": setting("keep", 10**400),
    "rates-huge": setting("evaluation.rates", [10**400]),
    "rate-of-learning-huge": setting("agent.learning_rate", 10**400),
    "budget-huge": setting("budget", 10**400),
    "envs": setting("env.num_envs", 0),
    "no-agent": config(lambda data: data.pop("agent")),
    "agent-null": setting("agent", None),
    "agent-text": setting("agent", "ppo"),
    "windows-list": setting("windows", [1]),
    "evaluation-null": setting("evaluation", None),
    "budget": setting("budget", {"a": 1}),
    "refrag": setting("refrag.path", "../nothing"),
    "refrag-null": setting("refrag", None),
    "corpus-path": setting("corpus.path", "../../../../../../etc/passwd"),
    "corpus-null": setting("corpus", None),
    "other-network": setting("agent.policy.width", 32),
}


def saved(run: Path) -> list[Path]:
    return sorted((run / "checkpoint").iterdir())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_cannot_be_used(
    in_process: InProcess, run: Path, tmp_path: Path, name: str
) -> None:
    CONFIGS[name](run / "config.yaml")
    before = contents(run / "checkpoint")
    check_not_resumed(in_process("train", "resume=run"))
    assert contents(run / "checkpoint") == before


@pytest.mark.parametrize("name", [*NO_JSON, "other-command"])
def test_metadata_that_cannot_be_used(in_process: InProcess, run: Path, name: str) -> None:
    {**NO_JSON, "other-command": put("command", "evaluate")}[name](run / "metadata.json")
    check_not_resumed(in_process("train", "resume=run"))


def row(**changes: object) -> Damage:
    """Change the second row of a comparison; ``...`` removes a key."""

    def change(rows: list[dict[str, object]]) -> None:
        rows[1].update(changes)
        for key in [key for key, value in changes.items() if value is ...]:
            del rows[1][key]

    return edited(change)


COMPARISONS: dict[str, Damage] = {
    **NO_JSON,
    "no-rows": content("[]"),
    "number": content("5"),
    "mapping": content('{"rows": []}'),
    "number-rows": content("[5]"),
    "text-rows": content('["domain"]'),
    "lists": content("[[1], [2]]"),
    "short-row": content('[{"domain": "x"}]'),
    "no-count": row(count=...),
    "no-interval": row(ci_low=...),
    "selector-number": row(selector=5),
    "selector-list": row(selector=["random"]),
    "domain-null": row(domain=None),
    "domain-mapping": row(domain={"a": 1}),
    "level-text": row(log_perplexity="2.5"),
    "level-null": row(log_perplexity=None),
    "level-true": row(log_perplexity=True),
    "level-nan": row(log_perplexity=float("nan")),
    "level-infinite": row(log_perplexity=float("inf")),
    "level-huge": row(log_perplexity=10**400),
    "count-half": row(count=1.5),
    "budget-text": row(budget="2"),
    "sees-output-number": row(sees_output=1),
    "resampled": row(resampled="moons"),
    "no-budget": row(selector="recency", budget=None, compression_rate=None),
    "gap-text": row(gap_closed="0.5"),
}


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_that_cannot_be_shown(
    in_process: InProcess, finished: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    COMPARISONS[name](tmp_path / "run" / "comparison.json")
    check_not_resumed(in_process("train", "resume=run"))
    assert (tmp_path / "run" / "comparison.png").exists()


@pytest.mark.parametrize("name", [name for name in NO_SAFETENSORS if name != "removed"])
def test_checkpoints_that_are_none(in_process: InProcess, run: Path, name: str) -> None:
    for path in saved(run):
        NO_SAFETENSORS[name](path)
    check_not_resumed(in_process("train", "resume=run"), "cannot be resumed from")


PROGRESS: dict[str, Callable[[dict[str, Any]], object]] = {
    "empty": lambda own: own.clear(),
    "done-text": lambda own: own.update(done="4"),
    "done-negative": lambda own: own.update(done=-1),
    "done-huge": lambda own: own.update(done=10**300),
    "done-true": lambda own: own.update(done=True),
    "done-nan": lambda own: own.update(training_seconds=float("nan")),
    "events-list": lambda own: own.update(events=[]),
    "no-done": lambda own: own.pop("done"),
    "saved-later": lambda own: own.update(saved_at=own["done"] + 1),
    "update-negative": lambda own: own.update(update=-1),
    "update-beyond": lambda own: own.update(update=10**6),
    "update-text": lambda own: own.update(update="1"),
    "update-half": lambda own: own.update(update=0.5),
    "update-nan": lambda own: own.update(update=float("nan")),
    "no-update": lambda own: own.pop("update"),
}

TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "none": lambda own: own.clear(),
    "no-weights": lambda own: [own.pop(n) for n in list(own) if n.startswith("model.")],
    "no-random": lambda own: [own.pop(n) for n in list(own) if n.startswith("random.")],
    "random-short": lambda own: own.update({"random.torch": torch.zeros(3, dtype=torch.uint8)}),
    "random-python": lambda own: own.update({"random.python": torch.zeros(2, dtype=torch.int64)}),
    "gauss": lambda own: own.update({"random.gauss": torch.zeros(0)}),
    "random-negative": lambda own: own["random.numpy"].fill_(-1),
    "random-position": lambda own: own["random.numpy"][-1:].fill_(10**9),
    "more": lambda own: own.update({"model.more": torch.zeros(1)}),
    "optimizer-name": lambda own: own.update({"optimizers.x": torch.zeros(1)}),
    "optimizer-index": lambda own: own.update({"optimizers.9.9.step": torch.zeros(1)}),
    "optimizer-negative": lambda own: own.update({"optimizers.0.-999.step": torch.zeros(1)}),
    "optimizer-shape": lambda own: own.update({"optimizers.0.0.exp_avg": torch.zeros(7, 7)}),
    "caches": lambda own: own.update({"extra.log_perplexity.header": torch.zeros(3)}),
    "weights-nan": lambda own: [
        own.update({n: own[n] * float("nan")}) for n in own if n.startswith("model.")
    ],
}


def rewrite(run: Path, progress: Callable[..., object], tensors: Callable[..., object]) -> None:
    """Change what the checkpoints hold, with the right checksum, as a stranger would."""
    states = []
    for path in saved(run):
        own = load_file(path)
        state = json.loads(bytes(own.pop("progress").tolist()))
        progress(state)
        tensors(own)
        states.append((own, state))
        path.unlink()
    for own, state in states:
        CheckpointFiles(run / "checkpoint", keep=9).write(own, state)


@pytest.mark.parametrize("name", PROGRESS)
def test_progress_that_is_none(in_process: InProcess, run: Path, name: str) -> None:
    rewrite(run, PROGRESS[name], lambda own: None)
    check_not_resumed(in_process("train", "resume=run"), "cannot be resumed from")


@pytest.mark.parametrize("update", [-1, 0])
def test_the_state_before_a_damaged_one_is_used(
    in_process: InProcess, run: Path, finished: Path, update: int
) -> None:
    """A sound file with an impossible state is passed over, and the run comes to the same."""
    files = CheckpointFiles(run / "checkpoint", keep=9)
    last = files.read()
    files.write(last.tensors, {**last.progress, "update": update})
    outcome = in_process("train", "resume=run")
    assert outcome.code == 0, outcome.err
    assert f"is damaged (its update is {update}" in outcome.err
    for name in ("comparison.json", "policy/policy.safetensors"):
        assert (run / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("name", [name for name in TENSORS if name != "weights-nan"])
def test_states_of_something_else(in_process: InProcess, run: Path, name: str) -> None:
    rewrite(run, lambda own: None, TENSORS[name])
    check_not_resumed(in_process("train", "resume=run"), "cannot be resumed from")


@pytest.mark.parametrize(
    "name",
    ["checkpoint", "tensorboard", "policy", "comparison.json", "comparison.csv", "metadata.json"],
)
def test_a_link_out_of_the_folder(
    in_process: InProcess, run: Path, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    (run / name).rename(outside) if (run / name).exists() else outside.write_text("mine")
    (run / name).symlink_to(Path("..") / "outside")
    before = contents(outside) if outside.is_dir() else outside.read_bytes()
    check_not_resumed(in_process("train", "resume=run"), "is a link")
    assert (contents(outside) if outside.is_dir() else outside.read_bytes()) == before


@pytest.mark.parametrize("name", ["curves", "checkpoint"])
def test_a_named_pipe_in_the_folder_is_not_waited_for(
    in_process: InProcess, run: Path, name: str
) -> None:
    folder, pattern = {
        "curves": ("tensorboard", "events.out.tfevents.*"),
        "checkpoint": ("checkpoint", "*.safetensors"),
    }[name]
    pipe(next((run / folder).glob(pattern)))
    check_not_resumed(in_process("train", "resume=run"), "neither a file nor a folder")


def test_names_in_a_checkpoint_lead_nowhere(
    in_process: InProcess, run: Path, tmp_path: Path
) -> None:
    """Event files are cut where a checkpoint says, those of the run alone."""
    (tmp_path / "events.out.tfevents.1").write_text("another run's curves")
    lengths = {"../../events.out.tfevents.1": 0, "../config.yaml": 0}
    rewrite(run, lambda own: own["events"].update(lengths), lambda own: None)
    assert in_process("train", "resume=run").code == 0
    assert (tmp_path / "events.out.tfevents.1").read_text() == "another run's curves"
    assert (run / "config.yaml").stat().st_size > 0


def test_what_a_config_says_of_output_is_not_followed(
    in_process: InProcess, run: Path, tmp_path: Path
) -> None:
    setting("output", "../elsewhere")(run / "config.yaml")
    assert in_process("train", "resume=run").code == 0
    assert (run / "comparison.json").exists()
    assert sorted(os.listdir(tmp_path)) == ["run"]
    assert not (tmp_path.parent / "elsewhere").exists()
