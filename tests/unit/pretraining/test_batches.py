"""Training batches: functions of seed and step, of one shape, with the chunks they promise."""

import numpy as np
import pytest
import torch

from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.recall import RecallWindows
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.pretraining.batch import Batch, choose_chunks, positions, split
from refrag_rl.pretraining.batches import (
    INDEFINITE,
    BatchSize,
    MixtureBatches,
    Part,
    ReconstructionBatches,
    Sizes,
)
from refrag_rl.pretraining.curriculum import Curriculum
from tests.tiny_models import byte_level_tokenizer

K = 4


@pytest.fixture(scope="module")
def corpus() -> TokenizedCorpus:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 99, 400)) for _ in range(4)]
    documents = [Document(f"d{number}", "x", text) for number, text in enumerate(texts)]
    return TokenizedCorpus(documents, byte_level_tokenizer())


@pytest.fixture
def mixture(corpus: TokenizedCorpus) -> MixtureBatches:
    keys = {"chunk_size": K, "count": INDEFINITE, "with_texts": False, "context_length": 32}
    contiguous = ContiguousWindows(corpus, prompt_length=3, output_length=9, **keys)
    recall = RecallWindows(corpus, passage_length=16, prompt_length=4, output_length=8, **keys)
    return MixtureBatches(
        [
            Part("contiguous", contiguous, 1.0, "mixed", 0.5),
            Part("recall", recall, 1.0, "all", 0.0),
            Part("copy", contiguous, 1.0, "none", 0.0, reconstructs=True),
        ],
        size=BatchSize(tokens=200),
        seed=3,
        expanded_fraction=(0.25, 0.75),
    )


def same(left: Batch, right: Batch) -> bool:
    return left.name == right.name and all(
        torch.equal(getattr(left, name), getattr(right, name))
        for name in ("context_ids", "expanded", "prompt_ids", "output_ids")
    )


def test_batch_is_a_function_of_its_step(mixture: MixtureBatches) -> None:
    again = [mixture(step, 0.0) for step in range(12)]
    assert all(same(mixture(step, 0.9), again[step]) for step in reversed(range(12)))
    assert not same(again[0], again[1])


def test_batches_keep_the_budget_of_tokens_and_need_no_padding(mixture: MixtureBatches) -> None:
    names = set()
    for step in range(40):
        batch = mixture(step, 0.0)
        names.add(batch.name.split("-")[0])
        assert positions(batch) <= 200
        counts = batch.expanded.sum(1)
        assert (counts == counts[0]).all()
        chunks = batch.expanded.shape[1]
        if batch.name == "recall":
            assert counts[0] == chunks
        elif batch.name == "contiguous":
            assert 0.25 * chunks <= counts[0] <= 0.75 * chunks
        else:
            assert counts[0] == 0
            assert torch.equal(batch.output_ids, batch.context_ids.flatten(1))
    assert names == {"contiguous", "recall", "reconstruction"}


def test_reconstruction_follows_the_curriculum(corpus: TokenizedCorpus) -> None:
    curriculum = Curriculum(16)
    sources = [
        ContiguousWindows(
            corpus, chunk_size=K, context_length=size * K, output_length=1, count=INDEFINITE
        )
        for size in curriculum.sizes
    ]
    batches = ReconstructionBatches(Sizes(sources, curriculum), size=BatchSize(tokens=300), seed=0)
    early = np.mean([batches(step, 0.0).context_ids.shape[1] for step in range(60)])
    late = np.mean([batches(step, 0.99).context_ids.shape[1] for step in range(60)])
    assert early < late


@pytest.mark.parametrize("runs", [0.0, 0.5, 1.0])
def test_chosen_chunks_are_as_many_as_asked_and_neighbours_as_often(runs: float) -> None:
    rng = np.random.default_rng(0)
    neighbours = []
    for _ in range(300):
        chosen = choose_chunks(32, 6, rng, runs)
        assert chosen.sum() == 6
        neighbours.append(int((np.diff(np.flatnonzero(chosen)) == 1).sum()))
    assert choose_chunks(5, 5, rng, runs).all() and not choose_chunks(5, 0, rng, runs).any()
    # Of 6 chunks of 32 at random 6 * 5 / 32 pairs are neighbours.
    assert np.mean(neighbours) == pytest.approx(0.94 + 3 * runs, abs=0.35)


def test_contiguous_parts_grow_with_the_curriculum(corpus: TokenizedCorpus) -> None:
    curriculum = Curriculum(16)
    sources = [
        ContiguousWindows(
            corpus, chunk_size=K, context_length=size * K, output_length=8, count=INDEFINITE
        )
        for size in curriculum.sizes
    ]
    part = Part("c", sources[-1], 1.0, "mixed", 0.0, sizes=Sizes(sources, curriculum))
    batches = MixtureBatches([part], size=BatchSize(windows=5), seed=0)
    early, late = ([batches(step, at) for step in range(60)] for at in (0.0, 0.99))
    chunks = [np.mean([batch.context_ids.shape[1] for batch in some]) for some in (early, late)]
    assert chunks[0] < 4 < 8 < chunks[1]
    assert {len(batch.output_ids) for batch in early + late} == {5}
    assert {batch.output_ids.shape[1] for batch in early + late} == {8}


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_parts_of_a_batch_are_its_rows_and_share_its_weight(
    mixture: MixtureBatches, count: int
) -> None:
    for step in range(6):
        batch = mixture(step, 0.0)
        parts = split(batch, count)
        assert len(parts) == count
        assert sum(share for _, share in parts) == pytest.approx(1)
        used = [part for part, share in parts if share]
        assert torch.equal(torch.cat([part.context_ids for part in used]), batch.context_ids)
        assert sum((part.chunk_texts for part in used), ()) == batch.chunk_texts
