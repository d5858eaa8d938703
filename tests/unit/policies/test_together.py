"""Networks of several policies as one."""

from __future__ import annotations

import pytest
import torch

from refrag_rl.errors import UserError
from refrag_rl.observation import CHUNK_FEATURES
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.policies.together import together

SHAPE = {"embedding_size": 6, "width": 8, "heads": 2, "output_scale": 1.0}


def of(members: int, **changes: object) -> PointerPolicy:
    return PointerPolicy(PointerConfig.from_mapping({**SHAPE, **changes, "members": members}))


def observation() -> dict[str, torch.Tensor]:
    return {
        "chunk_embeddings": torch.randn(3, 5, 6),
        "chunk_mask": torch.ones(3, 5),
        "prompt_embedding": torch.randn(3, 6),
        "features": torch.rand(3, 5, len(CHUNK_FEATURES)),
    }


def test_its_logits_are_the_mean_over_all_networks() -> None:
    policies = [of(1), of(3), of(2)]
    before = [{name: value.clone() for name, value in p.state_dict().items()} for p in policies]
    combined = together(policies)
    seen, budget = observation(), torch.tensor([1, 2, 3])
    each = torch.cat([policy.of_members(seen, budget) for policy in policies])
    assert combined.config.members == 6
    assert torch.equal(combined.of_members(seen, budget), each)
    assert torch.allclose(combined(seen, budget), each.mean(0))
    assert len({tuple(row.tolist()) for row in each[:, 0]}) == 6, "networks that differ"
    with torch.no_grad():
        for parameter in combined.parameters():
            parameter.add_(1.0)
    for policy, old in zip(policies, before, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in policy.state_dict().items())


@pytest.mark.parametrize(
    ("policies", "said"),
    [([], "no policy"), ([of(2), of(2, width=16)], "policy width=16 and width=8")],
)
def test_what_cannot_be_one(policies: list[PointerPolicy], said: str) -> None:
    with pytest.raises(UserError, match=said):
        together(policies)
