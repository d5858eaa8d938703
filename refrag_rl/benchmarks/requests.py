"""From what a server is given to what the decoder reads: the part of a request before the prefill.

1. A request holds a context, cut into chunks, and a prompt. All of it lies in the host's memory;
   moving it to the device is in its time, tokenizing is not.
2. Full context: the tokens' embeddings.
3. REFRAG: chunk embeddings, which were computed beforehand (cached) or are computed now; the
   projector; the mixed sequence of ``refrag_rl.modeling.mixing``.
4. With a policy: its pass over the chunk embeddings and its picks come before the mixing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from refrag_rl.benchmarks.methods import Method
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.policies.plackett_luce import expanded_from, greedy
from refrag_rl.policies.pointer import PointerPolicy

SPECIAL_TOKENS = 2
"""Tokens that an encoder with a tokenizer of its own sets around a chunk's ``k``."""


@dataclass(frozen=True)
class Request:
    """What a server is given, in the host's memory.

    Attributes:
        context_ids: (s,) int64.
        prompt_ids: (q,) int64.
        encoder_ids: (L, k + 2) int64, the chunks in the encoder's vocabulary; none (0, 2) for the
            full context.
    """

    context_ids: Tensor
    prompt_ids: Tensor
    encoder_ids: Tensor

    @classmethod
    def draw(
        cls,
        model: RefragForCausalLM,
        *,
        length: int,
        prompt_length: int,
        chunk_size: int | None,
        seed: int,
    ) -> Request:
        """Draw a request of random tokens; the same seed gives the same context and prompt."""
        generator = torch.Generator().manual_seed(seed)

        def tokens(part: PreTrainedModel, *shape: int) -> Tensor:
            return torch.randint(part.config.vocab_size, shape, generator=generator)

        context, prompt = tokens(model.decoder, length), tokens(model.decoder, prompt_length)
        chunks, size = (0, 0) if chunk_size is None else (length // chunk_size, chunk_size)
        return cls(context, prompt, tokens(model.encoder, chunks, size + SPECIAL_TOKENS))


class Reader:
    """Makes the decoder's input of one request by one method.

    Args:
        model: On the device where it is to run.
        policy: Reads chunk embeddings and nothing else; on the same device.
        method: How the context is read.
        request: Of the method's chunk size.
        encoder_tokens: Tokens that the encoder reads at once, at most.
    """

    def __init__(
        self,
        model: RefragForCausalLM,
        policy: PointerPolicy,
        method: Method,
        request: Request,
        encoder_tokens: int,
    ) -> None:
        self._model = model
        self._policy = policy
        self._request = request
        self._chunk_size = method.chunk_size
        self._budget = method.budget(len(request.context_ids))
        self._encoder_tokens = encoder_tokens
        self._stored: Tensor | None = None
        if method.is_cached:
            with torch.inference_mode():
                self._stored = self._encode().cpu()

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        """Return the decoder's ``inputs_embeds`` (1, T, d_dec)."""
        if self._chunk_size is None:
            return self._embed_tokens()
        stored, device = self._stored, self._model.device
        chunk_embeddings = (self._encode() if stored is None else stored.to(device))[None]
        context_ids = self._request.context_ids.to(device).view(1, -1, self._chunk_size)
        chunk_mask = torch.ones(context_ids.shape[:2], dtype=torch.bool, device=device)
        expanded = torch.zeros_like(chunk_mask)
        if self._budget:
            expanded = self._pick(chunk_embeddings, chunk_mask)
        layout = self._model.lay_out(
            context_ids,
            chunk_mask,
            expanded,
            self._request.prompt_ids.to(device)[None],
            context_ids.new_zeros(1, 0),
        )
        return self._model.embed(layout, chunk_embeddings)

    def _embed_tokens(self) -> Tensor:
        bos = torch.tensor([self._model.config.bos_token_id])
        ids = torch.cat([bos, self._request.context_ids, self._request.prompt_ids])
        embeddings: Tensor = self._model.get_input_embeddings()(ids.to(self._model.device)[None])
        return embeddings

    def _encode(self) -> Tensor:
        """Return the chunk embeddings (L, d_enc)."""
        ids = self._request.encoder_ids.to(self._model.device)
        size = max(1, self._encoder_tokens // ids.shape[1])
        parts = [self._model.encode_chunks(part, torch.ones_like(part)) for part in ids.split(size)]
        return torch.cat(parts)

    def _pick(self, chunk_embeddings: Tensor, chunk_mask: Tensor) -> Tensor:
        """Return the chunks that the policy expands, (1, L) bool."""
        budget = torch.tensor([self._budget], device=chunk_mask.device)
        observation = {"chunk_embeddings": chunk_embeddings, "chunk_mask": chunk_mask}
        order = greedy(self._policy(observation, budget), budget)
        return expanded_from(order, chunk_mask.shape[1])
