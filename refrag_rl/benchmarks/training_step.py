"""The training steps that ``benchmark pretrain`` compares: the plain loop's and ours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, RobertaConfig, RobertaModel

from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.bfloat16 import Format
from refrag_rl.pretraining.batch import Batch
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.optimizer import build_optimizers


class PlainStep:
    """The loop that one would write: a forward pass with ``labels``, autocast, AdamW.

    The decoder makes float32 logits of all positions, and its loss is their cross-entropy.

    Args:
        decoder: Trained in place.
        ids: (B, T) int64, token ids.
        number_format: Of matrix products, by autocast; the weights are float32.
    """

    def __init__(self, decoder: PreTrainedModel, ids: Tensor, number_format: Format) -> None:
        self._decoder = decoder
        self._ids = ids
        self._number_format = number_format
        self._optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(decoder.parameters())]

    def loss(self) -> Tensor:
        """Return the loss of the batch, () float32, nats per token."""
        with _autocast(self._ids.device, self._number_format):
            loss: Tensor = self._decoder(input_ids=self._ids, labels=self._ids).loss
        return loss

    def __call__(self) -> float:
        """Take one step; return its loss, nats per token."""
        return _step(self.loss(), self._optimizers)


class OurStep:
    """The step of ``refrag_rl.pretrain``: its loss, its AdamW.

    The batch is one of windows without context and prompt, so that the same tokens are read and
    scored as in ``PlainStep``: the first is bos, the others are output.

    Args:
        decoder: Trained in place.
        ids: (B, T) int64, token ids; the first of each row is the decoder's bos.
        number_format: Of matrix products, by autocast; the weights are float32.
    """

    def __init__(self, decoder: PreTrainedModel, ids: Tensor, number_format: Format) -> None:
        encoder = RobertaModel(
            RobertaConfig(
                vocab_size=decoder.config.vocab_size,
                hidden_size=8,
                num_hidden_layers=1,
                num_attention_heads=1,
                intermediate_size=8,
                max_position_embeddings=8,
            )
        )
        model = RefragForCausalLM.from_encoder_decoder(
            encoder, decoder, 2, shared_tokenizer=True, bos_token_id=int(ids[0, 0])
        )
        # Nothing is compressed here.
        model.encoder.requires_grad_(False)
        model.projector.requires_grad_(False)
        nn.Module.to(model, ids.device)
        self._model = model
        rows = len(ids)
        nothing = torch.zeros(rows, 0, dtype=torch.bool, device=ids.device)
        self._batch = Batch(
            context_ids=torch.zeros(rows, 0, 2, dtype=torch.int64, device=ids.device),
            chunk_mask=nothing,
            expanded=nothing,
            prompt_ids=nothing.long(),
            output_ids=ids[:, 1:],
            prompt_position="after",
            context_weight=0.0,
            name="random tokens",
        )
        self._number_format = number_format
        self._optimizers = build_optimizers(
            [model],
            name="adamw",
            learning_rate=1e-3,
            muon_learning_rate=0.0,
            weight_decay=0.01,
            betas=(0.9, 0.95),
        )

    def loss(self) -> Tensor:
        """Return the loss of the batch, () float32, nats per token."""
        with _autocast(self._batch.output_ids.device, self._number_format):
            return mixed_loss(self._model, self._batch)

    def __call__(self) -> float:
        """Take one step; return its loss, nats per token."""
        return _step(self.loss(), self._optimizers)


def _autocast(device: torch.device, number_format: Format) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=number_format == "bfloat16")


def _step(loss: Tensor, optimizers: list[torch.optim.Optimizer]) -> float:
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()
