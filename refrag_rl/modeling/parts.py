"""The encoder and the decoder that a REFRAG model is joined from."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from refrag_rl.errors import UserError
from refrag_rl.modeling.chunk_encoder import token_embeddings
from refrag_rl.modeling.strangers import require_own_weights, require_safetensors

logger = logging.getLogger(__name__)

ModelOrPath = PreTrainedModel | str | os.PathLike[str]


def folder_or_name(given: str | os.PathLike[str]) -> Path | str:
    """Return the folder that is meant, ``~`` being one's home; else the name, for the hub."""
    folder = Path(given).expanduser()
    return folder if folder.is_dir() else os.fspath(given)


def load_part(auto_class: Any, model: ModelOrPath, dtype: torch.dtype) -> PreTrainedModel:
    """Return a model as it is, or load it from a folder or the hub; no code and no pickle of it.

    Raises:
        UserError: It is a folder whose weights are no safetensors, or it leads to another model, or
            weights are missing.
    """
    if isinstance(model, PreTrainedModel):
        return model
    model = folder_or_name(model)
    try:
        if isinstance(model, Path):
            require_safetensors(model)
        require_own_weights(PreTrainedConfig.get_config_dict(model)[0])
    except UserError as error:
        raise UserError(f"{model} cannot be loaded: {error}") from error
    part, report = auto_class.from_pretrained(
        model,
        dtype=dtype,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    # What BERT-like encoders have on top of the first state is never read; see ``drop_pooler``.
    read = [name for name in report["missing_keys"] if "pooler." not in name]
    if reason := missing_weights(read):
        raise UserError(
            f"{model} cannot be loaded: {reason}\ngive a model of the kind that its weights are of"
        )
    return part


def missing_weights(names: Iterable[str]) -> str | None:
    """Return what to say of weights that a file lacks, by their names; ``None`` if of none."""
    missing = sorted(names)
    return f"{len(missing)} of its weights are missing ({missing[0]})" if missing else None


def first_token(decoder: PreTrainedModel) -> int:
    """Return the token that sequences start with: bos, else eos, else (with a warning) token 0.

    Tokens outside the vocabulary do not count: small random models often keep the default of their
    family's large ones.
    """
    vocabulary = token_embeddings(decoder).num_embeddings
    for name in ("bos_token_id", "eos_token_id"):
        for config in (decoder.config, decoder.generation_config):
            tokens = getattr(config, name, None)
            first = tokens[0] if isinstance(tokens, (list, tuple)) and tokens else tokens
            if isinstance(first, int) and 0 <= first < vocabulary:
                return first
    logger.warning(
        "The decoder (%s) names no bos or eos token of its vocabulary: sequences start with token "
        "0. Give bos_token_id to choose another.",
        decoder.config.model_type,
    )
    return 0
