"""Every mistake gives a few lines that say what was given and what is allowed, and exit code 2."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from refrag_rl import composition
from tests.cli.running import InProcess, Outcome


def check(outcome: Outcome, folder: Path, *said: str) -> None:
    lines = outcome.err.strip().splitlines()
    assert outcome.code == 2, outcome
    assert 1 <= len(lines) <= 3, outcome.err
    assert "Traceback" not in outcome.err
    for words in said:
        assert words in outcome.err, outcome.err
    assert not (folder / "runs").exists()
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["agent=pppo"], ["agent=pppo", "did you mean ppo", "grpo", "recency"]),
        (["windows=recal"], ["windows=recal", "did you mean recall", "contiguous", "retrieved"]),
        (["corpus=web"], ["corpus=web", "docs, files, hub"]),
        (["sed=1"], ["key sed", "did you mean seed", "output"]),
        (["+sed=1"], ["key sed", "did you mean seed"]),
        (["windows.retriver=weak"], ["windows.retriver", "did you mean retriever", "pool"]),
        (["+windows.foo=1"], ["key windows.foo", "passage_length"]),
        (["refrag.pth=x"], ["refrag.pth", "did you mean path"]),
        (["windows.retriever=best"], ["best", "strong, weak"]),
        (["env.reward=accuracy"], ["accuracy", "neg_log_perplexity, neg_perplexity"]),
        (["seed=one"], ["seed=one", "Integer"]),
        (["seed=null"], ["seed=null"]),
        (["evaluation.rates=[8,x]"], ["rates=[8,x]", "Float"]),
        (["evaluation.rates=8"], ["evaluation.rates=8"]),
        (["windows.context_length=1.5"], ["context_length=1.5", "Integer"]),
        (["corpus.path"], ["corpus.path"]),
        (["corpus=[a"], ["corpus=[a"]),
        (["seed=${nothing}"], ["nothing"]),
        (["refrag=3"], ["refrag=3"]),
        (["--config-dir", "nowhere"], ["nowhere"]),
        (["--multirun", "--cfg", "job"], ["multirun"]),
    ],
)
def test_a_wrong_command_line(
    in_process: InProcess, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    check(in_process("train", *arguments), tmp_path, *said)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("budget=9", ["9 chunks", "8"]),
        ("budget=0", ["refrag_rl.train: A budget of 0 chunks"]),
        ("budget=1.5", ["1.5"]),
        ("budget=8x", ["8x"]),
        ("budget=1x", ["1x"]),
        ("budget=many", ["many"]),
        ("budget=[2,4x]", ["same unit"]),
        ("budget=[1,2,3]", ["two ends"]),
        ("evaluation.rates=[40]", ["evaluation.rates: ", "40x"]),
        ("evaluation.rates=[]", ["evaluation.rates=", "evaluation.budgets="]),
        ("evaluation.heuristics=[recncy]", ["recncy", "did you mean recency", "lexical"]),
        ("evaluation.count=0", ["count=0"]),
        ("corpus.split=tets", ["corpus.split=tets", "train, validation, test, all"]),
        ("corpus.split=all", ["corpus.split=all", "trained on"]),
        ("windows.context_length=60", ["context_length=60", "multiple"]),
        ("windows.output_length=0", ["output_length=0"]),
        ("windows.output_length=5000", ["long"]),
        ("agent.clip_range=2", ["agent.clip_range=2"]),
        ("agent.total_rewards=many", ["agent.total_rewards='many'"]),
        ("+agent.learning_rat=1", ["learning_rat", "learning_rate", "group_size"]),
        ("agent._target_=refrag_rl.nothing.Agent", ["refrag_rl.nothing.Agent"]),
        ("agent._target_=builtins.dict", ["agent"]),
    ],
)
def test_a_value_out_of_range(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...], argument: str, said: list[str]
) -> None:
    rates = "evaluation.rates=[4,2]"
    outcome = in_process("train", "agent=grpo", *tiny, rates, "output=out", argument)
    check(outcome, tmp_path, *said)


def row(number: int, **fields: object) -> str:
    return json.dumps({"id": number, "text": "a b c " * 50, **fields}) + "\n"


WRITERS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing.jsonl": (lambda path: None, ["missing.jsonl", "no such file"]),
    "empty.jsonl": (lambda path: path.write_bytes(b""), ["empty.jsonl"]),
    "empty.txt": (lambda path: path.write_bytes(b""), ["empty.txt"]),
    "binary.txt": (lambda path: path.write_bytes(b"\xff\xfe\x00\x81" * 99), ["binary.txt"]),
    "broken.jsonl": (lambda path: path.write_text(row(1) + '{"id": 2,\n'), ["line 2"]),
    "list.jsonl": (lambda path: path.write_text(row(1) + row(2) + "[1, 2]\n"), ["line 3"]),
    "field.jsonl": (lambda path: path.write_text(row(1) + '{"id": 2, "body": "x"}\n'), ["'text'"]),
    "number.jsonl": (lambda path: path.write_text(row(1, text=7)), ["text"]),
    "cut.jsonl.gz": (lambda path: path.write_bytes(gzip.compress(b"x" * 999)[:15]), ["cut"]),
    "plain.jsonl.gz": (lambda path: path.write_text(row(1)), ["plain.jsonl.gz"]),
    "table.parquet": (lambda path: path.write_text("no parquet"), ["table.parquet"]),
    "short.jsonl": (lambda path: path.write_text(row(1, text="too short")), ["long"]),
    "folder": (lambda path: path.mkdir(), ["folder"]),
    "image.png": (lambda path: path.write_bytes(b"\x89PNG"), ["image.png"]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_cannot_be_used(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...], name: str
) -> None:
    write, said = WRITERS[name]
    write(tmp_path / name)
    arguments = [*tiny, f"corpus.path={name}", "corpus.split=all", "output=out"]
    check(in_process("evaluate", *arguments), tmp_path, *said)


def test_files_without_a_path(in_process: InProcess, tmp_path: Path) -> None:
    check(in_process("evaluate", "corpus=files"), tmp_path, "corpus.path=")


@pytest.mark.parametrize("path", ["nowhere", ".", "file.txt"])
def test_a_folder_that_is_no_checkpoint(in_process: InProcess, tmp_path: Path, path: str) -> None:
    (tmp_path / "file.txt").write_text("no folder")
    outcome = in_process("evaluate", f"refrag.path={path}")
    check(outcome, tmp_path, "refrag" if path == "nowhere" else path)


def test_a_selector_that_does_not_exist(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    check(in_process("evaluate", *tiny, "selectors=[lucky]"), tmp_path, "lucky", "recency")


def test_a_first_window_that_cannot_be(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    check(in_process("evaluate", *tiny, "first=-1"), tmp_path, "first=-1", "0")


def test_a_policy_for_embeddings_of_another_width(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...], wider_checkpoint: Path
) -> None:
    from refrag_rl.agents.policy_selector import PolicySelector
    from refrag_rl.policies.pointer import PointerConfig, PointerPolicy

    PolicySelector(PointerPolicy(PointerConfig(embedding_size=16)), "grpo").save("policy")
    arguments = [*tiny, f"refrag.path={wider_checkpoint}", "selectors=[policy]"]
    check(in_process("evaluate", *arguments), tmp_path, "width 16", "24")


@pytest.mark.parametrize("name", ["train", "evaluate", "benchmark"])
def test_an_output_folder_that_holds_something_is_left_as_it_is(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...], name: str
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    check(in_process(name, *tiny, f"output={folder}"), tmp_path, "not empty", str(folder))
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["pretrain", "inspect"])
def test_commands_that_make_one_run_refuse_a_multirun(
    in_process: InProcess, tmp_path: Path, name: str
) -> None:
    check(in_process(name, "--multirun", "output=runs/x"), tmp_path, "--multirun", "one run")
    assert not (tmp_path / "multirun").exists()


def test_settings_of_what_has_none(in_process: InProcess, tmp_path: Path) -> None:
    outcome = in_process("train", "agent=recency", "agent.total_rewards=5")
    check(outcome, tmp_path, "no key agent.total_rewards: agent has no settings")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 TiB for an array"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 TiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8.00 TiB"),
    ],
)
def test_too_little_memory(
    in_process: InProcess,
    tmp_path: Path,
    tiny: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def allocate(section: object) -> None:
        raise error

    monkeypatch.setattr(composition, "build_refrag", allocate)
    outcome = in_process("evaluate", *tiny, "output=out")
    check(outcome, tmp_path, "not enough memory", "8.00 TiB", "refrag.batch_tokens")


def test_an_output_folder_below_a_file(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    check(in_process("evaluate", *tiny, "output=file/run"), tmp_path, "output=file/run")
