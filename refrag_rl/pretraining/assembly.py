"""The model that a pre-training starts from: loaded parts, or parts from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from refrag_rl.atomic import making_folder
from refrag_rl.corpora.documents import Document
from refrag_rl.errors import UserError, first_line
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.checkpoint import (
    LoadedRefrag,
    cut_alike,
    find_folder,
    join_refrag,
    load_refrag,
    load_tokenizer,
)
from refrag_rl.modeling.chunk_encoder import require_reads_chunks, token_embeddings
from refrag_rl.modeling.parts import load_part
from refrag_rl.pretraining.chunk_reading import start_with_chunk_reading
from refrag_rl.pretraining.initialization import start_with_induction
from refrag_rl.pretraining.settings import ModelSection, PretrainConfig
from refrag_rl.pretraining.tokenizer import train_tokenizer

_LARGEST_PADDING = 3
"""Id of an encoder's padding token, at most: RoBERTa's positions begin behind it."""


def decoder_tokenizer(
    settings: PretrainConfig, documents: Sequence[Document], folder: Path
) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a loaded decoder, or train one for a decoder from scratch.

    Args:
        settings: The whole config.
        documents: To train it on.
        folder: Where a trained one is kept, and read from if it is there.

    Raises:
        UserError: It cannot be loaded, or gives no character offsets.
    """
    key, name = "decoder", settings.model.decoder
    if settings.model.refrag is not None:
        key, name = "refrag", find_folder("model.refrag", settings.model.refrag)
    if isinstance(name, (str, Path)):
        tokenizer = load_tokenizer(f"model.{key}", name)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise UserError(
                f"model.{key}={name}: {type(tokenizer).__name__} gives no character offsets. "
                "Give a decoder with a fast tokenizer."
            )
        return tokenizer
    if not folder.exists():
        trained = train_tokenizer(
            documents,
            vocabulary_size=settings.tokenizer.vocabulary_size,
            share=settings.tokenizer.share,
            seed=settings.seed,
        )
        # Whole or not at all: what is there later is trusted.
        with making_folder(folder) as fresh:
            trained.save_pretrained(fresh)
    try:
        return cast(PreTrainedTokenizerFast, PreTrainedTokenizerFast.from_pretrained(folder))
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise UserError(
            f"{folder}: the tokenizer of this run cannot be read ({first_line(error, 160)}).\n"
            "Put back the files that were there, or begin anew in another output."
        ) from error


def build_model(model: ModelSection, tokenizer: PreTrainedTokenizerFast) -> LoadedRefrag:
    """Make the model; encoder and decoder are loaded, or made from scratch with random weights.

    A loaded encoder whose tokenizer cuts text in another way than the decoder's keeps its own; all
    other encoders read the decoder's token ids. With ``model.refrag`` all three parts are those of
    a checkpoint.

    Args:
        model: Section of the config.
        tokenizer: The decoder's.

    Raises:
        UserError: A part cannot be loaded, or does not fit.
    """
    _check_starts(model)
    if model.refrag is not None:
        return _go_on_from(model, model.refrag)
    own: PreTrainedTokenizerBase | None = None
    cls_token_id = tokenizer.cls_token_id
    if isinstance(model.encoder, str):
        own = load_tokenizer("model.encoder", model.encoder)
        cls_token_id = own.cls_token_id
    decoder = _load_or_make(
        "decoder", model.decoder, AutoModelForCausalLM, tokenizer, len(tokenizer)
    )
    known = token_embeddings(decoder).num_embeddings
    if model.induction_start:
        start_with_induction(decoder, embedding_scale=model.embedding_scale)
    # Tables may be padded; what reads the decoder's ids has a row for each of its rows.
    encoder = _load_or_make("encoder", model.encoder, AutoModel, tokenizer, known)
    has_rows = token_embeddings(encoder).num_embeddings >= known
    if own is not None and has_rows and cut_alike(own, tokenizer):
        own = None
    if not isinstance(model.encoder, str):
        # Its padding token may be one that texts hold; it is trained as all others are.
        token_embeddings(encoder).padding_idx = None
    refrag = RefragForCausalLM.from_encoder_decoder(
        encoder,
        decoder,
        model.chunk_size,
        encoder_pooling=cast(Any, model.encoder_pooling),
        shared_tokenizer=own is None,
        bos_token_id=tokenizer.bos_token_id,
        cls_token_id=cls_token_id if own is None else None,
    )
    if model.chunk_reading_start:
        start_with_chunk_reading(refrag)
    return join_refrag(refrag, tokenizer, own)


def _check_starts(model: ModelSection) -> None:
    """Check that first weights are written where there are none yet, and what they build on.

    Raises:
        UserError: A part has weights already, or the induction head is missing.
    """
    starts = {"induction_start": ("decoder",), "chunk_reading_start": ("decoder", "encoder")}
    for key, parts in starts.items():
        if not getattr(model, key):
            continue
        for part in parts if model.refrag is None else ("refrag",):
            if isinstance(source := getattr(model, part), str):
                raise UserError(
                    f"model.{key}=true, but model.{part}={source} has weights already. "
                    f"Give model.{key}=false."
                )
    if model.chunk_reading_start and not model.induction_start:
        raise UserError(
            "model.chunk_reading_start=true needs model.induction_start=true: the induction head "
            "reads the chunks.\nGive both, or model.chunk_reading_start=false."
        )


def _go_on_from(model: ModelSection, path: str) -> LoadedRefrag:
    """Load a checkpoint, for chunks of any size that its encoder can read."""
    loaded = load_refrag(find_folder("model.refrag", path))
    refrag = loaded.model
    pooling = refrag.config.encoder_pooling
    if pooling != model.encoder_pooling:
        raise UserError(
            f"model.encoder_pooling={model.encoder_pooling}, but model.refrag={path} was trained "
            f"with {pooling}. Give model.encoder_pooling={pooling}."
        )
    vocabulary = len(loaded.tokenizer) if refrag.config.shared_tokenizer else None
    require_reads_chunks(refrag.encoder, model.chunk_size, vocabulary)
    refrag.config.chunk_size = model.chunk_size
    return loaded


def _load_or_make(
    part: str,
    section: Any,
    auto_class: Any,
    tokenizer: PreTrainedTokenizerFast,
    vocabulary_size: int,
) -> Any:
    if isinstance(section, str):
        try:
            return load_part(auto_class, section, torch.float32)
        except UserError as error:
            raise UserError(f"model.{part}: {error}") from error
        except Exception as error:  # transformers raises all kinds on files that do not fit
            reason = first_line(error, 160)
            raise UserError(
                f"model.{part}={section} cannot be loaded ({reason}).\n"
                "Give a folder with a model and its tokenizer, or a name on the Hugging Face hub."
            ) from error
    if not isinstance(section, Mapping) or "model_type" not in section:
        raise UserError(
            f"model.{part}={section}: give a folder, a name on the Hugging Face hub, or a "
            "configuration with its model_type"
        )
    padding = tokenizer.pad_token_id
    if part == "encoder" and (padding is None or padding > _LARGEST_PADDING):
        padding = 0
    own = {
        "vocab_size": vocabulary_size,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": padding,
    }
    settings = {str(key): value for key, value in section.items()}
    model_type = str(settings.pop("model_type"))
    try:
        config = AutoConfig.for_model(model_type, **{**own, **settings})
        return auto_class.from_config(config, trust_remote_code=False)
    except Exception as error:  # each model has its own way to refuse a configuration
        reason = first_line(error, 160)
        raise UserError(
            f"model.{part}: no {model_type} can be made with these settings ({reason})"
        ) from error


@torch.no_grad()
def start_encoder(model: RefragForCausalLM) -> None:
    """Give an encoder of the decoder's width its token embeddings, at the encoder's own scale.

    For encoders from scratch, which have learned nothing yet, once the decoder's are trained.
    """
    source = cast(nn.Embedding, model.get_input_embeddings()).weight
    target = cast(nn.Embedding, model.encoder.get_input_embeddings()).weight
    if source.shape == target.shape:
        target.copy_(source * (target.std() / source.std()))
