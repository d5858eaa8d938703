"""The commands as a user runs them: what they print, what they leave, what they keep from Hydra."""

from __future__ import annotations

import csv
import errno
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.errors import StoppedError
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import REFERENCES
from refrag_rl.evaluation.report import COLUMNS
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from tests.cli.running import InProcess
from tests.conftest import Command

QUICK = (
    "evaluation.rates=[4,2]",
    "evaluation.count=6",
    "evaluation.validation_count=4",
    "evaluation.eval_every=64",
    "train_count=100",
    "env.num_envs=8",
    "agent.total_rewards=128",
)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (folder / "comparison.json").read_text()
    rows: list[dict[str, Any]] = json.loads(text, parse_constant=refuse)
    with (folder / "comparison.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    return rows


def report_of(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the headings of a run's page, joined, and what its reader shows."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    block = re.search(r'id="reader-data">(.*?)</script>', page, re.DOTALL)
    headings = ", ".join(re.findall(r"<h2[^>]*>(.*?)</h2>", page))
    return headings, json.loads(block[1]) if block else {}


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["ppo", "grpo"])
def test_train_then_evaluate_the_run(
    command: Command, tiny: tuple[str, ...], tmp_path: Path, agent: str
) -> None:
    train = command("train", f"agent={agent}", *tiny, *QUICK, "budget=3", "output=run")
    assert train.returncode == 0, train.stderr
    assert "run: run" in train.stdout
    assert "tensorboard --logdir run" in train.stdout
    assert max(len(line) for line in train.stdout.splitlines()) <= 80
    folder = tmp_path / "run"
    rows = rows_of(folder)
    assert {tuple(row) for row in rows} == {COLUMNS}
    names = {row["selector"] for row in rows}
    assert names == {agent, *HEURISTICS, *REFERENCES}
    # Rates 4 and 2 are 1 and 3 chunks of 8: the trained budget of 3 is there already.
    assert {row["budget"] for row in rows if row["selector"] == agent} == {1, 3}
    assert sorted(path.name for path in (folder / "policy").iterdir()) == [
        "policy.json",
        "policy.safetensors",
    ]
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["seed"] == 0
    assert metadata["packages"]["torch"]
    headings, reader = report_of(folder)
    assert headings == ("Comparison, Learning curves, Where in the context, Reader, What was run")
    # Six windows of each domain are fewer than the reader's limit; the trained agent is first.
    assert len(reader["windows"]) == 12
    assert reader["selectors"][0] == {"name": agent, "tint": "probability"}
    for window in reader["windows"]:
        for choice, count in zip(window["choices"][0], (1, 3), strict=True):
            assert len(window["sets"][choice["set"]]["expanded"]) == count
            assert sum(choice["tint"]) == pytest.approx(count, abs=0.01)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert "comparison" in events.Tags()["images"]
    assert "expanded chunks/3 chunks/text_summary" in events.Tags()["tensors"]
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= set(events.summary_metadata)
    scalars = set(events.Tags()["scalars"])
    assert "final/all/4/delta_to_best_heuristic" in scalars
    assert {"reward/mean", "time/rewards_per_second", f"comparison/all/4/{agent}"} <= scalars
    assert "reward/difference_to_best_heuristic" in scalars

    evaluate = command(
        "evaluate",
        "-q",
        *tiny,
        "selectors=[random,run,run/policy]",
        "rates=[4]",
        "count=6",
        "output=new",
    )
    assert evaluate.returncode == 0, evaluate.stderr
    assert "selections/s" in train.stdout
    assert "selections/s" not in evaluate.stdout
    again = rows_of(tmp_path / "new")
    assert {row["selector"] for row in again} - set(REFERENCES) == {
        "random",
        f"{agent} run",
        f"{agent} run/policy",
    }

    # Same windows, same policy: the figures of the training's own table.
    def level(table: list[dict[str, Any]], name: str) -> list[float]:
        return [
            row["log_perplexity"]
            for row in table
            if row["selector"] == name and row["compression_rate"] == 4
        ]

    assert level(again, f"{agent} run") == pytest.approx(level(rows, agent), abs=1e-5)


@pytest.mark.parametrize(
    "agent",
    [
        ("rloo", "agent.warm_start=imitation", "agent.warm_start_rewards=50"),
        ("rloo", "agent.credit_per_chunk=true", "agent.policy.logits=each_pick"),
        ("reinforce",),
        ("imitation", "agent.picks=null"),
        ("regression",),
    ],
    ids=lambda agent: "-".join(agent),
)
def test_every_agent_trains_on_a_real_model(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, agent: tuple[str, ...]
) -> None:
    name, *options = agent
    arguments = (f"agent={name}", *options, *tiny, *QUICK, "budget=3", "output=run")
    outcome = in_process("train", *arguments)
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "run")
    assert {tuple(row) for row in rows} == {COLUMNS}
    assert name in {row["selector"] for row in rows}
    policy = json.loads((tmp_path / "run" / "policy" / "policy.json").read_text())
    assert policy["agent"] == name
    assert policy["training"]["training_rewards"] >= 128
    assert "reward/difference_to_best_heuristic" in tags(tmp_path / "run" / "tensorboard")


def tags(folder: Path) -> set[str]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_a_heuristic_as_agent_is_only_compared(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ["agent=recency", *tiny, *QUICK[:3], "output=run"]
    outcome = in_process("train", *arguments)
    assert outcome.code == 0, outcome.err
    assert not (tmp_path / "run" / "policy").exists()
    rows = rows_of(tmp_path / "run")
    assert [row["selector"] for row in rows].count("recency") == 3 * 2
    headings, reader = report_of(tmp_path / "run")
    assert headings == "Comparison, Where in the context, Reader, What was run"
    assert reader["selectors"][0] == {"name": "recency", "tint": "score"}
    assert {window["domain"] for window in reader["windows"]} == {"notes", "tales"}


@pytest.mark.parametrize("windows", ["contiguous", "retrieved", "recall"])
def test_evaluate_every_kind_of_window(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, windows: str
) -> None:
    sizes = [size for size in tiny if "passage" not in size]
    if windows != "contiguous":
        sizes.append("windows.passage_length=32")
    budgets = ("rates=[]", "budgets=[2]")
    outcome = in_process(
        "evaluate", *sizes, f"windows={windows}", *budgets, "count=4", "output=out"
    )
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "out")
    assert {row["windows"] for row in rows} == {windows}
    assert {row["budget"] for row in rows} == {None, 0, 2, 8}
    _, reader = report_of(tmp_path / "out")
    assert len(reader["windows"]) == 8
    # The reader's likelihoods are those of the table.
    for position, selector in enumerate(reader["selectors"]):
        levels = []
        for window in reader["windows"]:
            chosen = window["sets"][window["choices"][position][0]["set"]]
            levels.append(-sum(chosen["log_likelihood"]) / 16)
        (mean,) = (
            row["log_perplexity"]
            for row in rows
            if (row["selector"], row["domain"]) == (selector["name"], "all")
        )
        assert sum(levels) / len(levels) == pytest.approx(mean, abs=1e-3)


def test_policies_are_found_in_the_home_folder(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    PolicySelector(PointerPolicy(PointerConfig(16, width=8)), "grpo").save("mine/policy")
    quick = ("corpus.split=all", "count=2", "rates=[4]")
    for number, given in enumerate(("~/mine", "~/m*")):
        outcome = in_process(
            "evaluate", *tiny, *quick, f'selectors=["{given}"]', f"output=out{number}"
        )
        assert outcome.code == 0, outcome.err
        assert "grpo" in {row["selector"] for row in rows_of(tmp_path / f"out{number}")}


def test_a_report_without_a_reader_and_one_that_fails(
    in_process: InProcess,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = ("selectors=[recency,random]", "rates=[]", "budgets=[2]", "count=4")
    outcome = in_process("evaluate", *tiny, *cell, "report.windows=0", "output=out")
    assert outcome.code == 0, outcome.err
    headings, reader = report_of(tmp_path / "out")
    assert headings == "Comparison, Where in the context, What was run"
    assert reader == {}

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("refrag_rl.page.run_report.write_page", fail)
    outcome = in_process("evaluate", *tiny, *cell, "report.windows=0", "output=full")
    assert outcome.code == 1
    assert "disk is full" in outcome.err
    assert not (tmp_path / "full" / "report.html").exists()
    assert rows_of(tmp_path / "full") == rows_of(tmp_path / "out")


def test_a_comparison_in_parts_is_that_of_all_windows(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    cell = ("selectors=[recency,lexical]", "rates=[]", "budgets=[2]", "report.windows=0")
    cell += ("references=false",)
    for name, windows in (("all", "count=5"), ("a", "count=3"), ("b", "first=3 count=2")):
        outcome = in_process("evaluate", *tiny, *cell, *windows.split(), f"output={name}")
        assert outcome.code == 0, outcome.err
    whole, *parts = (
        pd.read_parquet(tmp_path / name / "window_scores.parquet") for name in ("all", "a", "b")
    )
    joined = pd.concat(parts)
    by = ["selector", "domain", "window"]
    assert len(whole) == len(joined)
    pd.testing.assert_series_equal(
        whole.groupby(by).log_perplexity.mean(), joined.groupby(by).log_perplexity.mean(), rtol=1e-5
    )


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), StoppedError(15)])
def test_a_comparison_that_is_stopped_leaves_no_folder(
    in_process: InProcess,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
) -> None:
    def compare(*_: object) -> None:
        assert (tmp_path / "out" / "config.yaml").exists()
        raise stop

    monkeypatch.setattr(Comparator, "compare", compare)
    outcome = in_process("evaluate", *tiny, "rates=[2]", "count=2", "output=out")
    assert outcome.code in (130, 143)
    assert not (tmp_path / "out").exists()


def test_evaluate_with_the_oracle(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    cell = ("rates=[]", "budgets=[2]", "count=6", "oracle=5")
    outcome = in_process("evaluate", *tiny, *cell, "output=out")
    assert outcome.code == 0, outcome.err
    assert "share of the gap closed" in outcome.out
    rows = [row for row in rows_of(tmp_path / "out") if row["budget"] == 2]
    levels = {row["selector"]: row["log_perplexity"] for row in rows}
    assert levels.pop("oracle") < min(levels.values())
    shares = {row["selector"]: row["gap_closed"] for row in rows}
    assert (shares["random"], shares["oracle"]) == (0, 1)
    assert {row["selector"] for row in rows if row["sees_output"]} == {
        "oracle",
        "oracle_split_half",
    }


def test_the_same_seed_gives_the_same_files(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    for output, seed in (("a", 3), ("b", 3), ("c", 4)):
        arguments = ["rates=[2]", "count=5", f"seed={seed}", f"output={output}"]
        assert in_process("evaluate", *tiny, *arguments).code == 0
    a, b, c = ((tmp_path / name / "comparison.csv").read_text() for name in "abc")
    assert a == b
    assert a != c


def test_a_list_and_a_glob_of_paths(
    in_process: InProcess, tiny: tuple[str, ...], tiny_corpus: Path, tmp_path: Path
) -> None:
    lines = tiny_corpus.read_text().splitlines(keepends=True)
    for number, part in enumerate((lines[:30], lines[150:180])):
        (tmp_path / f"part{number}.jsonl").write_text("".join(part))
    for output, path in (("list", "[part0.jsonl,part1.jsonl]"), ("glob", "'part*.jsonl'")):
        arguments = [f"corpus.path={path}", "corpus.split=all", "rates=[2]", "count=4"]
        outcome = in_process("evaluate", *tiny, *arguments, f"output={output}")
        assert outcome.code == 0, outcome.err
    assert rows_of(tmp_path / "list") == rows_of(tmp_path / "glob")


PLUGIN = """
import numpy as np


class EveryOther:
    name = "every_other"

    def __init__(self, start=0):
        self.start = start

    def select(self, observation, budget, rng):
        mask = observation["chunk_mask"].astype(bool)
        places = np.arange(mask.shape[1])
        order = np.argsort((places + self.start) % 2 + places / 1000 + 10 * ~mask)
        expanded = np.zeros_like(mask)
        for row, chunks in enumerate(budget):
            expanded[row, order[row][:chunks]] = True
        return expanded
"""


def test_an_agent_of_ones_own_plugs_in_by_yaml(
    in_process: InProcess,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "my_selectors.py").write_text(PLUGIN)
    (tmp_path / "conf" / "agent").mkdir(parents=True)
    yaml = "_target_: my_selectors.EveryOther\nstart: 1\n"
    (tmp_path / "conf" / "agent" / "every_other.yaml").write_text(yaml)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["--config-dir", "conf", "agent=every_other", *tiny, *QUICK[:3]]
    outcome = in_process("train", *arguments, "output=run")
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "run")
    assert any(row["delta_to_best_heuristic"] for row in rows if row["selector"] == "every_other")
    wrong = in_process("train", *arguments, "+agent.stop=1", "output=wrong")
    assert wrong.code == 2
    assert "its options: start" in wrong.err


def test_multirun_gives_each_job_a_folder(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ["--multirun", *tiny, "rates=[2]", "count=4", "seed=0,1", "output=sweep"]
    outcome = in_process("evaluate", *arguments)
    assert outcome.code == 0, outcome.err
    seeds = [
        json.loads((tmp_path / "sweep" / str(job) / "metadata.json").read_text())["seed"]
        for job in (0, 1)
    ]
    assert seeds == [0, 1]
    # Hydra makes folders of its own for a multirun; there are none beside the one that was named.
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


def test_a_mistake_in_a_multirun_leaves_nothing_behind(
    in_process: InProcess, tmp_path: Path
) -> None:
    arguments = ["corpus=files", "corpus.path=nowhere.txt", "seed=0,1", "output=sweep"]
    outcome = in_process("evaluate", "--multirun", *arguments)
    assert outcome.code == 2
    assert "nowhere.txt" in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["train", "evaluate", "benchmark"])
def test_the_config_is_shown_without_running(
    in_process: InProcess, tmp_path: Path, name: str
) -> None:
    shown = in_process(name, "--cfg", "job")
    assert shown.code == 0
    assert "path: tiny-k16" in shown.out
    help_ = in_process(name, "--help")
    assert help_.code == 0
    assert "retrieved" in help_.out
    assert not list(tmp_path.iterdir())
