"""``PointerPolicy`` as a policy class of stable-baselines3.

The base class does what it does for any masked policy (sampling, masking, log-probabilities,
values); here its networks are replaced: the features extractor is the whole pointer, which gives
the logits and the value side by side, and the two heads only take their part.
"""

from __future__ import annotations

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from refrag_rl.policies.pointer import PointerPolicy

LOWEST_LOGIT = -1e8
"""Stands for ``-inf`` on padding chunks, which the action mask excludes anyway."""


class PointerExtractor(BaseFeaturesExtractor):
    """The pointer as a features extractor: observation -> logits and value, (B, L + 1).

    Args:
        observation_space: Of the environment, chunks unflattened.
        pointer: The network; shared with whoever made it, not copied.
    """

    def __init__(self, observation_space: spaces.Dict, pointer: PointerPolicy) -> None:
        shape = observation_space["chunk_mask"].shape
        assert shape is not None
        super().__init__(observation_space, features_dim=shape[0] + 1)
        self.pointer = pointer

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return the logits and, last, the value, (B, L + 1).

        Raises:
            NotFiniteError: See ``PointerPolicy.logits_and_value``.
        """
        logits, value = self.pointer.logits_and_value(observations)
        return torch.cat([logits.clamp(min=LOWEST_LOGIT), value.unsqueeze(-1)], dim=-1)


class Logits(nn.Module):
    """Takes the logits from what ``PointerExtractor`` gives."""

    def forward(self, latent: Tensor) -> Tensor:
        """Return (B, L)."""
        return latent[:, :-1]


class Value(nn.Module):
    """Takes the value from what ``PointerExtractor`` gives."""

    def forward(self, latent: Tensor) -> Tensor:
        """Return (B, 1)."""
        return latent[:, -1:]


class MaskablePointerPolicy(MaskableActorCriticPolicy):
    """A masked actor-critic whose only network is a ``PointerPolicy``.

    Args:
        observation_space: Of the environment, chunks unflattened. Batches whose contexts stand
            once (``policies.sharing.CONTEXT``) are read, too.
        action_space: ``Discrete(L)``.
        lr_schedule: Share of the training left -> learning rate.
        pointer: The network to train.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        pointer: PointerPolicy,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch={"pi": [], "vf": []},
            ortho_init=False,
            features_extractor_class=PointerExtractor,
            features_extractor_kwargs={"pointer": pointer},
        )

    def _build(self, lr_schedule: Schedule) -> None:
        """Put the heads in place and make the optimiser, in place of the linear layers."""
        self._build_mlp_extractor()
        self.action_net = Logits()
        # Declared as a linear layer; anything that maps (B, L + 1) to (B, 1) does.
        self.value_net = Value()  # type: ignore[assignment]
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),
            **self.optimizer_kwargs,  # type: ignore[call-arg]
        )

    def extract_features(
        self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor | None = None
    ) -> Tensor:
        """Give the observation to the pointer as it is.

        The library would turn its arrays into float32 by the names of the observation space, which
        a batch whose contexts stand once does not keep to.
        """
        latent: Tensor = self.features_extractor(obs)
        return latent
