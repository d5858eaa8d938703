"""Tiny random models, tokenizers and windows, real in every part but their size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from refrag_rl.corpora.windows import Window
from refrag_rl.modeling import RefragForCausalLM

VOCABULARY = 320
CHUNK_SIZE = 4
MULTI_BYTE_TEXT = (
    "The cafe\u0301 in \u6771\u4eac serves \u62b9\u8336 \U0001f375 and na\u00efve "
    "\U0001f469\u200d\U0001f52c researchers \u2014 \u0928\u092e\u0938\u094d\u0924\u0947, they say, "
    "a\u0308 plain tea \U0001f600\U0001f600 at noon. "
)
"""Combining accents, CJK, Devanagari, an emoji of three code points."""

_ROTARY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_DECODERS: dict[str, dict[str, object]] = {
    "llama": _ROTARY,
    "qwen2": {**_ROTARY, "bos_token_id": None, "tie_word_embeddings": True},
    "mistral": {**_ROTARY, "sliding_window": 8},
    "lfm2": {
        **_ROTARY,
        "layer_types": ["conv", "full_attention"],
        "block_auto_adjust_ff_dim": False,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gemma2": {**_ROTARY, "head_dim": 8, "final_logit_softcapping": 2.0},
    "cohere": _ROTARY,
    "granite": {**_ROTARY, "logits_scaling": 3.0},
}
_ENCODER = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}

DECODERS = ("llama", "gpt2", "qwen2", "mistral", "lfm2")
"""Decoders whose logits are one linear layer."""
DECODERS_WITH_MORE_HEAD = ("gemma2", "cohere", "granite")
"""Decoders that cap or scale their logits."""
ENCODERS = ("roberta", "bert")


def tiny_decoder(family: str, seed: int = 0, **options: object) -> PreTrainedModel:
    """Make a random causal language model with weights large enough for its logits to differ.

    Families without options of their own get those of Llama.
    """
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        family,
        **{
            "vocab_size": VOCABULARY,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "initializer_range": 0.2,
            **_DECODERS.get(family, _ROTARY),
            **options,
        },
    )
    return AutoModelForCausalLM.from_config(config).eval()


def tiny_encoder(family: str, seed: int = 0, **options: object) -> PreTrainedModel:
    """Make a random encoder."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        family, **{"vocab_size": VOCABULARY, "initializer_range": 0.2, **_ENCODER, **options}
    )
    return AutoModel.from_config(config).eval()


def tiny_refrag(
    decoder: str = "llama",
    encoder: str = "roberta",
    *,
    chunk_size: int = CHUNK_SIZE,
    shared_tokenizer: bool = True,
) -> RefragForCausalLM:
    """Join a tiny encoder and a tiny decoder."""
    torch.manual_seed(1)
    return RefragForCausalLM.from_encoder_decoder(
        tiny_encoder(encoder),
        tiny_decoder(decoder),
        chunk_size,
        shared_tokenizer=shared_tokenizer,
    )


def save_tiny_pair(folder: Path, decoder: str, encoder: str) -> tuple[Path, Path]:
    """Save an encoder and a decoder to disk, return their folders."""
    tiny_encoder(encoder).save_pretrained(folder / "encoder")
    tiny_decoder(decoder).save_pretrained(folder / "decoder")
    return folder / "encoder", folder / "decoder"


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of at most ``VOCABULARY`` tokens; 1 is bos, 2 is eos, 0 is padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["plain tea at noon, they say, in the cafe"] * 8, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def word_piece_tokenizer() -> PreTrainedTokenizerFast:
    """Train a BERT tokenizer: WordPiece, lower case, ``[CLS]`` and ``[SEP]`` around each text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([MULTI_BYTE_TEXT] * 4, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def chunks_of_text(
    tokenizer: PreTrainedTokenizerFast, text: str, chunk_size: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Cut a text into whole chunks: ids (L, k), and texts sliced by character offsets."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    count = len(encoding["input_ids"]) // chunk_size
    ids = np.array(encoding["input_ids"][: count * chunk_size]).reshape(count, chunk_size)
    starts = [encoding["offset_mapping"][i * chunk_size][0] for i in range(count)]
    end = encoding["offset_mapping"][count * chunk_size - 1][1]
    bounds = [*starts, end]
    return ids, tuple(text[bounds[i] : bounds[i + 1]] for i in range(count))


def random_window(
    index: int,
    *,
    num_chunks: int = 6,
    padding_chunks: int = 0,
    chunk_size: int = CHUNK_SIZE,
    prompt_length: int = 5,
    output_length: int = 7,
    prompt_position: str = "after",
) -> Window:
    """Make a window of random tokens, the same for the same arguments."""
    rng = np.random.default_rng(index)
    chunk_mask = np.arange(num_chunks) < num_chunks - padding_chunks
    context_ids = rng.integers(3, VOCABULARY, (num_chunks, chunk_size))
    context_ids[~chunk_mask] = 0
    shape = f"{num_chunks}-{padding_chunks}-{chunk_size}-{prompt_length}-{output_length}"
    return Window(
        key=f"random-{index}-{shape}-{prompt_position}",
        context_ids=context_ids,
        chunk_mask=chunk_mask,
        prompt_ids=rng.integers(3, VOCABULARY, prompt_length),
        output_ids=rng.integers(3, VOCABULARY, output_length),
        document_id=f"document-{index}",
        domain="random",
        prompt_position=prompt_position,  # type: ignore[arg-type]
        chunk_texts=("",) * num_chunks,
        prompt_text="",
        output_text="",
        passage=np.where(chunk_mask, 0, -1),
        passage_scores=np.zeros(num_chunks, dtype=np.float32),
        planted=np.zeros(num_chunks, dtype=np.bool_),
    )
