import numpy as np
import pytest

from refrag_rl.agents.grpo import Grpo
from refrag_rl.agents.monitor import NullMonitor
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.agents.shipped import find_shipped
from refrag_rl.envs.vector import SelectiveExpansionVectorEnv
from refrag_rl.errors import UserError
from refrag_rl.observation import CHUNK_FEATURES, Inputs
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from tests.toy_problem import toy_problem

PROJECTED = Inputs(CHUNK_FEATURES, "projector")


def agent_of(*features: str) -> Grpo:
    return Grpo(
        policy={"features": list(features), "width": 8},
        total_rewards=32,
        windows_per_update=4,
        device="cpu",
    )


def learn(agent: Grpo, inputs: Inputs, refrag: str | None = None) -> None:
    problem = toy_problem(2, inputs=inputs)
    problem.reward_model.fingerprint = refrag  # type: ignore[attr-defined]
    agent.learn(SelectiveExpansionVectorEnv(problem, 4), NullMonitor())


def test_a_policy_says_what_it_reads_and_keeps_it_on_disk(tmp_path):
    agent = agent_of("reconstruction_loss", "lexical")
    assert agent.inputs == Inputs(("reconstruction_loss", "lexical"))
    learn(agent, PROJECTED, "abc")
    agent.save(tmp_path)
    loaded = PolicySelector.load(tmp_path)
    assert loaded.inputs == Inputs(("reconstruction_loss", "lexical"), "projector")
    assert loaded.refrag == "abc"
    problem = toy_problem(2, inputs=PROJECTED)
    budgets = np.array([2, 2])
    chosen = loaded.select(problem.observe([0, 1], budgets), budgets, np.random.default_rng(0))
    assert chosen.sum(1).tolist() == [2, 2]
    with pytest.raises(UserError, match="without the feature reconstruction_loss"):
        loaded.select(
            problem.observe([0], [2], Inputs(("lexical",))), budgets[:1], np.random.default_rng(0)
        )


def test_other_features_embeddings_or_weights_are_refused(tmp_path):
    agent = agent_of("lexical")
    learn(agent, Inputs(("lexical",)), "abc")
    agent.save(tmp_path)
    for inputs, refrag, message in (
        (Inputs(("position",)), "abc", "reads the feature lexical"),
        (PROJECTED, "abc", "give env.chunk_embeddings=encoder"),
        (Inputs(), "abd", "trained on another REFRAG"),
    ):
        other = agent_of("lexical")
        other.load(tmp_path)
        with pytest.raises(UserError, match=message):
            learn(other, inputs, refrag)


def test_the_width_and_source_of_embeddings_are_not_the_policy_s_to_choose():
    with pytest.raises(UserError, match=r"env\.chunk_embeddings"):
        Grpo(policy={"chunk_embeddings": "projector"})


def test_a_shipped_policy_belongs_to_one_model(tmp_path):
    for name, refrag in (("default", "abc"), ("recall", "abd")):
        policy = PointerPolicy(PointerConfig(3, width=8))
        PolicySelector(policy, "grpo", refrag=refrag).save(tmp_path / "tiny" / name)
    assert find_shipped("policy:default", "abc", tmp_path) == tmp_path / "tiny" / "default"
    with pytest.raises(UserError, match=r"for this model: policy:default; in all: tiny/default"):
        find_shipped("policy:recall", "abc", tmp_path)
    with pytest.raises(UserError, match="for this model: none"):
        find_shipped("policy:default", "abe", tmp_path)
