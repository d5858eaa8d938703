"""Chunk embeddings ``c_i`` from any ``AutoModel`` encoder: pooling, positions, limits."""

from __future__ import annotations

import inspect
from contextlib import suppress

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from refrag_rl.errors import UserError


def encode(encoder: PreTrainedModel, pooling: str, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Return one embedding a row, (N, d_enc).

    Args:
        encoder: Reads each row alone.
        pooling: ``"first"``: the state at the first token; ``"mean"``: the mean state.
        input_ids: (N, t) int64, in the encoder's vocabulary.
        mask: (N, t), 1 for tokens, at least one a row, and 0 for padding on the right.
    """
    if input_ids.shape[0] == 0:
        return next(encoder.parameters()).new_zeros(0, encoder.config.hidden_size)
    offset = position_offset(encoder)
    positions = {}
    if offset is not None:
        # RoBERTa takes every token whose id is that of padding for padding; in a shared vocabulary
        # that id may be an ordinary token, so it is told the positions.
        in_use = mask.long()
        positions["position_ids"] = in_use.cumsum(1) * in_use + offset
    states = encoder(input_ids=input_ids, attention_mask=mask, **positions).last_hidden_state
    if pooling == "first":
        return states[:, 0]
    weight = mask[..., None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def position_offset(encoder: PreTrainedModel) -> int | None:
    """Return RoBERTa's ``padding_idx`` (positions start one after it), ``None`` for others."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    return table.padding_idx if isinstance(table, nn.Embedding) else None


def max_tokens(encoder: PreTrainedModel) -> int | None:
    """Return how many tokens the encoder reads at once; ``None`` where it has no limit."""
    limit = position_limit(encoder)
    offset = position_offset(encoder)
    return limit if limit is None or offset is None else limit - offset - 1


def position_limit(model: PreTrainedModel) -> int | None:
    """Return how many positions a model has; ``None`` where it has no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    # XLNet says -1.
    return limit if limit is not None and limit > 0 else None


def drop_pooler(encoder: PreTrainedModel) -> None:
    """Remove the layer on top of the first state that BERT-like encoders may be built without.

    Its result is never read here, so it would be neither trained nor worth saving.
    """
    may_be_without = "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters
    if may_be_without and getattr(encoder, "pooler", None) is not None:
        encoder.register_module("pooler", None)


def require_reads_chunks(
    encoder: PreTrainedModel, chunk_size: int, shared_vocabulary: int | None
) -> None:
    """Check that an encoder can read chunks.

    Args:
        encoder: To be checked.
        chunk_size: ``k``, decoder tokens per chunk.
        shared_vocabulary: Tokens that the decoder knows, where the encoder reads its ids; else
            ``None``, and chunks that are too long for the encoder are cut by its tokenizer.

    Raises:
        UserError: It is an encoder-decoder, or its positions or its vocabulary are too few.
    """
    if encoder.config.is_encoder_decoder:
        raise UserError(
            f"The encoder ({encoder.config.model_type}) is an encoder-decoder: "
            "give an encoder, such as RoBERTa or BERT."
        )
    if shared_vocabulary is None:
        return
    limit = max_tokens(encoder)
    if limit is not None and limit < chunk_size + 1:
        raise UserError(
            f"The encoder reads {limit} tokens, a chunk with its first token has {chunk_size + 1}: "
            f"give chunk_size={limit - 1} or less."
        )
    vocabulary = token_embeddings(encoder).num_embeddings
    if vocabulary < shared_vocabulary:
        raise UserError(
            f"shared_tokenizer=true, but the encoder knows {vocabulary} tokens and the decoder "
            f"{shared_vocabulary}: give an encoder of the same vocabulary, or "
            "shared_tokenizer=false."
        )


@torch.no_grad()
def require_pooling(encoder: PreTrainedModel, pooling: str) -> None:
    """Check that what is pooled can depend on the whole chunk, on two chunks of two tokens.

    Args:
        encoder: With its weights, in evaluation mode.
        pooling: As for ``encode``.

    Raises:
        UserError: The state at the first token is pooled, and the encoder does not read ahead.
    """
    if pooling != "first":
        return
    ids = torch.tensor([[0, 1], [0, 2]], device=encoder.device)
    one, other = encode(encoder, pooling, ids, torch.ones_like(ids))
    if torch.allclose(one, other, rtol=1e-5, atol=1e-7):
        raise UserError(
            f"encoder_pooling=first, but the encoder ({encoder.config.model_type}) does not read "
            "ahead: all chunks\nwould have the embedding of their first token. Give "
            "encoder_pooling=mean, or an encoder such as RoBERTa or BERT."
        )


def token_embeddings(model: PreTrainedModel) -> nn.Embedding:
    """Return a model's token embeddings.

    Raises:
        UserError: It has none.
    """
    embeddings = None
    # CANINE reads characters, by their hashes.
    with suppress(NotImplementedError):
        embeddings = model.get_input_embeddings()
    if not isinstance(embeddings, nn.Embedding):
        raise UserError(f"{type(model).__name__} has no table of token embeddings: give another.")
    return embeddings
