"""Several policies as one: their networks together, whose logits are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from refrag_rl.errors import UserError
from refrag_rl.policies.pointer import PointerPolicy


def together(policies: Sequence[PointerPolicy]) -> PointerPolicy:
    """Return a policy of the networks of several, as of trainings with different seeds.

    Its logits are the mean over all networks (Lakshminarayanan et al. 2017, arXiv 1612.01474). They
    mean something together where they are predictions of one quantity, such as the gains of
    ``refrag_rl.agents.regression`` with one ``gain_scale``.

    Args:
        policies: At least one, of equal configs but for ``members``. They stay as they are.

    Raises:
        UserError: There is none, or their configs differ.
    """
    if not policies:
        raise UserError("no policy is given; give at least one")
    configs = [replace(policy.config, members=1) for policy in policies]
    if differing := [config for config in configs if config != configs[0]]:
        given, first = differing[0].to_mapping(), configs[0].to_mapping()
        name = next(name for name in first if given[name] != first[name])
        raise UserError(
            f"policy {name}={given[name]!r} and {name}={first[name]!r}: give policies of one shape"
        )
    networks = [network for policy in policies for network in policy.networks]
    combined = PointerPolicy(replace(configs[0], members=len(networks)))
    weights: dict[str, Tensor] = {}
    for index, network in enumerate(networks):
        prefix = f"others.{index - 1}." if index else ""
        # The first network of a policy is the policy itself, and holds the others.
        weights |= {
            prefix + name: tensor
            for name, tensor in network.state_dict().items()
            if not name.startswith("others.")
        }
    combined.load_state_dict(weights)
    return combined
