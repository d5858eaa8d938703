"""How a decoder of short convolutions and attention starts: able to look things up in its context.

Which chunks are worth expanding is a question only to a decoder that copies from its context. A
small decoder that starts from random weights learns this late and suddenly, or, within the few
million tokens of the embedded model, not at all. Here the ability stands in the first weights, as
an induction head (Olsson et al., arXiv 2209.11895) written out, in the spirit of mimetic
initialization (Trockman and Kolter, arXiv 2305.09828). With ``R`` a random rotation:

1. The first convolution carries ``x_{t-1}`` to position ``t``, rotated: the residual stream there
   holds ``x_t + R x_{t-1}``.
2. In the first attention layer keys are queries rotated back, ``W_K = W_Q R^T``: the query of
   ``x_t`` meets the keys of the positions that follow an earlier ``x_t``. Value and output
   projections are transposes of each other, so what stands there is copied.
3. All other branches of the residual stream start at zero, and the gates of the convolutions at
   one, so that nothing drowns it. Token embeddings start larger than usual: with tied embeddings,
   what is learned first (how frequent each token is) is added to all of them, and must not hide
   which token is which.

Everything is trained from there on; nothing is fixed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import Lfm2ForCausalLM

from refrag_rl.errors import UserError

_QUERY_GAIN = 2.0
_COPY_GAIN = 7.5
_TAP_SPREAD = 0.3


@torch.no_grad()
def start_with_induction(decoder: nn.Module, *, embedding_scale: float) -> None:
    """Write an induction head into the first weights of an ``Lfm2ForCausalLM``.

    Args:
        decoder: With random weights; changed in place.
        embedding_scale: Standard deviation of the token embeddings; 0.1 works where 0.02, the
            usual value, does not.

    Raises:
        UserError: It is another architecture, has no bias in its convolutions, shares keys between
            queries, or does not begin with a convolution that an attention layer follows.
    """
    if not isinstance(decoder, Lfm2ForCausalLM):
        raise UserError(
            "model.induction_start=true goes with decoder.model_type=lfm2 only. Set it to false."
        )
    config = decoder.config
    kinds = list(config.layer_types or [])
    if (
        not config.conv_bias
        or config.num_key_value_heads != config.num_attention_heads
        or kinds[:2] != ["conv", "full_attention"]
    ):
        raise UserError(
            "model.induction_start=true needs decoder.conv_bias=true, as many key-value heads as "
            "heads,\nand layer_types that begin with conv, full_attention."
        )
    width = config.hidden_size
    rotation = torch.linalg.qr(torch.randn(width, width))[0]
    embeddings: Any = decoder.get_input_embeddings()
    embeddings.weight.normal_(0, embedding_scale)
    first_convolution, first_attention = True, True
    layers: Any = decoder.model.layers
    for layer, kind in zip(layers, kinds, strict=True):
        layer.feed_forward.w2.weight.zero_()
        if kind == "conv":
            _start_convolution(layer.conv, rotation * embedding_scale * first_convolution)
            first_convolution = False
            continue
        attention = layer.self_attn
        attention.out_proj.weight.zero_()
        if first_attention:
            attention.k_proj.weight.copy_(attention.q_proj.weight @ rotation.T)
            attention.q_layernorm.weight.fill_(_QUERY_GAIN)
            gain = _COPY_GAIN * embedding_scale / 0.1
            attention.out_proj.weight.copy_(gain * attention.v_proj.weight.T)
            first_attention = False


def _start_convolution(convolution: Any, output: torch.Tensor) -> None:
    """Open the gates; pass the token before on where there is an output to pass it to."""
    width = len(output)
    convolution.in_proj.bias[: 2 * width] = 1.0
    convolution.out_proj.weight.copy_(output)
    if output.any():
        convolution.in_proj.weight[2 * width :] = torch.eye(width)
        convolution.conv.weight.zero_()
        convolution.conv.weight[:, 0, -2] = 1.0
    else:
        convolution.conv.weight.normal_(0, _TAP_SPREAD)
