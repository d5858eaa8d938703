"""A tiny random REFRAG on disk, tiny corpora, and the commands as a user runs them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHUNK_SIZE = 8

Command = Callable[..., subprocess.CompletedProcess[str]]


def paragraphs(seed: int, words: int) -> str:
    """Return text of a small vocabulary, the same for the same seed."""
    rng = random.Random(seed)
    vocabulary = [
        f"{a}{b}" for a in ("ba", "do", "mi", "su", "re") for b in ("ka", "lo", "ne", "tu")
    ]
    return " ".join(
        rng.choice(vocabulary) + ("." if rng.random() < 0.1 else "") for _ in range(words)
    )


def save_tiny_checkpoint(
    folder: Path,
    *,
    width: int = 16,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
    positions: int = 512,
) -> Path:
    """Write a checkpoint with random weights: byte-level BPE, Llama decoder, RoBERTa encoder."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
        RobertaConfig,
        RobertaModel,
    )

    from refrag_rl.modeling import RefragForCausalLM

    specials = ["<pad>", "<s>", "</s>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        [paragraphs(seed, 400)], vocab_size=300, special_tokens=specials, show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = RobertaModel(
            RobertaConfig(
                vocab_size=300,
                hidden_size=width,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=32,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
        decoder = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=300,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=positions,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
        model = RefragForCausalLM.from_encoder_decoder(
            encoder, decoder, chunk_size, shared_tokenizer=True
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a random REFRAG with k = 8 and embeddings of width 16."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("tiny-refrag"))


@pytest.fixture(scope="session")
def wider_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same with embeddings of width 24."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("wider-refrag"), width=24)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a JSONL file of 120 documents in each of the domains ``notes`` and ``tales``."""
    path = tmp_path_factory.mktemp("corpus") / "tiny.jsonl"
    rows = (
        {"id": f"{domain}-{number}", "domain": domain, "text": paragraphs(seed + number, 120)}
        for domain, seed in (("notes", 0), ("tales", 1000))
        for number in range(120)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Return what runs ``python -m refrag_rl.<name>`` in an empty folder."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment.pop("HYDRA_FULL_ERROR", None)
        return subprocess.run(
            [sys.executable, "-m", f"refrag_rl.{name}", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
