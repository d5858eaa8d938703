"""Policy folders that are damaged, or not for this model, are refused; none is half read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from tests.bad_input.checking import QUICK, check_refused
from tests.bad_input.damage import (
    NO_JSON,
    NO_SAFETENSORS,
    UNREADABLE,
    Damage,
    first,
    put,
    tensors,
    without,
)
from tests.cli.running import InProcess

DESCRIPTIONS: dict[str, Damage] = {
    **NO_JSON,
    "other-format": put("format", "policy"),
    "next-version": put("version", 2),
    "version-text": put("version", "1"),
    "other-kind": put("kind", "mlp"),
    "kind-list": put("kind", ["pointer"]),
    "no-config": without("config"),
    "config-list": put("config", [1]),
    "config-null": put("config", None),
    "config-empty": put("config", {}),
    "unknown": put("config.depth", 3),
    "target": put("config._target_", "os.system"),
    "size-0": put("config.embedding_size", 0),
    "size-text": put("config.embedding_size", "16"),
    "size-other": put("config.embedding_size", 24),
    "size-huge": put("config.embedding_size", 10**30),
    "width-huge": put("config.width", 2**40),
    "width-large": put("config.width", 200_000),
    "width-other": put("config.width", 32),
    "layers-huge": put("config.layers", 10**9),
    "layers-other": put("config.layers", 1),
    "heads-3": put("config.heads", 3),
    "neighbours": put("config.neighbours", ["passage"]),
    "neighbours-other": put("config.neighbours", "passage"),
    "kernel-even": put("config.kernel", 2),
    "members-huge": put("config.members", 2**33),
    "kernel-huge": put("config.kernel", 2**33 + 1),
    "features-text": put("config.features", "position"),
    "features-null": put("config.features", None),
    "features-number": put("config.features", 5),
    "features-lists": put("config.features", [["position"]]),
    "features-objects": put("config.features", [{}]),
    "features-unknown": put("config.features", ["\x1b[31m[red]"]),
    "features-other": put("config.features", ["position"]),
    "logits": put("config.logits", ["once"]),
    "prompt": put("config.prompt_token", 1),
    "scale": put("config.output_scale", "x"),
    "hash": put("weights_sha256", "0" * 64),
    "hash-number": put("weights_sha256", 5),
}

WEIGHTS: dict[str, Damage] = {
    **NO_SAFETENSORS,
    **UNREADABLE,
    "none": tensors(lambda own: own.clear()),
    "one-less": tensors(lambda own: own.popitem()),
    "one-more": tensors(lambda own: own.update(more=torch.zeros(1))),
    "renamed": tensors(lambda own: own.update({"../weight": own.pop(min(own))})),
    "wider": first(lambda tensor: torch.cat([tensor, tensor])),
    "flat": first(torch.flatten),
    "transposed": tensors(
        lambda own: own.update({n: own[n].t().contiguous() for n in own if own[n].ndim == 2})
    ),
    "nan": first(lambda tensor: tensor * float("nan")),
    "infinite": first(lambda tensor: tensor / 0),
    "double": first(torch.Tensor.double),
    "complex": first(lambda tensor: tensor.to(torch.complex64)),
    "whole": first(torch.Tensor.int),
    "float8": first(lambda tensor: tensor.to(torch.float8_e4m3fn)),
}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return a policy for the tiny model."""
    config = PointerConfig(embedding_size=16, width=16, heads=2)
    PolicySelector(PointerPolicy(config), "grpo").save(tmp_path / "policy")
    return tmp_path / "policy"


def use(in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path) -> None:
    quick = ("count=2", "rates=[2]", "corpus.split=all", "output=out")
    check_refused(in_process("evaluate", *tiny, *quick, "selectors=[policy]"), tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_damaged_description(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, policy: Path, name: str
) -> None:
    DESCRIPTIONS[name](policy / "policy.json")
    use(in_process, tiny, tmp_path)


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, policy: Path, name: str
) -> None:
    WEIGHTS[name](policy / "policy.safetensors")
    if name not in UNREADABLE and (policy / "policy.safetensors").is_file():
        # As one who wants them to be read would do.
        whole = (policy / "policy.safetensors").read_bytes()
        put("weights_sha256", hashlib.sha256(whole).hexdigest())(policy / "policy.json")
    use(in_process, tiny, tmp_path)


def test_a_policy_of_another_model_of_the_same_width(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, policy: Path
) -> None:
    put("refrag", "0123456789abcdef")(policy / "policy.json")
    use(in_process, tiny, tmp_path)


@pytest.mark.parametrize("key", ["start_from", "agent.warm_start"])
def test_a_policy_for_another_model_to_start_from(
    in_process: InProcess, tiny: tuple[str, ...], tmp_path: Path, key: str
) -> None:
    PolicySelector(PointerPolicy(PointerConfig(embedding_size=24)), "grpo").save("policy")
    given = ("agent=grpo", *tiny, *QUICK, f"{key}=policy", "output=out")
    check_refused(in_process("train", *given), tmp_path)


@pytest.mark.parametrize("name", ["full_context", "oracle", "recency"])
def test_a_policy_with_the_name_of_another_row_is_shown_with_its_folder(
    in_process: InProcess, tiny: tuple[str, ...], policy: Path, name: str
) -> None:
    put("agent", name)(policy / "policy.json")
    quick = ("count=2", "rates=[2]", "corpus.split=all", "oracle=0", "output=out")
    outcome = in_process("evaluate", *tiny, *quick, "selectors=[policy,recency]")
    assert outcome.code == 0, outcome.err
    rows = [row["selector"] for row in json.loads(Path("out/comparison.json").read_text())]
    assert rows.count(f"{name} policy") == rows.count(name) > 0


def test_what_a_policy_calls_itself_is_shown_as_text(
    in_process: InProcess, tiny: tuple[str, ...], policy: Path
) -> None:
    put("agent", "\x1b[31m[bold]$\\frac{<script>")(policy / "policy.json")
    quick = ("count=2", "rates=[2]", "corpus.split=all", "output=out")
    outcome = in_process("evaluate", *tiny, *quick, "selectors=[policy,recency]")
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out and "[bold]" in outcome.out.replace("\n", "")
    names = {row["selector"] for row in json.loads(Path("out/comparison.json").read_text())}
    assert any("<script>" in name for name in names)
