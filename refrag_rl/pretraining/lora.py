"""Low-rank adapters (LoRA, Hu et al. 2021) of a decoder that is too large to be trained whole."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from refrag_rl.errors import UserError, first_line


class Lora:
    """Adapters put into a decoder in place: it computes the same until they are trained.

    Args:
        decoder: Its linear layers are wrapped.
        rank: Of the adapters, 1 or more.
        alpha: Their output is multiplied by ``alpha / rank``.
        dropout: Of their inputs.
        target_modules: ``all-linear`` or names of layers, as ``peft.LoraConfig`` takes them.

    Attributes:
        adapters: What is to be trained.

    Raises:
        UserError: ``peft`` is not installed, or the layers cannot be adapted.
    """

    def __init__(
        self,
        decoder: PreTrainedModel,
        *,
        rank: int,
        alpha: float,
        dropout: float,
        target_modules: str | list[str],
    ) -> None:
        try:
            from peft import LoraConfig, LoraModel
            from peft.tuners.lora import LoraLayer
        except ImportError as error:
            raise UserError(
                f"model.lora.rank={rank} needs peft, which cannot be used ({first_line(error)}).\n"
                'Install it (pip install "refrag-rl[lora]") or give model.lora.rank=0.'
            ) from error
        try:
            settings: dict[str, Any] = {
                "r": rank,
                "lora_alpha": alpha,
                "lora_dropout": dropout,
                "target_modules": target_modules,
            }
            self._tuner = LoraModel(decoder, LoraConfig(**settings), "default")
        except (TypeError, ValueError) as error:
            reason = first_line(error, 200)
            raise UserError(
                f"model.lora: peft cannot adapt the decoder ({reason}).\n"
                "Give a rank of 1 or more and target_modules=all-linear or names of its layers."
            ) from error
        layers = [module for module in decoder.modules() if isinstance(module, LoraLayer)]
        embeddings = (decoder.get_input_embeddings(), decoder.get_output_embeddings())
        if any(layer in embeddings for layer in layers):
            # The loss reads the output layer's weight itself, past any adapter.
            raise UserError(
                f"model.lora.target_modules={target_modules}: token embeddings and output layer "
                "cannot be adapted. Give other layers, or all-linear."
            )
        self.adapters: list[nn.Module] = [
            getattr(layer, name) for layer in layers for name in layer.adapter_layer_names
        ]

    def merge(self) -> None:
        """Add the adapters to the decoder's weights and take them out: a plain decoder is left."""
        self._tuner.merge_and_unload()


def lora_dropouts(model: nn.Module) -> list[nn.Module]:
    """Return the dropout layers of the adapters in a model, none where their rate is 0."""
    return [
        dropout
        for name, module in model.named_modules()
        if name.endswith(".lora_dropout")
        for dropout in module.children()
        if isinstance(dropout, nn.Dropout)
    ]
