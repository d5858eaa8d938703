"""Models with random weights, made from configurations: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedModel

from refrag_rl.errors import UserError, first_line
from refrag_rl.modeling import RefragForCausalLM


def build_decoder(
    options: Mapping[str, Any],
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Make a decoder with random weights.

    Args:
        options: Of its configuration; ``model_type`` names the kind.
        seed: Of the weights.
        device: Where it is made, and where it is to run.
        dtype: Of the weights.

    Raises:
        UserError: There is no such kind, or an option does not fit it.
    """
    hint = "Give the options of a causal language model's configuration, such as those of Lfm2."
    return _build(AutoModelForCausalLM, "decoder", options, seed, device, dtype, hint)


def build_encoder(
    options: Mapping[str, Any], seed: int, device: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    """Make an encoder with random weights; arguments and errors as ``build_decoder``."""
    hint = "Give the options of an encoder's configuration, such as those of RoBERTa."
    return _build(AutoModel, "encoder", options, seed, device, dtype, hint)


def build_shape(
    decoder: Mapping[str, Any],
    encoder: Mapping[str, Any],
    chunk_size: int,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> RefragForCausalLM:
    """Make a REFRAG with random weights, whose encoder has a vocabulary of its own.

    Args:
        decoder: Options of the decoder's configuration.
        encoder: Options of the encoder's configuration.
        chunk_size: ``k``, tokens a chunk.
        seed: Of the weights.
        device: Where it is to run.
        dtype: Of the weights.

    Raises:
        UserError: One of the two cannot be made.
    """
    model = RefragForCausalLM.from_encoder_decoder(
        build_encoder(encoder, seed, device, dtype),
        build_decoder(decoder, seed, device, dtype),
        chunk_size,
        bos_token_id=0,
        dtype=dtype,
    )
    nn.Module.to(model, device)
    return model.requires_grad_(False)


def _build(
    auto_class: Any,
    key: str,
    options: Mapping[str, Any],
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    hint: str,
) -> PreTrainedModel:
    settings = {str(name): value for name, value in options.items()}
    kind = str(settings.pop("model_type", None))
    torch.manual_seed(seed)
    try:
        config = AutoConfig.for_model(kind, **settings)
        # Made where it is to run: large models are drawn in seconds on a GPU, in minutes on a CPU.
        with device:
            model: PreTrainedModel = auto_class.from_config(config, dtype=dtype)
    except (ValueError, TypeError, KeyError) as error:
        reason = first_line(error, 160)
        raise UserError(f"{key} (model_type={kind}) cannot be made ({reason}).\n{hint}") from error
    return model.eval()
