"""The pre-training command, end to end on a tiny model: stages, resumption, the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refrag_rl.modeling.checkpoint import load_refrag
from tests.cli.running import InProcess

TINY = (
    "data.docs=false",
    "tokenizer.vocabulary_size=300",
    "model.chunk_size=8",
    "model.decoder.hidden_size=32",
    "model.decoder.intermediate_size=32",
    "model.decoder.num_hidden_layers=2",
    "model.decoder.layer_types=[conv,full_attention]",
    "model.decoder.num_attention_heads=2",
    "model.decoder.num_key_value_heads=2",
    "model.encoder.hidden_size=32",
    "model.encoder.intermediate_size=32",
    "model.encoder.num_hidden_layers=1",
    "model.encoder.num_attention_heads=2",
    "language_modelling.steps=3",
    "language_modelling.batch_tokens=400",
    "language_modelling.parts=[{kind: contiguous, weight: 1, expansion: all, context_weight: 1.0,"
    " windows: {context_length: 64, output_length: 16}}]",
    "reconstruction.steps=3",
    "reconstruction.batch_tokens=400",
    "reconstruction.max_chunks=4",
    "continual.steps=3",
    "continual.batch_tokens=400",
    "continual.parts=[{kind: recall, weight: 1, windows: {context_length: 64, passage_length: 32,"
    " prompt_length: 4, output_length: 16}},"
    " {kind: reconstruction, weight: 1, expansion: none, windows: {context_length: 16}}]",
    "save_every=2",
    "log_every=1",
    "validation_windows=2",
)


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, ...]:
    words = " ".join(f"word{number % 37}" for number in range(1500))
    (tmp_path / "train.txt").write_text(words)
    (tmp_path / "held_out.txt").write_text(words[100:])
    return (
        f"data.files=[{tmp_path / 'train.txt'}]",
        f"data.validation_files=[{tmp_path / 'held_out.txt'}]",
    )


@pytest.mark.slow
def test_pretraining_leaves_a_checkpoint_with_its_card(
    in_process: InProcess, data: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = (*TINY, *data, "output=run")
    first = in_process("pretrain", *arguments)
    assert first.code == 0, first.err
    loaded = load_refrag(tmp_path / "run" / "model")
    assert loaded.model.config.chunk_size == 8
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "stage reconstruction" in card and "python -m refrag_rl.pretrain" in card
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert all(value > 0 for value in figures.values())
    weights = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    again = in_process("pretrain", *arguments)
    assert again.code == 0, again.err
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == weights
    other = in_process("pretrain", *arguments, "seed=1")
    assert other.code == 2
    assert "another config" in other.err


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("data.files=[missing.txt]", "no such file"),
        ("data.files=[]", "no train documents"),
        ("nosuch=1", "nosuch"),
        ("continual.steps=many", "continual.steps"),
    ],
)
def test_mistakes_are_said(
    in_process: InProcess, data: tuple[str, ...], argument: str, expected: str
) -> None:
    outcome = in_process("pretrain", *TINY, *data, argument, "output=run")
    assert outcome.code == 2
    assert expected in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 3
