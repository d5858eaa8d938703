"""Reading a causal decoder and applying its output layer only where a token is scored.

The output layer of a vocabulary of ``V`` is a large part of a small decoder, and most positions of
a mixed sequence are never scored. So the decoder's body is read alone and its output layer applied
to the scored positions. Some architectures do more to their logits than one linear layer (Gemma 2
caps them, Cohere and Granite scale them); a probe finds out, and those are read whole.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from refrag_rl.errors import UserError
from refrag_rl.modeling.chunk_encoder import token_embeddings
from refrag_rl.modeling.compiling import compiled

_LOGITS_PER_SLICE = 2**24
"""Logits held at once, in float32: 64 MiB. Those of a decoder that is read whole are all held."""


class ScoringHead:
    """Applies a decoder's output layer at scored positions.

    The decoder is probed once, on two rows of four tokens.

    Attributes:
        decoder: Any causal language model of Hugging Face.
        is_plain: Whether its logits are exactly its output layer on its body's last hidden state.

    Raises:
        UserError: The decoder has no output layer, or it is not causal: an earlier position changes
            with a later one.
    """

    def __init__(self, decoder: PreTrainedModel) -> None:
        self.decoder = decoder
        self.is_plain = _probe(decoder)
        self._compiled_reader: Callable[..., Any] | None = None
        self._loss = _relative_loss

    def compiled(self) -> ScoringHead:
        """Return a head for the same decoder that reads and scores under ``torch.compile``.

        For reading only. It is compiled at first use; the decoder stays as it is.
        """
        head = copy.copy(self)
        head._compiled_reader = compiled(self._reader())
        head._loss = compiled(_relative_loss)
        return head

    def states(self, inputs_embeds: Tensor, scored: Tensor) -> Tensor:
        """Read sequences and return what the scored tokens are predicted from.

        No attention mask is passed: the decoder is causal and padding stands on the right.

        Args:
            inputs_embeds: (B, T, d).
            scored: (B, T) bool, the positions whose token is scored. Position 0 has nothing before
                it and is never scored.

        Returns:
            (n, d) hidden states for the ``n`` scored positions in row-major order (the state at
            ``t - 1`` predicts the token at ``t``); (n, V) logits where the decoder is not plain,
            under autocast of its type.
        """
        predicting = scored[:, 1:]
        if self.is_plain:
            body = self._reader()(inputs_embeds=inputs_embeds, use_cache=False)
            return body.last_hidden_state[:, :-1][predicting]
        read = self._reader()
        if "logits_to_keep" in inspect.signature(self.decoder.forward).parameters:
            columns = predicting.any(0).nonzero().squeeze(1)
            predicting = predicting[:, columns]
            kept = {"logits_to_keep": columns}
            logits = read(inputs_embeds=inputs_embeds, use_cache=False, **kept).logits
        else:
            logits = read(inputs_embeds=inputs_embeds, use_cache=False).logits[:, :-1]
        return logits[predicting]

    def _reader(self) -> Callable[..., Any]:
        """Return what reads: the decoder, without its output layer where that is plain."""
        if self._compiled_reader is not None:
            return self._compiled_reader
        return self.decoder.base_model if self.is_plain else self.decoder

    def logits(self, states: Tensor) -> Tensor:
        """Turn states (n, d) into float32 logits (n, V)."""
        if not self.is_plain:
            return states.float()
        output_layer = self.decoder.get_output_embeddings()
        return output_layer(states.to(output_layer.weight.dtype)).float()

    def log_likelihood(
        self, states: Tensor, tokens: Tensor, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return the log-likelihood of each token, (n,) float32, nats.

        Args:
            states: (n, d) or (n, V), from ``states``.
            tokens: (n,) int64, the tokens that stand at the scored positions.
            dtype: Of the output layer's product, such as bfloat16, where the decoder is plain and
                the output layer one matrix; ``None``, and for other output layers: the type of the
                weights, or of autocast. Where the decoder is not plain the product was made by
                ``states``. The log-softmax is in float32.
        """
        output_layer = self.decoder.get_output_embeddings()
        weight: Tensor | None = None
        if dtype is not None and self.is_plain and is_one_matrix(output_layer):
            states, weight = states.to(dtype), output_layer.weight.to(dtype)
        size = max(1, _LOGITS_PER_SLICE // output_layer.weight.shape[0])
        slices = []
        for part, target in zip(states.split(size), tokens.split(size), strict=True):
            if weight is None:
                loss = functional.cross_entropy(self.logits(part), target, reduction="none")
            else:
                loss = self._loss(part, weight, target)
            slices.append(-loss)
        return torch.cat(slices) if slices else states.new_zeros(0, dtype=torch.float32)


def is_one_matrix(output_layer: nn.Module) -> bool:
    """Return whether an output layer is a product with its ``weight`` (V, d) and nothing more."""
    return type(output_layer) is nn.Linear and output_layer.bias is None


def _relative_loss(states: Tensor, weight: Tensor, tokens: Tensor) -> Tensor:
    """Return the cross-entropy of each token, (n,) float32, nats, by logits relative to its own.

    A product in bfloat16 is summed up in float32 and then rounded to three digits: 0.03 in a logit
    of 10. Any number may be taken from all logits of a position, so about the token's own logit
    is, before that rounding: then it hardly touches the logits that are near it or above, on which
    the log-likelihood depends.

    Args:
        states: (n, d).
        weight: (V, d), of the same type.
        tokens: (n,) int64.
    """
    own = (states * weight[tokens]).sum(-1, keepdim=True)
    logits = torch.addmm(own, states, weight.T, beta=-1).float()
    return functional.cross_entropy(logits, tokens, reduction="none")


@torch.no_grad()
def _probe(decoder: PreTrainedModel) -> bool:
    """Return whether the decoder's logits are its output layer on its last hidden state.

    The output layer's result is replaced by large numbers: whatever is done to the logits
    afterwards (a cap, a scale) shows, however small the true logits of this decoder are.
    """
    output_layer = decoder.get_output_embeddings()
    if output_layer is None or getattr(output_layer, "weight", None) is None:
        raise UserError(
            f"The decoder ({type(decoder).__name__}) has no output layer: "
            "give a causal language model, such as Llama, Qwen2 or GPT-2."
        )
    seen: dict[str, Tensor] = {}

    def replace_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["input"] = inputs[0]
        seen["output"] = torch.linspace(-1e3, 1e3, output.numel()).view(output.shape).to(output)
        return seen["output"]

    embed = token_embeddings(decoder)
    ids = torch.arange(8, device=embed.weight.device).view(2, 4) % embed.num_embeddings
    ids[1, :-1] = ids[0, :-1]
    inputs = {"inputs_embeds": embed(ids), "use_cache": False}
    # The same answer whoever asks, in the type of the weights.
    with dropout_off(decoder), torch.autocast(ids.device.type, enabled=False):
        true_logits = decoder(**inputs).logits.float()
        body = decoder.base_model(**inputs)
        hook = output_layer.register_forward_hook(replace_output)
        try:
            logits = decoder(**inputs).logits
        finally:
            hook.remove()
    if not torch.allclose(true_logits[0, :-1], true_logits[1, :-1], rtol=1e-3, atol=1e-4):
        raise UserError(
            f"The decoder ({type(decoder).__name__}) is not causal: it reads ahead. "
            "Give a causal language model (for BERT-like models: is_decoder=true)."
        )
    hidden = getattr(body, "last_hidden_state", None)
    return (
        hidden is not None
        and "output" in seen
        and hidden.shape == seen["input"].shape
        and torch.allclose(hidden, seen["input"], rtol=1e-4, atol=1e-5)
        and torch.equal(logits.float(), seen["output"].float())
    )


@contextmanager
def dropout_off(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
