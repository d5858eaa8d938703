"""What a training starts with: the policy, the device and the inputs that its user named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from refrag_rl.agents import demonstrations, gain_fitting
from refrag_rl.agents.loading import find_policy
from refrag_rl.agents.selector import Problem
from refrag_rl.errors import UserError
from refrag_rl.observation import Inputs
from refrag_rl.policies.pointer import PointerPolicy


class WarmStart(Protocol):
    """Trains a policy before an agent's own learning."""

    def __call__(
        self,
        policy: PointerPolicy,
        problem: Problem,
        rewards: int,
        seed: int,
        max_grad_norm: float,
        advance: Callable[[int], None],
    ) -> int:
        """Train a policy in place, and return how many sets were scored for it.

        Args:
            policy: To train.
            problem: Windows, and what scores them.
            rewards: Sets to score, at least; whole updates.
            seed: Same seed, same policy.
            max_grad_norm: Gradients are scaled down to this norm.
            advance: Told after each update how many sets were scored so far.
        """
        ...


WARM_STARTS: dict[str, WarmStart] = {
    "imitation": demonstrations.warm_start,
    "regression": gain_fitting.warm_start,
}
"""Those that are no folder."""


def read_warm_start(given: object) -> str | Path | None:
    """Return one of ``WARM_STARTS``, the policy folder that the user named, or None.

    Raises:
        UserError: It is neither.
    """
    if given is None or (isinstance(given, str) and given in WARM_STARTS):
        return given
    folder = find_policy(given) if isinstance(given, str | Path) else None
    if folder is None:
        raise UserError(
            f"agent.warm_start={given!r}: give {', '.join(WARM_STARTS)}, null, or a run or policy "
            "folder"
        )
    return folder


def agent_device(device: object) -> torch.device:
    """Return the torch device that the user named.

    Raises:
        UserError: It cannot be used here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(str(device))
        usable = chosen.type != "meta"
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, ImportError, NotImplementedError, ValueError):
        usable = False
    if not usable:
        raise UserError(
            f"agent.device={device!r} cannot be used here; give auto, cpu, cuda or cuda:0"
        )
    return chosen


def check_inputs(needed: Inputs, given: Inputs) -> None:
    """Check that a problem's observations hold what a policy reads.

    Raises:
        UserError: They do not.
    """
    missing = [name for name in needed.features if name not in given.features]
    if missing:
        raise UserError(
            f"the policy reads the feature {missing[0]}, which the environment does not compute; "
            f"its inputs are {', '.join(given.features) or 'none'}"
        )
    source = given.chunk_embeddings or "encoder"
    if needed.chunk_embeddings not in (None, source):
        raise UserError(
            f"the policy reads chunk embeddings of the {needed.chunk_embeddings}, the environment "
            f"gives those of the {source}; give env.chunk_embeddings={needed.chunk_embeddings}"
        )
