"""The stages on a loaded pair of Hugging Face, the encoder with a tokenizer of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM

from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.checkpoint import LoadedRefrag, load_refrag, save_refrag
from refrag_rl.modeling.compiling import compile_body
from refrag_rl.pretraining.assembly import build_model, decoder_tokenizer
from refrag_rl.pretraining.batch import reconstruction
from refrag_rl.pretraining.loss import embed_compressed
from refrag_rl.pretraining.mixture import batch_size
from refrag_rl.pretraining.processes import build_accelerator
from refrag_rl.pretraining.progress import Silent
from refrag_rl.pretraining.recipe import Recipe
from refrag_rl.pretraining.settings import Expansion, PartSection, PretrainConfig, StageSection
from refrag_rl.reward import RewardModel
from refrag_rl.schema import register
from tests.tiny_models import (
    MULTI_BYTE_TEXT,
    byte_level_tokenizer,
    save_tiny_pair,
    tiny_decoder,
    tiny_encoder,
    word_piece_tokenizer,
)

PARTS = (
    "[{kind: contiguous, weight: 1, windows: {context_length: 16, output_length: 8}},"
    " {kind: reconstruction, weight: 1, expansion: none, windows: {context_length: 8}}]"
)
SMALL = (
    "data.docs=false",
    "model.chunk_size=4",
    "model.induction_start=false",
    "model.chunk_reading_start=false",
    "language_modelling=null",
    "reconstruction.steps=3",
    "reconstruction.batch_tokens=100",
    "reconstruction.max_chunks=4",
    "continual.steps=6",
    "continual.batch_tokens=100",
    f"continual.parts={PARTS}",
    "validation_windows=2",
    "output=run",
)


def settings(*overrides: str) -> PretrainConfig:
    register()
    with initialize_config_module("refrag_rl.conf", version_base="1.3"):
        config = compose("pretrain", overrides=[*SMALL, *overrides])
    value: Any = OmegaConf.to_object(config)
    return value


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, ...]:
    """Save a Llama decoder and a BERT encoder, each with a tokenizer of its own."""
    encoder, decoder = save_tiny_pair(tmp_path, "llama", "bert")
    word_piece_tokenizer().save_pretrained(encoder)
    byte_level_tokenizer().save_pretrained(decoder)
    return (f"model.encoder={encoder}", f"model.decoder={decoder}")


def corpus_of(tokenizer: Any) -> TokenizedCorpus:
    rng = np.random.default_rng(0)
    words = MULTI_BYTE_TEXT.split()
    texts = [" ".join(rng.choice(words, 400)) for _ in range(2)]
    return TokenizedCorpus([Document(f"d{n}", "x", t) for n, t in enumerate(texts)], tokenizer)


def run(config: PretrainConfig, folder: Path) -> tuple[LoadedRefrag, RefragForCausalLM]:
    """Run the stages; return the model, and how it was before them."""
    tokenizer = decoder_tokenizer(config, [], folder)
    torch.manual_seed(config.seed)
    start = build_model(config.model, tokenizer).model
    corpus = corpus_of(tokenizer)
    recipe = Recipe(
        config,
        tokenizer,
        train=corpus,
        validation=corpus,
        folder=folder,
        accelerator=build_accelerator(bfloat16=False),
        writer=Silent(),
        show=Silent(),
    )
    recipe.run()
    return recipe.refrag, start


def changed(one: torch.nn.Module, other: torch.nn.Module) -> set[str]:
    theirs = other.state_dict()
    return {name for name, t in one.state_dict().items() if not torch.equal(t, theirs[name])}


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_encoder_with_its_own_tokenizer_trains_loads_and_scores(
    tmp_path: Path, pair: tuple[str, ...], pooling: str
) -> None:
    config = settings(*pair, f"model.encoder_pooling={pooling}")
    refrag, start = run(config, tmp_path / "run")
    assert not refrag.model.config.shared_tokenizer
    names = changed(refrag.model, start)
    assert any(name.startswith("encoder.encoder.layer.0") for name in names)
    assert any(name.startswith("projector") for name in names)
    assert any(name.startswith("decoder") for name in names)
    save_refrag(tmp_path / "model", refrag)
    loaded = load_refrag(tmp_path / "model")
    window = ContiguousWindows(
        corpus_of(loaded.tokenizer), chunk_size=4, context_length=16, output_length=8
    )[0]
    expanded = np.array([[False, True, False, False]])
    scores = [
        RewardModel(one.model, one.chunk_tokenizer).log_perplexity([window], expanded)
        for one in (refrag, loaded)
    ]
    assert np.isfinite(scores[0]).all()
    assert np.allclose(scores[0], scores[1], atol=1e-5)


def test_chunks_are_read_as_slices_of_the_text(tmp_path: Path, pair: tuple[str, ...]) -> None:
    config = settings(*pair)
    tokenizer = decoder_tokenizer(config, [], tmp_path)
    refrag = build_model(config.model, tokenizer)
    source = ContiguousWindows(
        corpus_of(tokenizer), chunk_size=4, context_length=16, output_length=1
    )
    windows = [source[0], source[1]]
    with torch.no_grad():
        read = embed_compressed(refrag.model, reconstruction(windows), refrag.chunk_tokenizer)
        own = refrag.chunk_tokenizer.encoder_tokenizer
        for row, window in enumerate(windows):
            for chunk, text in enumerate(window.chunk_texts):
                inputs = own(text, return_tensors="pt")
                alone = refrag.model.encode_chunks(inputs.input_ids, inputs.attention_mask)
                assert torch.allclose(read[row, chunk], alone[0], atol=1e-5)


def test_loaded_encoder_keeps_its_weights_until_it_is_trained(
    tmp_path: Path, pair: tuple[str, ...]
) -> None:
    config = settings(*pair, "reconstruction.steps=0", "continual.steps=0")
    refrag, _ = run(config, tmp_path / "run")
    assert not changed(refrag.model.encoder, tiny_encoder("bert"))


def test_lora_run_resumes_and_leaves_a_plain_model(tmp_path: Path, pair: tuple[str, ...]) -> None:
    lora = (*pair, "model.lora.rank=2", "model.lora.dropout=0.1")
    refrag, start = run(settings(*lora), tmp_path / "run")
    names = changed(refrag.model.decoder, start.decoder)
    assert names and all("_proj" in name for name in names)
    assert set(refrag.model.state_dict()) == set(start.state_dict())
    again, _ = run(settings(*lora), tmp_path / "run")
    assert not changed(refrag.model, again.model)
    save_refrag(tmp_path / "model", refrag)
    assert not changed(load_refrag(tmp_path / "model").model, refrag.model)


def test_a_checkpoint_is_where_another_chunk_size_starts(
    tmp_path: Path, pair: tuple[str, ...]
) -> None:
    first, _ = run(settings(*pair), tmp_path / "first")
    save_refrag(tmp_path / "model", first)
    overrides = (f"model.refrag={tmp_path / 'model'}", "model.chunk_size=8")
    second, start = run(settings(*overrides), tmp_path / "second")
    assert not changed(start, first.model)
    assert second.model.config.chunk_size == 8
    assert changed(second.model, start)
    with pytest.raises(UserError, match="chunk_reading_start=false"):
        run(settings(*overrides, "model.chunk_reading_start=true"), tmp_path / "third")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.refrag=nosuch/folder/at/all", "model.refrag"),
        ("model.encoder=nosuch/folder/at/all", "model.encoder"),
        ("model.decoder=nosuch/folder/at/all", "model.decoder"),
        ("model.induction_start=true", "induction_start=false"),
    ],
)
def test_parts_that_do_not_fit_are_said(
    tmp_path: Path, pair: tuple[str, ...], override: str, expected: str
) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        run(settings(*pair, override), tmp_path / "run")
    assert len(str(caught.value).splitlines()) <= 2


def part(expansion: str = "none", distillation: float = 0.0) -> str:
    """Return the override of a continual stage of one part, of 40 chunks and 8 tokens."""
    given = f"expansion: {expansion}, distillation: {distillation}"
    windows = "{context_length: 160, output_length: 8}"
    return f"continual.parts=[{{kind: contiguous, weight: 1, {given}, windows: {windows}}}]"


def gpt2_of(positions: int, folder: Path) -> tuple[str, ...]:
    """Save a GPT-2 decoder that reads so many positions, and an encoder that reads its ids."""
    models = {
        "decoder": tiny_decoder("gpt2", n_positions=positions),
        "encoder": tiny_encoder("bert"),
    }
    for part, model in models.items():
        model.save_pretrained(folder / part)
        byte_level_tokenizer().save_pretrained(folder / part)
    return tuple(f"model.{part}={folder / part}" for part in models)


@pytest.mark.parametrize(
    ("overrides", "positions"),
    [
        ((part(distillation=0.5),), 1 + 160 + 8),
        ((part("all"),), 1 + 160 + 8),
        (("reconstruction.max_chunks=32",), 1 + 32 * 5),
    ],
)
def test_windows_longer_than_the_decoder_reads_are_refused_before_any_training(
    tmp_path: Path, overrides: tuple[str, ...], positions: int
) -> None:
    given = (*gpt2_of(positions - 1, tmp_path), *overrides)
    with pytest.raises(UserError, match=f"takes {positions} positions") as caught:
        run(settings(*given), tmp_path / "run")
    assert len(str(caught.value).splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_windows_that_are_read_compressed_may_be_longer(tmp_path: Path) -> None:
    given = (*gpt2_of(1 + 40 + 8, tmp_path), part())
    run(settings(*given), tmp_path / "run")


def test_a_stage_of_no_steps_trains_no_encoder(tmp_path: Path) -> None:
    config = settings("reconstruction.steps=0", "continual.steps=0")
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    config.model.decoder = {"model_type": "llama", **small}
    config.model.encoder = {"model_type": "roberta", **small, "max_position_embeddings": 40}
    compressed = PartSection(kind="contiguous", weight=1.0, expansion=Expansion.none)
    config.language_modelling = StageSection(steps=0, batch_tokens=100, parts=[compressed])
    byte_level_tokenizer().save_pretrained(tmp_path / "run")
    model = run(config, tmp_path / "run")[0].model
    ours, theirs = (
        part.get_input_embeddings().weight.detach() for part in (model.encoder, model.decoder)
    )
    assert torch.allclose(ours, theirs * (ours.std() / theirs.std()), atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "windows", "accumulate"), [(10, 10, 1), (None, None, 1), (0, None, 1), (9, None, 0)]
)
def test_sizes_of_batches_are_checked(
    tokens: int | None, windows: int | None, accumulate: int
) -> None:
    stage = StageSection(batch_tokens=tokens, batch_windows=windows, accumulate=accumulate)
    with pytest.raises(UserError, match="batch_windows"):
        batch_size(stage)


def test_both_bodies_are_compiled_where_it_is_asked_for(
    tmp_path: Path, pair: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr("refrag_rl.pretraining.recipe.compile_body", compiled.append)
    run(settings(*pair), tmp_path / "plain")
    assert not compiled
    model = run(settings(*pair, "compile=true"), tmp_path / "compiled")[0].model
    assert compiled == [model.encoder, model.decoder.base_model]


@pytest.mark.slow
# PyTorch warns of its own code and of what it finds in that of transformers.
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_body_reads_alike_and_keeps_its_names(pair: tuple[str, ...]) -> None:
    decoder = AutoModelForCausalLM.from_pretrained(pair[1].removeprefix("model.decoder=")).eval()
    names, ids = list(decoder.state_dict()), torch.arange(12).view(2, 6)
    with torch.no_grad():
        plain = decoder(ids).logits
        compile_body(decoder.base_model)
        torch.testing.assert_close(decoder(ids).logits, plain, rtol=1e-4, atol=1e-5)
    assert list(decoder.state_dict()) == names
