"""From what a server is given to what the decoder reads: the part of a request before the prefill.

1. A request holds a context, cut into chunks, and a prompt. All of it lies in the host's memory;
   moving it to the device is in its time, tokenizing is not.
2. Full context: the tokens' embeddings.
3. REFRAG: chunk embeddings, which were computed beforehand (cached) or are computed now; the
   projector; the mixed sequence of ``refrag_rl.modeling.mixing``.
4. With a policy: what it reads, its pass and its picks come before the mixing. What can be stored
   with the chunk embeddings is computed beforehand with them (``policy_inputs``).
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

from refrag_rl.benchmarks.machine import wait_for
from refrag_rl.benchmarks.methods import Method
from refrag_rl.benchmarks.policy_inputs import PolicyInputs
from refrag_rl.benchmarks.requests import Request
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.policies import selections
from refrag_rl.policies.plackett_luce import expanded_from
from refrag_rl.policies.pointer import PointerPolicy


class Reading(NamedTuple):
    """A request, ready for the decoder.

    Attributes:
        inputs_embeds: (1, T, d_dec).
        selection_seconds: Time from the chunk embeddings to the chunks picked; ``None`` without a
            policy.
        computed: What was computed in the request before the mixing: ``chunk_embeddings``,
            ``prompt_embedding``, names of chunk features, ``policy`` (its pass and its picks).
    """

    inputs_embeds: Tensor
    selection_seconds: float | None = None
    computed: tuple[str, ...] = ()


class Reader:
    """Makes the decoder's input of one request by one method.

    Args:
        model: On the device where it is to run.
        policy: On the same device.
        method: How the context is read.
        request: Of the method's chunk size.
        encoder_tokens: Tokens that the encoder reads at once, at most, and the decoder where it
            reads chunks for the policy.
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
        self._inputs: PolicyInputs | None = None
        if method.chunk_size is not None and self._budget:
            self._inputs = PolicyInputs(
                model, policy.config, request, method.chunk_size, self._encode, encoder_tokens
            )
        self._stored: Tensor | None = None
        if method.is_cached:
            with torch.inference_mode():
                embeddings = self._encode(request.encoder_ids)
                self._stored = embeddings.cpu()
                if self._inputs is not None:
                    self._inputs.store(embeddings)

    @torch.inference_mode()
    def __call__(self) -> Reading:
        """Return what the decoder reads, and what that took."""
        if self._chunk_size is None:
            return Reading(self._embed_tokens())
        device = self._model.device
        computed: tuple[str, ...] = ()
        if self._stored is None:
            chunk_embeddings = self._encode(self._request.encoder_ids)
            computed = ("chunk_embeddings",)
        else:
            chunk_embeddings = self._stored.to(device)
        context_ids = self._request.context_ids.to(device).view(1, -1, self._chunk_size)
        chunk_mask = torch.ones(context_ids.shape[:2], dtype=torch.bool, device=device)
        expanded, seconds = torch.zeros_like(chunk_mask), None
        if self._inputs is not None:
            wait_for(device)
            started = time.perf_counter()
            observed = self._inputs.observe(chunk_embeddings)
            expanded = self._pick(observed.observation)
            wait_for(device)
            seconds = time.perf_counter() - started
            computed += (*observed.computed, "policy")
        layout = self._model.lay_out(
            context_ids,
            chunk_mask,
            expanded,
            self._request.prompt_ids.to(device)[None],
            context_ids.new_zeros(1, 0),
        )
        inputs_embeds = self._model.embed(layout, chunk_embeddings[None])
        return Reading(inputs_embeds, seconds, computed)

    def _embed_tokens(self) -> Tensor:
        bos = torch.tensor([self._model.config.bos_token_id])
        ids = torch.cat([bos, self._request.context_ids, self._request.prompt_ids])
        embeddings: Tensor = self._model.get_input_embeddings()(ids.to(self._model.device)[None])
        return embeddings

    def _encode(self, ids: Tensor) -> Tensor:
        """Return the encoder's embeddings (n, d_enc) of ids (n, t)."""
        size = max(1, self._encoder_tokens // ids.shape[1])
        parts = [
            self._model.encode_chunks(part, torch.ones_like(part))
            for part in ids.to(self._model.device).split(size)
        ]
        return torch.cat(parts)

    def _pick(self, observation: dict[str, Tensor]) -> Tensor:
        """Return the chunks that the policy expands, (1, L) bool."""
        mask = observation["chunk_mask"]
        budget = torch.tensor([self._budget], device=mask.device)
        return expanded_from(selections.greedy(self._policy, observation, budget), mask.shape[1])
