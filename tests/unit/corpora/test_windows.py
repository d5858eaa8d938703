"""The three kinds of windows keep what they promise."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from refrag_rl.composition import build_windows
from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.mixed import MixedWindows
from refrag_rl.corpora.recall import RecallWindows
from refrag_rl.corpora.retrieval import PassageIndex
from refrag_rl.corpora.retrieved import RetrievedWindows
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import Window, WindowSource
from refrag_rl.errors import UserError
from tests.unit.corpora.conftest import make_documents

K = 8
KINDS = {
    "contiguous": (ContiguousWindows, {"context_length": 64, "prompt_length": 5}),
    "recall": (RecallWindows, {"context_length": 128, "passage_length": 32, "prompt_length": 6}),
    "retrieved": (RetrievedWindows, {"context_length": 128, "passage_length": 32}),
}


def make(kind: str, corpus: TokenizedCorpus, **keys: object) -> WindowSource:
    source, defaults = KINDS[kind]
    settings = {"output_length": 20, "count": 40, **defaults, **keys}
    return source(corpus, chunk_size=K, **settings)


def equal(left: Window, right: Window) -> bool:
    return left.key == right.key and all(
        np.array_equal(getattr(left, name), getattr(right, name))
        for name in ("context_ids", "prompt_ids", "output_ids", "chunk_mask", "planted")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_and_index_give_the_same_window(kind: str, corpus: TokenizedCorpus) -> None:
    first, second, other = (make(kind, corpus, seed=seed) for seed in (1, 1, 2))
    assert all(equal(first[index], second[index]) for index in (7, 3, 39))
    assert not all(equal(first[index], other[index]) for index in range(5))


@pytest.mark.parametrize("kind", KINDS)
def test_keys_name_windows(kind: str, corpus: TokenizedCorpus) -> None:
    source = make(kind, corpus)
    windows = [source[index] for index in range(len(source))]
    by_key = {window.key: window for window in windows}
    assert all(equal(by_key[window.key], window) for window in windows)
    assert len(by_key) > 30


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        *((kind, {}, {"prompt_position": "before"}) for kind in KINDS),
        ("retrieved", {"retriever": "weak", "pool": 20}, {"retriever": "weak", "pool": 60}),
        ("retrieved", {"retriever": "weak"}, {"retriever": "strong"}),
    ],
)
def test_windows_of_other_options_have_other_keys(
    kind, one, other, corpus: TokenizedCorpus
) -> None:
    first, second = (make(kind, corpus, **options) for options in (one, other))
    assert all(first[index].key != second[index].key for index in range(10))


@pytest.mark.parametrize("kind", KINDS)
def test_texts_belong_to_their_tokens(kind: str, corpus: TokenizedCorpus) -> None:
    for index in range(10):
        window = make(kind, corpus)[index]
        for ids, text in zip(window.context_ids, window.chunk_texts, strict=True):
            decoded = corpus.tokenizer.decode(ids)
            if "\ufffd" not in decoded:
                assert text == decoded
        assert len(window.output_ids) == 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [-1, 40])
def test_index_out_of_range_is_refused(kind: str, index: int, corpus: TokenizedCorpus) -> None:
    with pytest.raises(IndexError):
        make(kind, corpus)[index]


def test_contiguous_is_consecutive_tokens_of_one_document(corpus: TokenizedCorpus) -> None:
    documents = {document.id: document.token_ids for document in corpus}
    for prompt_length in (0, 5):
        source = make("contiguous", corpus, prompt_length=prompt_length)
        for index in range(10):
            window = source[index]
            whole = np.concatenate([window.context_tokens(), window.prompt_ids, window.output_ids])
            text = documents[window.document_id]
            places = np.lib.stride_tricks.sliding_window_view(text, len(whole))
            assert (places == whole).all(1).any()
            assert not window.planted.any()


def test_recall_output_continues_the_prompt_within_one_passage(corpus: TokenizedCorpus) -> None:
    source = make("recall", corpus)
    starts = set()
    for index in range(len(source)):
        window = source[index]
        (chunks,) = window.planted.nonzero()
        assert len(set(window.passage[chunks])) == 1
        passage = window.context_ids[window.passage == window.passage[chunks[0]]].reshape(-1)
        copied = np.concatenate([window.prompt_ids, window.output_ids])
        places = np.lib.stride_tricks.sliding_window_view(passage, len(copied))
        (found,) = (places == copied).all(1).nonzero()
        assert len(found)
        first = int(found[0]) + len(window.prompt_ids)
        offset = int(np.flatnonzero(window.passage == window.passage[chunks[0]])[0])
        expected = range(offset + first // K, offset + (first + 19) // K + 1)
        assert chunks.tolist() == list(expected)
        starts.add(int(found[0]))
    assert len(starts) > 3


def test_retrieved_never_overlaps_prompt_and_output(corpus: TokenizedCorpus) -> None:
    for retriever in ("strong", "weak"):
        source = make("retrieved", corpus, retriever=retriever, pool=12, count=60)
        for index in range(60):
            window = source[index]
            own = np.concatenate([window.prompt_ids, window.output_ids])
            document = next(d for d in corpus if d.id == window.document_id)
            places = np.lib.stride_tricks.sliding_window_view(document.token_ids, len(own))
            starts = (places == own).all(1).nonzero()[0]
            assert len(starts)
            for start in starts[:1]:
                inside = {
                    tuple(document.token_ids[block : block + 32])
                    for block in range(0, len(document) - 31, 32)
                    if block < start + len(own) and block + 32 > start
                }
                for passage in range(window.passage.max() + 1):
                    ids = window.context_ids[window.passage == passage].reshape(-1)
                    assert tuple(ids) not in inside


def test_retrieved_strong_takes_the_best_and_ranked_sorts_them(corpus: TokenizedCorpus) -> None:
    strong = make("retrieved", corpus, order="ranked")
    weak = make("retrieved", corpus, retriever="weak", pool=40, order="ranked")
    for index in range(10):
        best, some = strong[index].passage_scores, weak[index].passage_scores
        assert all(a >= b for a, b in pairwise(best))
        assert all(a >= b for a, b in pairwise(some))
        assert best.sum() >= some.sum()
    shuffled = make("retrieved", corpus)
    assert any(
        any(a < b for a, b in pairwise(shuffled[index].passage_scores)) for index in range(10)
    )


def test_retrieved_pads_where_the_corpus_has_too_few_passages(corpus: TokenizedCorpus) -> None:
    small = corpus.of_domain("left")
    lengths = sum(len(document) // 32 for document in small)
    size = 32 * (lengths + 4)
    window = make("retrieved", small, context_length=size, pool=10_000)[0]
    assert 0 < window.chunk_mask.sum() < window.num_chunks
    used = int(window.chunk_mask.sum())
    assert window.chunk_mask[:used].all() and not window.chunk_mask[used:].any()
    assert (window.context_ids[used:] == 0).all() and (window.passage[used:] == -1).all()


def test_index_finds_a_passage_by_its_own_rare_tokens(corpus: TokenizedCorpus) -> None:
    index = PassageIndex(corpus, 32)
    hits = 0
    for number in range(0, len(index), 7):
        passage = index.passage(number)
        found, score = index.search(passage.ids(), 1)[0]
        hits += found == passage
        assert score >= 0
    assert hits >= 0.9 * len(range(0, len(index), 7))


PARTS = [{"kind": kind, "output_length": 20} for kind in ("contiguous", "recall")]


def mixed(corpus: TokenizedCorpus, **keys: object) -> MixedWindows:
    passages = {"passage_length": 32, "prompt_length": 6}
    parts = [PARTS[0], PARTS[1] | passages]
    options = {"context_length": 64, "count": 5, "parts": parts, **keys}
    return MixedWindows(corpus, chunk_size=K, **options)


@pytest.mark.parametrize(("own_places", "second"), [(True, 1003), (False, 3)])
def test_mixed_windows_are_those_of_their_parts_in_turn(
    own_places: bool, second: int, corpus: TokenizedCorpus
) -> None:
    source = mixed(corpus, seed=3, own_places=own_places)
    assert len(source) == 5
    alone = make("contiguous", corpus, context_length=64, prompt_length=0, seed=3)
    assert all(equal(source[2 * turn], alone[turn]) for turn in range(3))
    recall = make("recall", corpus, context_length=64, seed=second)
    assert all(equal(source[2 * turn + 1], recall[turn]) for turn in range(2))


def test_parts_of_one_kind_have_places_of_their_own(corpus: TokenizedCorpus) -> None:
    options = {"context_length": 64, "count": 20, "parts": [PARTS[0], PARTS[0]]}
    same, own = (
        {window.key for window in MixedWindows(corpus, chunk_size=K, own_places=own, **options)}
        for own in (False, True)
    )
    assert len(same) <= 10 < len(own)
    # Runs from before the option go on with the windows they have.
    assert same == {window.key for window in MixedWindows(corpus, chunk_size=K, **options)}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "empty"),
        ([{"kind": "book"}], "kind=book"),
        ([{"kind": "recall", "seed": 1}], "leave it out"),
        ([{"kind": "recall", "pool": 1}], "pool"),
        (5, "parts=5"),
        ([None], "give kinds"),
        ([{"kind": ["recall"]}], "choose one of"),
    ],
)
def test_wrong_parts_are_user_errors(
    parts: list[dict[str, object]], message: str, corpus: TokenizedCorpus
) -> None:
    with pytest.raises(UserError, match=message):
        mixed(corpus, parts=parts)


BAD = {
    "contiguous": [
        {"context_length": 60},
        {"context_length": 0},
        {"output_length": 0},
        {"prompt_length": -1},
        {"prompt_position": "middle"},
        {"context_length": 80_000},
        {"output_length": 2**63},
    ],
    "recall": [{"passage_length": 24, "context_length": 96}, {"prompt_length": 0}],
    "retrieved": [
        {"prompt_length": 0},
        {"retriever": "best"},
        {"order": "random"},
        {"pool": 1},
        {"passage_length": 12},
        {"context_length": 40},
    ],
}


@pytest.mark.parametrize(
    ("kind", "keys"), [(kind, keys) for kind, cases in BAD.items() for keys in cases]
)
def test_bad_options_are_said_in_two_lines(kind: str, keys: dict, corpus: TokenizedCorpus) -> None:
    with pytest.raises(UserError) as caught:
        make(kind, corpus, **keys)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("reads_texts", [False, True])
def test_windows_that_nobody_looks_at_have_texts_for_an_encoder_that_reads_them(
    reads_texts: bool, corpus: TokenizedCorpus
) -> None:
    documents = make_documents()
    refrag: Any = SimpleNamespace(tokenizer=corpus.tokenizer, chunk_size=K, reads_texts=reads_texts)
    passages = {"passage_length": 32, "prompt_length": 6}
    parts = [PARTS[0], PARTS[1] | passages]
    section = OmegaConf.create(
        {
            "_target_": "refrag_rl.corpora.mixed.MixedWindows",
            "context_length": 64,
            "parts": parts,
        }
    )
    seen, unseen = (
        build_windows(
            section,
            documents,
            "all",
            refrag,
            count=4,
            seed=0,
            each_domain=False,
            with_texts=with_texts,
        )
        for with_texts in (True, False)
    )
    for index in range(4):
        assert equal(seen[index], unseen[index])
        assert any(seen[index].chunk_texts)
        assert any(unseen[index].chunk_texts) == reads_texts
