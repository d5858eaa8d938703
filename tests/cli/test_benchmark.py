"""``refrag_rl.benchmark`` on tiny models: rows, ratios, agreement, mistakes on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch._inductor.exc import InvalidCxxCompiler

from refrag_rl.benchmarks import latency
from refrag_rl.corpora.windows import Window
from refrag_rl.modeling.bfloat16 import computes_in_bfloat16
from refrag_rl.window_encoder import WindowEncoder
from tests.cli.running import InProcess

TINY_DECODER = (
    "decoder.vocab_size=64",
    "decoder.hidden_size=16",
    "decoder.intermediate_size=16",
    "decoder.num_hidden_layers=2",
    "decoder.layer_types=[conv,full_attention]",
    "decoder.num_attention_heads=2",
    "decoder.num_key_value_heads=2",
    "batch=2",
    "length=8",
    "repeats=1",
)

TINY_REQUESTS = (
    "model=tiny-shape",
    "lengths=[32,64]",
    "chunk_sizes=[8]",
    "policy_rates=[2]",
    "output_length=2",
    "warmup=0",
    "repeats=1",
    "device=cpu",
)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "benchmark.json").read_text())
    return rows


@pytest.mark.parametrize(
    ("word", "capability"), [((), "AVX2"), (("rewards",), torch.backends.cpu.get_cpu_capability())]
)
def test_rewards_of_all_ways_agree(
    in_process: InProcess,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    word: tuple[str, ...],
    capability: str,
) -> None:
    # Without AVX-512 bfloat16 is imitated, slower than it is of use.
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    dtypes = ("float32",) if capability == "AVX2" else ("float32", "bfloat16")
    sizes = ("rates=[4,2]", "count=2", "group_size=3", "plain_batch=4", "repeats=1")
    outcome = in_process("benchmark", *word, *tiny, *sizes, "output=bench")
    assert outcome.code == 0, outcome.err
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    rows = rows_of(tmp_path / "bench")
    assert [(row["compression_rate"], row["dtype"]) for row in rows] == [
        (rate, dtype) for rate in (4, 2) for dtype in dtypes
    ]
    for row in rows:
        assert set(row) == {
            "compression_rate",
            "rewards_per_second",
            "ratio_to_one_at_a_time",
            "ratio_to_plain_batches",
            "mfu",
            "dtype",
            "device",
            "largest_difference",
        }
        for key in (
            "rewards_per_second",
            "ratio_to_one_at_a_time",
            "ratio_to_plain_batches",
            "mfu",
        ):
            assert row[key] > 0
        assert row["largest_difference"] < (1e-4 if row["dtype"] == "float32" else 2e-3)


def test_rewards_with_chunk_embeddings_made_beforehand(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    contexts = WindowEncoder.contexts

    def counting(self: WindowEncoder, windows: Sequence[Window]) -> list[NDArray[np.float32]]:
        encoded.append("cached" if cached else "anew")
        return contexts(self, windows)

    monkeypatch.setattr(WindowEncoder, "contexts", counting)
    sizes = ("rates=[4]", "count=2", "group_size=3", "repeats=1", "dtypes=[float32]")
    for cached in (False, True):
        outcome = in_process(
            "benchmark", "rewards", *tiny, *sizes, f"cached={cached}", f"output={cached}"
        )
        assert outcome.code == 0, outcome.err
    (anew,), (cached_row,) = rows_of(tmp_path / "False"), rows_of(tmp_path / "True")
    assert encoded.count("cached") < encoded.count("anew")
    assert max(anew["largest_difference"], cached_row["largest_difference"]) < 1e-4


def test_rewards_of_a_shape(in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path) -> None:
    sizes = ("rates=[4]", "count=2", "group_size=2", "repeats=1", "dtypes=[float32]")
    known = ("model.decoder.vocab_size=1024", "model.encoder.vocab_size=1024")
    shape = ("model=tiny-shape", *known, "model.decoder.hidden_size=32")
    outcome = in_process("benchmark", "rewards", *tiny, *sizes, *shape, "output=bench")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("tiny-shape; 2 windows x 2 selections")
    (row,) = rows_of(tmp_path / "bench")
    assert row["rewards_per_second"] > 0
    assert row["largest_difference"] < 1e-4


def test_training_steps_start_from_the_same_loss(in_process: InProcess, tmp_path: Path) -> None:
    outcome = in_process("benchmark", "pretrain", *TINY_DECODER, "output=bench")
    assert outcome.code == 0, outcome.err
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    rows = {row["variant"]: row for row in rows_of(tmp_path / "bench")}
    assert [name for name in rows if name != "plain_float32"][:2] == ["plain", "fused"]
    assert ("plain_float32" in rows) == computes_in_bfloat16("cpu")
    assert rows["plain"]["ratio_to_plain"] == 1
    for row in rows.values():
        assert set(row) == {
            "variant",
            "tokens_per_second",
            "ratio_to_plain",
            "mfu",
            "dtype",
            "threads",
            "device",
            "loss",
        }
        assert min(row["tokens_per_second"], row["ratio_to_plain"], row["mfu"]) > 0
        assert row["loss"] == pytest.approx(rows["plain"]["loss"], abs=2e-2)


def test_an_unknown_measurement_lists_the_choices(in_process: InProcess, tmp_path: Path) -> None:
    outcome = in_process("benchmark", "rewrads")
    assert outcome.code == 2
    assert "did you mean rewards?" in outcome.err
    assert "choices: rewards, env, train, latency, pretrain" in outcome.err
    assert not list(tmp_path.iterdir())


def test_shares_of_the_views_sum_to_one(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    sizes = ("budget=2", "count=3", "episodes=6", "repeats=1", "env.num_envs=2")
    outcome = in_process("benchmark", "env", *tiny, *sizes, "output=bench")
    assert outcome.code == 0, outcome.err
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    rows = rows_of(tmp_path / "bench")
    assert [(row["view"], row["num_envs"]) for row in rows] == [
        ("single", 1),
        ("vector", 2),
        ("sb3", 2),
    ]
    for row in rows:
        shares = [row[f"{part}_share"] for part in ("decoder", "encoder", "outside")]
        assert min(shares) > 0
        assert sum(shares) == pytest.approx(1)
        assert row["steps_per_second"] == pytest.approx(2 * row["episodes_per_second"])
        assert (row["dtype"], row["device"]) == ("float32", "cpu")


@pytest.mark.parametrize(("target", "is_reached"), [("100", True), ("0.01", False)])
def test_agents_are_trained_to_a_target(
    in_process: InProcess,
    tiny: tuple[str, ...],
    tmp_path: Path,
    target: str,
    is_reached: bool,
) -> None:
    short = ("evaluation.validation_count=4", "train_count=4", "budget=2")
    quoted = [f"'{override}'" for override in (*tiny, *short)]
    overrides = f"overrides=[{','.join(quoted)}]"
    sizes = ("total_rewards=16", "eval_every=8", "rate=2", f"target={target}")
    if is_reached:
        # One agent, by a config of the user's own.
        (tmp_path / "configs" / "agent").mkdir(parents=True)
        own = "_target_: refrag_rl.agents.grpo.Grpo\ntotal_rewards: 1\nseed: 0\n"
        (tmp_path / "configs" / "agent" / "mine.yaml").write_text(own)
        sizes = ("--config-dir", "configs", "agents=[mine]", *sizes)
    outcome = in_process("benchmark", "train", *sizes, overrides, "output=bench")
    assert outcome.code == 0, outcome.err
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    rows = rows_of(tmp_path / "bench")
    assert [row["agent"] for row in rows] == (["mine"] if is_reached else ["ppo", "grpo"])
    for row in rows:
        assert row["rewards"] >= 16
        assert row["rewards_per_second"] == pytest.approx(row["rewards"] / row["training_seconds"])
        assert 0 < row["decoder_share"] + row["encoder_share"] < 1
        rewards, seconds, _ = row["curve"][0]
        assert row["target"] == float(target)
        if is_reached:
            assert (row["rewards_to_target"], row["seconds_to_target"]) == (rewards, seconds)
        else:
            assert row["rewards_to_target"] is row["seconds_to_target"] is None
        assert rewards >= 8
        assert 0 < seconds <= row["training_seconds"]
        assert row["curve"][-1][2] == row["log_perplexity"]
    kept = {path.name for path in (tmp_path / "bench").iterdir() if path.name[0] != "."}
    assert kept == {"benchmark.json", "config.yaml", "metadata.json"}


def test_latency_writes_rows_and_figure(in_process: InProcess, tmp_path: Path) -> None:
    outcome = in_process("benchmark", "latency", *TINY_REQUESTS, "output=bench")
    assert outcome.code == 0, outcome.err
    assert max(len(line) for line in outcome.out.splitlines()) <= 80
    assert "tiny-shape, float32" in outcome.out
    rows = rows_of(tmp_path / "bench")
    assert [(row["context_length"], row["chunk_size"], row["cached"]) for row in rows] == [
        (length, size, cached)
        for length in (32, 64)
        for size, cached in ((None, None), (8, True), (8, False), (8, True), (8, False))
    ]
    assert [row["policy_rate"] for row in rows] == [None, None, None, 2, 2] * 2
    for row in rows:
        times = [row[key] for key in row if key.endswith(("seconds", "second"))]
        assert min(time for time in times if time is not None) > 0
        has_policy = row["policy_rate"] is not None
        assert has_policy == (row["selection_seconds"] is not None) == ("policy" in row["computed"])
        # The default policy's inputs; statistics of chunks are cached where embeddings are.
        assert has_policy == ("lexical" in row["computed"])
        assert (has_policy and not row["cached"]) == ("log_perplexity" in row["computed"])
    assert (tmp_path / "bench" / "benchmark.png").stat().st_size > 0


def test_what_was_measured_before_a_failure_is_kept(
    in_process: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = latency._answers

    def fail_later(*arguments: Any) -> Any:
        if (tmp_path / "bench").exists():
            raise torch.OutOfMemoryError
        return measured(*arguments)

    monkeypatch.setattr(latency, "_answers", fail_later)
    outcome = in_process("benchmark", "latency", *TINY_REQUESTS, "output=bench")
    assert outcome.code == 2
    assert "a context of 64 tokens needs more memory than the GPU has" in outcome.err
    assert {row["context_length"] for row in rows_of(tmp_path / "bench")} == {32}


@pytest.mark.parametrize("word", ["rewards", "env", "train", "latency", "pretrain"])
def test_help_names_the_measurements(in_process: InProcess, word: str) -> None:
    outcome = in_process("benchmark", word, "--help")
    assert outcome.code == 0
    assert f"python -m refrag_rl.benchmark {word}" in outcome.out
    assert "\nseed: 0\n" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "given", "allowed"),
    [
        (("rewards", "repeats=0"), "repeats=0", "at least 1"),
        (("rewards", "dtypes=[]"), "dtypes=[]", "bfloat16"),
        (("rewards", "dtypes=[float16]"), "float16", "float32"),
        (("rewards", "decoder=x"), "decoder", "choices"),
        (("rewards", "model=llama"), "model=llama", "llama-2-7b-shape"),
        (("rewards", "model=tiny-shape"), "512 tokens", "model.decoder.vocab_size=8192"),
        (("env", "views=[]"), "views=[]", "sb3"),
        (("env", "views=[double]"), "double", "single, vector, sb3"),
        (("env", "episodes=0"), "episodes=0", "at least 1"),
        (("train", "agents=[]"), "agents=[]", "grpo"),
        (("train", "agents=[grpo,pppo]"), "agent=pppo", "did you mean ppo"),
        (("train", "agents=[recency]"), "recency", "grpo"),
        (("train", "overrides=['sed=1']"), "sed", "did you mean seed"),
        (("train", "agents=[grpo]", "overrides=['agent=ppo']"), "agent=ppo", "leave it out"),
        (("train", "overrides=['resume=run']"), "resume=run", "leave it out"),
        (("train", "target=nan"), "target=nan", "of at least 0"),
        (("train", "eval_every=0"), "eval_every=0", "1 or more"),
        (("latency", "model=llama"), "model=llama", "llama-2-7b-shape"),
        (("latency", "lengths=[100]"), "100", "multiples of every chunk size"),
        (("latency", "lengths=[]"), "lengths=[]", "1 or more"),
        (("latency", "chunk_sizes=[8,8]"), "chunk_sizes=[8, 8]", "different"),
        (("latency", "policy_rates=[40]"), "40", "below the largest chunk size, 32"),
        (("latency", "output_length=1"), "output_length=1", "2 or more"),
        (("latency", "cuda_graphs=true", "device=cpu"), "device=cpu", "cuda_graphs=false"),
        (("latency", "policy.features=[colour]"), "colour", "lexical"),
        (("latency", "policy.width=30", "model=tiny-shape"), "width=30", "a multiple of heads=4"),
        (("latency", "model.encoder.model_type=none"), "none", "RoBERTa"),
        (("pretrain", "length=1"), "length=1", "at least 2"),
        (("pretrain", "decoder.model_type=bert", "repeats=1"), "Bert", "causal"),
        (("pretrain", "decoder.model_type=no_such_model"), "no_such_model", "causal"),
        (("pretrain", "rates=[2]"), "rates", "choices"),
    ],
)
def test_mistakes(
    in_process: InProcess, arguments: tuple[str, ...], given: str, allowed: str, tmp_path: Path
) -> None:
    outcome = in_process("benchmark", *arguments)
    assert outcome.code == 2
    assert given in outcome.err
    assert allowed in outcome.err
    assert len(outcome.err.splitlines()) <= 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked_for", "key"), [(["pretrain"], "compile"), (["rewards"], "refrag.compile")]
)
def test_compiling_without_a_compiler_is_refused(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch, asked_for: list[str], key: str
) -> None:
    def nothing() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", nothing)
    outcome = in_process("benchmark", *asked_for, f"{key}=true")
    assert outcome.code == 2
    assert f"{key}=true: no C++ compiler was found" in outcome.err


def test_more_selections_than_a_window_has(in_process: InProcess, tiny: tuple[str, ...]) -> None:
    outcome = in_process("benchmark", *tiny, "rates=[4]", "group_size=9", "count=1")
    assert outcome.code == 2
    assert "group_size=9" in outcome.err
