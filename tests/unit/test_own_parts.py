"""What a command line names: selectors by pattern, and a model by what loads it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.comparison import build_selectors
from refrag_rl.composition import build_refrag
from refrag_rl.errors import UserError
from refrag_rl.modeling.checkpoint import LoadedRefrag, load_refrag
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.schema import RefragSection
from refrag_rl.sweeps import sweep_folder

WIDTH = 3
MODEL: Any = SimpleNamespace(embedding_size=WIDTH, projected_size=WIDTH, fingerprint="any")


def save_policy(folder: Path) -> None:
    policy = PointerPolicy(PointerConfig(embedding_size=WIDTH, width=4, heads=1, layers=1))
    PolicySelector(policy, "ppo").save(folder)


def test_a_pattern_stands_for_the_folders_with_policies_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for job in (0, 2, 10):
        save_policy(Path("sweep") / str(job) / "policy")
    (tmp_path / "sweep" / "multirun.yaml").write_text("seed: 0")
    (tmp_path / "sweep" / "3").mkdir()
    heuristics, policies = build_selectors(["random", "sweep/*", "sweep/2"], MODEL)
    assert [selector.name for selector in heuristics] == ["random"]
    names = [f"ppo sweep/{job}" for job in (0, 2, 10)]
    assert [selector.name for selector in policies] == names


def test_a_pattern_without_policies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\*.* matches no folder with a policy"):
        build_selectors([str(tmp_path / "nothing*")], MODEL)


def test_a_folder_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path) -> None:
    save_policy(tmp_path / "run[1]")
    _, policies = build_selectors([str(tmp_path / "run[1]")], MODEL)
    assert len(policies) == 1


def test_the_home_folder_is_known_to_multiruns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert sweep_folder("~/sweep", "runs/now") == "/home/someone/sweep"
    assert sweep_folder(None, "runs/now") == "runs/now"


def gives_a_wider_chunk(path: str, *, dtype: object, device: object) -> LoadedRefrag:
    loaded = load_refrag(path)
    loaded.model.config.chunk_size *= 2
    return loaded


def gives_a_word(path: str, *, dtype: object, device: object) -> str:
    return path


def section(path: Path, target: str) -> object:
    options = {"batch_tokens": 64, "cache_windows": 8, "cache_sets": 8, "path": str(path)}
    target = f"tests.unit.test_own_parts.{target}"
    return OmegaConf.structured(RefragSection(**options, _target_=target))


def test_a_model_is_what_its_target_gives(tiny_checkpoint: Path) -> None:
    usual = load_refrag(tiny_checkpoint).model.config.chunk_size
    own = build_refrag(section(tiny_checkpoint, "gives_a_wider_chunk"))
    assert own.chunk_size == 2 * usual


def test_a_target_that_gives_no_model_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(UserError, match="gives_a_word gave str; it has to return"):
        build_refrag(section(tiny_checkpoint, "gives_a_word"))
