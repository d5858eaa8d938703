"""How attention is computed in training on a CPU.

PyTorch's fused attention saves memory on long sequences. On a CPU its backward pass is slow on
short ones, and those are what a REFRAG trains on: chunks of some 17 tokens in the encoder, mixtures
of a few hundred positions in the decoder. Written out as matrix products, an encoder's step of 608
chunks takes two thirds of the time, a decoder's of 19 x 161 positions nine tenths
(``experiments/LOG.md``). The scores of all pairs of positions are kept then, so that of a decoder
is written out for short rows only.
"""

from __future__ import annotations

import torch

from refrag_rl.modeling import RefragForCausalLM

_LONGEST_ROW = 1024
"""Positions of a decoder's row, at most: of 2048, eight heads keep 128 MiB a layer in float32."""


def write_out_attention(
    model: RefragForCausalLM, device: torch.device, *, longest_row: int
) -> None:
    """Let a model that trains on a CPU compute its attention as plain matrix products.

    The result is the same but for rounding. On other devices nothing is changed, and nothing is
    saved with the model.

    Args:
        model: Changed in place.
        device: Where it trains.
        longest_row: Positions of the longest row that the decoder reads.
    """
    if device.type != "cpu":
        return
    model.encoder.set_attn_implementation("eager")
    if longest_row <= _LONGEST_ROW:
        model.decoder.set_attn_implementation("eager")
