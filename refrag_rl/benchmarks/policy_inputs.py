"""What a policy reads of a request beside the chunk embeddings, computed where it is not stored.

1. Log-perplexity and reconstruction loss depend on a chunk alone: where chunk embeddings are
   stored, so are they. Else each is a decoder pass over all chunks.
2. All else is computed in every request: the prompt's embedding is a pass of the encoder over the
   prompt; similarity, lexical overlap and the match of the prompt's end are computed from the
   prompt, the other features from the order and the scores of the passages, on the CPU.
3. The functions are those of the environment and of the reward model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refrag_rl.benchmarks.requests import Request
from refrag_rl.envs.features import similarity, window_feature
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.chunk_statistics import chunk_log_perplexity, reconstruction_loss
from refrag_rl.modeling.sequences import SequenceScorer
from refrag_rl.observation import CHUNK_FEATURES
from refrag_rl.policies.pointer import PointerConfig

OF_A_CHUNK = ("log_perplexity", "reconstruction_loss")
"""Features that can be stored with the chunk embeddings."""


class Observed(NamedTuple):
    """What a policy is given.

    Attributes:
        observation: Tensors of one row, on the model's device; as ``PointerPolicy`` reads them.
        computed: Names of what was computed for it: ``prompt_embedding`` and chunk features.
    """

    observation: dict[str, Tensor]
    computed: tuple[str, ...]


class PolicyInputs:
    """Makes the observation of one request.

    Args:
        model: On the device where it is to run.
        config: Of the policy; says what it reads.
        request: Of the chunk size.
        chunk_size: ``k``.
        encode: The model's encoder, in batches: (n, t) ids to (n, d_enc) embeddings.
        batch_tokens: Tokens that the decoder reads at once for chunk statistics, at most.
    """

    def __init__(
        self,
        model: RefragForCausalLM,
        config: PointerConfig,
        request: Request,
        chunk_size: int,
        encode: Callable[[Tensor], Tensor],
        batch_tokens: int,
    ) -> None:
        self._model = model
        self._config = config
        self._features = config.inputs.features
        self._window = request.window(chunk_size)
        self._prompt_encoder_ids = request.prompt_encoder_ids
        self._encode = encode
        # Weights of bfloat16 are read as such; the scorer's float32 inputs need autocast for it.
        self._scorer = SequenceScorer(model, batch_tokens, model.dtype == torch.bfloat16)
        self._stored: dict[str, NDArray[np.floating]] = {}

    def store(self, chunk_embeddings: Tensor) -> None:
        """Compute what is stored with the chunk embeddings (L, d_enc)."""
        for name in OF_A_CHUNK:
            if name in self._features:
                self._stored[name] = self._of_a_chunk(name, chunk_embeddings)

    def observe(self, chunk_embeddings: Tensor) -> Observed:
        """Return what the policy is given, and what was computed for it.

        Args:
            chunk_embeddings: (L, d_enc), on the model's device.
        """
        computed = [name for name in self._features if name not in self._stored]
        read, prompt = chunk_embeddings, None
        if len(self._prompt_encoder_ids) and (
            self._config.prompt_token or "similarity" in self._features
        ):
            prompt = self._encode(self._prompt_encoder_ids).mean(0)
            computed.insert(0, "prompt_embedding")
        if self._config.chunk_embeddings == "projector":
            read = self._model.project(read)
            prompt = None if prompt is None else self._model.project(prompt)
        prompt = torch.zeros_like(read[0]) if prompt is None else prompt
        features = np.full((len(read), len(CHUNK_FEATURES)), np.nan, dtype=np.float32)
        for name in self._features:
            column = self._feature(name, chunk_embeddings, read, prompt)
            features[:, CHUNK_FEATURES.index(name)] = column
        observation = {
            "chunk_embeddings": read[None],
            "chunk_mask": torch.ones(1, len(read), dtype=torch.bool, device=read.device),
            "prompt_embedding": prompt[None],
            "features": torch.from_numpy(features).to(read.device)[None],
        }
        return Observed(observation, tuple(computed))

    def _feature(
        self, name: str, chunk_embeddings: Tensor, read: Tensor, prompt: Tensor
    ) -> NDArray[np.floating]:
        """Return one feature, (L,).

        Args:
            name: Of ``CHUNK_FEATURES``.
            chunk_embeddings: (L, d_enc).
            read: (L, d), those that the policy reads.
            prompt: (d,), of the same kind.
        """
        if name in self._stored:
            return self._stored[name]
        if name in OF_A_CHUNK:
            return self._of_a_chunk(name, chunk_embeddings)
        if name == "similarity":
            return similarity(self._window, _on_host(read), _on_host(prompt))
        return window_feature(name, self._window)

    def _of_a_chunk(self, name: str, chunk_embeddings: Tensor) -> NDArray[np.float32]:
        """Return one of ``OF_A_CHUNK``, (L,)."""
        chunks = self._window.context_ids
        if name == "log_perplexity":
            return chunk_log_perplexity(self._scorer, chunks)
        return reconstruction_loss(self._scorer, chunks, _on_host(chunk_embeddings))


def _on_host(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    return array
