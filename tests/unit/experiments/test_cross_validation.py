import importlib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from refrag_rl.agents.gains import Gains
from refrag_rl.observation import CHUNK_FEATURES
from refrag_rl.policies.pointer import PointerConfig

FOLDER = Path(__file__).resolve().parents[3] / "experiments" / "selection"
COUNT, CHUNKS, MEASURED = 160, 8, 7
AGENT = OmegaConf.create({"gain_scale": 0.05, "variance": "constant", "max_grad_norm": 1.0})
OPTIONS = Namespace(steps=80, batch=32, seeds=[0])


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("cross_validation")


@pytest.fixture
def gains(script):
    return importlib.import_module("recorded_gains")


@pytest.fixture
def recorded(gains):
    """Return gains of 0.05 nats times the feature ``lexical``, and noise; two of each document."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(COUNT, CHUNKS, len(CHUNK_FEATURES))).astype(np.float32)
    lexical = CHUNK_FEATURES.index("lexical")
    rows = []
    for row in range(COUNT):
        chunks = rng.permutation(CHUNKS)[:MEASURED]
        values = 0.05 * features[row, chunks, lexical] + rng.normal(0, 0.01, MEASURED)
        nothing, of_row = np.zeros((1, CHUNKS), dtype=bool), np.zeros(MEASURED, dtype=np.int64)
        measured = Gains(np.array([row]), np.array([2]), nothing, of_row, chunks, values, 0)
        domain = "books" if row < COUNT // 4 else "docs"
        rows.append(gains.Measured(measured, "recall", domain, f"{row // 2}"))
    return gains.Recorded(
        rows,
        {
            "features": features,
            "chunk_mask": np.ones((COUNT, CHUNKS), dtype=np.int8),
            "chunk_embeddings": np.zeros((COUNT, CHUNKS, 4), dtype=np.float32),
            "prompt_embedding": np.zeros((COUNT, 4), dtype=np.float32),
        },
    )


def test_folds_hold_each_row_once_and_no_document_in_two(script, recorded) -> None:
    for left_out, count in (("documents", 4), ("domains", 2)):
        held_out = np.stack(list(script.folds(recorded, left_out)))
        assert len(held_out) == count
        assert (held_out.sum(axis=0) == 1).all()
    fold = np.stack(list(script.folds(recorded, "documents"))).argmax(axis=0)
    assert (fold[::2] == fold[1::2]).all()
    assert len(set(fold)) == 4


def test_what_hangs_on_a_feature_is_predicted_in_documents_that_were_not_seen(
    script, recorded
) -> None:
    config = PointerConfig(
        embedding_size=4,
        features=("lexical",),
        width=16,
        reads_embeddings=False,
        prompt_token=False,
    )
    for left_out in ("documents", "domains"):
        predicted = script.validate(recorded, config, AGENT, left_out, 0, OPTIONS)
        assert sorted(predicted) == list(range(COUNT))
        figures = script.by_kind(recorded, predicted, "all")["recall"]
        assert figures.correlation > 0.8
        assert figures.windows == COUNT
    by_rule = script.by_kind(recorded, script.of_heuristic(recorded, "lexical"), "docs")["recall"]
    assert by_rule.correlation > 0.9
    assert by_rule.windows == COUNT * 3 // 4
    assert (
        abs(script.by_kind(recorded, script.of_heuristic(recorded, "random"), "all")["recall"].gain)
        < 0.01
    )


def test_the_gain_is_of_the_chunks_predicted_highest(script) -> None:
    measured = [np.array([0.0, 3.0, 0.0, 1.0])] * 2
    found = script.figures_of([np.array([0.1, 0.9, 0.2, 0.3])] * 2, measured, ["a", "b"])
    assert found.gain == pytest.approx(2.0 - 1.0)
    assert found.standard_error == 0
    assert script.figures_of(measured, measured, ["a", "b"]).correlation == pytest.approx(1)
    assert script.figures_of([np.zeros(4)] * 2, measured, ["a", "b"]).correlation == 0


def test_the_standard_error_is_that_of_documents(script) -> None:
    first = np.array([1.0, 0.0, 0.0, 0.0])
    guess, measured = [first] * 8, [first * (row < 4) for row in range(8)]
    gains = script.figures_of(guess, measured, ["a"] * 4 + ["b"] * 4)
    # Two documents whose means lie half their distance from the mean.
    half = (first[:2].mean() - first.mean()) / 2
    assert gains.standard_error == pytest.approx(half / np.sqrt(2))
    apart = script.figures_of(guess, measured, [str(row) for row in range(8)])
    assert apart.standard_error == pytest.approx(half / np.sqrt(8))


def test_kinds_are_those_of_the_parts_in_turn(gains) -> None:
    windows = OmegaConf.create(
        {
            "parts": [
                {"kind": "contiguous", "prompt_length": 0},
                {"kind": "contiguous", "prompt_length": 64},
                {"kind": "retrieved", "retriever": "weak"},
                {"kind": "recall", "prompt_length": 16},
            ]
        }
    )
    kinds = [gains.part_of(windows, index) for index in range(5)]
    assert kinds == ["contiguous", "q = 64", "weak", "recall", "contiguous"]
    target = "refrag_rl.corpora.retrieved.RetrievedWindows"
    assert gains.part_of(OmegaConf.create({"_target_": target}), 3) == "strong"


@pytest.fixture
def agent():
    path = Path(__file__).resolve().parents[3] / "refrag_rl" / "conf" / "agent" / "regression.yaml"
    changes = {"policy": {"features": ["lexical"], "width": 16}, "windows_per_update": 8}
    return OmegaConf.merge(OmegaConf.load(path), changes)


def test_predictions_get_better_with_the_updates_of_a_training(script, recorded, agent) -> None:
    speed = importlib.import_module("learning_speed")
    found = speed.measure(recorded, agent, updates=14, points=[1, 14], seed=0)
    first, last = found[1]["recall"], found[14]["recall"]
    assert last.correlation > first.correlation + 0.1
    assert last.gain > first.gain
    assert last.windows == COUNT


def test_more_updates_than_there_are_gains_for_are_refused(script, recorded, agent) -> None:
    speed = importlib.import_module("learning_speed")
    with pytest.raises(SystemExit, match="give more runs"):
        speed.measure(recorded, agent, updates=20, points=[20], seed=0)
