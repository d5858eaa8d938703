import inspect
from dataclasses import fields
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

import refrag_rl.conf
from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.policies.pointer import PointerConfig

FILES = sorted((Path(refrag_rl.conf.__file__).parent / "agent").glob("*.yaml"))


def load(path: Path) -> DictConfig:
    root = {"seed": 0, "env": {"reward_timing": "terminal"}, "agent": OmegaConf.load(path)}
    config = OmegaConf.create(root)
    OmegaConf.resolve(config)
    return config.agent


LEARNING = {"grpo", "imitation", "ppo", "regression", "reinforce", "rloo"}


def test_every_heuristic_and_every_learning_agent_has_a_file():
    assert {path.stem for path in FILES} == {*HEURISTICS, *LEARNING}


RECIPES = {
    "ppo": {"warm_start": "regression"},
    "rloo": {"warm_start": "regression", "credit_per_chunk": True},
}
"""What a file sets beside an agent's bare algorithm."""

POLICY_RECIPE = {"reads_embeddings": False, "prompt_token": False}
"""The same of all policies."""

POLICY_RECIPES = {"regression": {"neighbours": "passage", "members": 5}}
"""And of one agent's."""

NOT_CHOSEN = ("embedding_size", "chunk_embeddings")
"""Of a policy: the model and ``env.chunk_embeddings`` decide."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_makes_the_agent_of_its_name(path):
    assert instantiate(load(path)).name == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_holds_every_argument_with_its_default(path):
    config = OmegaConf.to_container(load(path))
    arguments = inspect.signature(get_class(config.pop("_target_"))).parameters
    policy = config.pop("policy", None)
    defaults = {name: argument.default for name, argument in arguments.items()}
    if policy is not None:
        assert defaults.pop("policy") is None
        given = {f.name: f.default for f in fields(PointerConfig) if f.name not in NOT_CHOSEN}
        expected = given | POLICY_RECIPE | POLICY_RECIPES.get(path.stem, {})
        assert {**policy, "features": tuple(policy["features"])} == expected
    assert config == defaults | RECIPES.get(path.stem, {})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_has_a_comment(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    for line in lines[2:]:
        assert line == "policy:" or " # " in line
