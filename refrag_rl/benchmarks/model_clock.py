"""Where the time of a reward model goes: its decoder and its encoder."""

from __future__ import annotations

import time
from typing import NamedTuple

from torch import nn

from refrag_rl.benchmarks.machine import wait_for
from refrag_rl.reward import RewardModel


class ModelSeconds(NamedTuple):
    """Time spent since a clock was started, in seconds.

    Attributes:
        decoder: Reading sequences and scoring their tokens.
        encoder: Encoding chunks and prompts.
    """

    decoder: float
    encoder: float

    def __sub__(self, earlier: ModelSeconds) -> ModelSeconds:
        """Return what was spent in between."""
        return ModelSeconds(self.decoder - earlier.decoder, self.encoder - earlier.encoder)


class ModelClock:
    """Counts the time inside a model for as long as it is entered.

    Args:
        reward_model: Whose decoder and encoder are watched.
    """

    def __init__(self, reward_model: RewardModel) -> None:
        self._reward_model = reward_model
        self._decoder_before = reward_model.seconds
        self._encoder = 0.0
        self._encoding_since = 0.0

    def __enter__(self) -> ModelClock:
        encoder = self._reward_model.model.encoder
        self._hooks = (
            encoder.register_forward_pre_hook(self._begin_encoding),
            encoder.register_forward_hook(self._end_encoding),
        )
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def read(self) -> ModelSeconds:
        """Return the time so far."""
        return ModelSeconds(self._reward_model.seconds - self._decoder_before, self._encoder)

    def _begin_encoding(self, encoder: nn.Module, inputs: object) -> None:
        wait_for(self._reward_model.model.device)
        self._encoding_since = time.perf_counter()

    def _end_encoding(self, encoder: nn.Module, inputs: object, output: object) -> None:
        wait_for(self._reward_model.model.device)
        self._encoder += time.perf_counter() - self._encoding_since
