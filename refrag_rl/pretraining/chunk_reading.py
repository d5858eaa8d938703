"""How a model starts: able to read a chunk embedding as a bag of tokens.

A chunk embedding is worth something only to a decoder that can take tokens out of it, and an
encoder learns to put them in only for such a decoder: started at random, neither learns within the
tokens that can be spent on a tiny model. So both halves stand in the first weights, in the spirit
of mimetic initialization (Trockman and Kolter, arXiv 2305.09828). With ``R`` the rotation of the
induction head (``initialization.py``), which looks for positions that hold ``R x_{t-1}`` for an
earlier ``x_{t-1}`` like the token now read, and copies the ``x_t`` that stands there:

1. The encoder passes its token embeddings, which are the decoder's, through damped layers; pooled
   by their mean, a chunk embedding is the bag ``b`` of the chunk's tokens.
2. The projector gives ``(I + R) b``: to the induction head a position whose token, and the one
   before it, are any of the chunk's. Its non-linearity is used where it is nearly straight.
3. A constant direction ``u`` in all queries, and ``R u`` in all chunk embeddings, draw the head to
   chunks; neither is copied. The head's projections are orthogonal, so that what it copies is not
   blurred.

Everything is trained from there on; nothing is fixed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Lfm2ForCausalLM

from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM

_BAG_NORM = 3.8
_MARK_NORM = 3.8
_MARK_IN_QUERIES = 0.6
"""Norms of bag, mark and ``u``, in those of a token embedding."""
_QUERY_GAIN = 3.0
_COPY_GAIN = 1.5
_DAMPING = 0.1
_POOLED_NORM = 0.25
"""Root mean square of the mean of some 16 states that are normalized to 1."""
_STRAIGHT = 3.0
"""Input around which GELU is nearly the identity."""


@torch.no_grad()
def start_with_chunk_reading(model: RefragForCausalLM) -> None:
    """Write bags of tokens into the encoder and the projector, and draw the induction head to them.

    Args:
        model: Its decoder was given an induction head (``start_with_induction``); its encoder, of
            the RoBERTa or BERT type, is new. Changed in place.

    Raises:
        UserError: The decoder is of another architecture, the encoder of another type or width, or
            chunks are not pooled by their mean.
    """
    decoder, encoder, projector = model.decoder, model.encoder, model.projector
    embeddings: Any = model.get_input_embeddings()
    if not (
        isinstance(decoder, Lfm2ForCausalLM)
        and decoder.config.conv_bias
        and encoder.config.model_type in ("roberta", "bert")
        and encoder.get_input_embeddings().weight.shape == embeddings.weight.shape
        and projector.up.weight.shape == projector.down.weight.shape
        and model.config.encoder_pooling == "mean"
    ):
        raise UserError(
            "model.chunk_reading_start=true needs encoder_pooling=mean, and a roberta or bert "
            "encoder and an lfm2\ndecoder from scratch, of one width. For others give "
            "model.chunk_reading_start=false."
        )
    width = embeddings.weight.shape[1]
    spread = float(embeddings.weight.std())
    token_norm = spread * width**0.5
    layers: Any = decoder.model.layers
    convolution, head = layers[0].conv, layers[1].self_attn
    rotation = convolution.out_proj.weight / spread
    mark = torch.nn.functional.normalize(torch.randn(width), dim=0)
    convolution.out_proj.bias.add_(mark * token_norm * _MARK_IN_QUERIES)
    _sharpen(head, rotation, mark)
    _start_encoder(encoder, embeddings.weight)
    bag = (torch.eye(width) + rotation) * (_BAG_NORM * spread / _POOLED_NORM)
    projector.up.weight.copy_(torch.eye(width))
    projector.up.bias.fill_(_STRAIGHT)
    projector.down.weight.copy_(bag)
    projector.down.bias.copy_(rotation @ mark * token_norm * _MARK_NORM - _STRAIGHT * bag.sum(1))


def _sharpen(head: Any, rotation: Tensor, mark: Tensor) -> None:
    """Make the induction head's projections orthogonal and keep the mark out of what it copies."""
    width = len(mark)
    query, value = (torch.linalg.qr(torch.randn(width, width))[0] for _ in range(2))
    copied = torch.eye(width)
    for direction in (mark, rotation @ mark):
        copied -= torch.outer(direction, direction)
    head.q_proj.weight.copy_(query)
    head.k_proj.weight.copy_(query @ rotation.T)
    head.q_layernorm.weight.fill_(_QUERY_GAIN)
    head.v_proj.weight.copy_(value @ copied)
    head.out_proj.weight.copy_(_COPY_GAIN * value.T)


def _start_encoder(encoder: Any, token_embeddings: Tensor) -> None:
    """Give an encoder the decoder's token embeddings and let little else into its states."""
    encoder.get_input_embeddings().weight.copy_(token_embeddings)
    encoder.embeddings.position_embeddings.weight.mul_(_DAMPING)
    encoder.embeddings.token_type_embeddings.weight.mul_(_DAMPING)
    for layer in encoder.encoder.layer:
        layer.attention.output.dense.weight.mul_(_DAMPING)
        layer.output.dense.weight.mul_(_DAMPING)
