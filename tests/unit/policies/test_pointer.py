import pytest
import torch

from refrag_rl.errors import NotFiniteError, UserError
from refrag_rl.observation import CHUNK_FEATURES
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.policies.sharing import shared_contexts

D, L = 10, 7
PAPER = {"features": (), "prompt_token": False, "budget_token": False}


def make_policy(**options) -> PointerPolicy:
    torch.manual_seed(0)
    return PointerPolicy(PointerConfig(D, **{"width": 16, "output_scale": 1.0, **options}))


def make_observation(batch: int = 3, chunks: int = L, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "chunk_embeddings": torch.randn(batch, chunks, D, generator=generator),
        "prompt_embedding": torch.randn(batch, D, generator=generator),
        "features": torch.rand(batch, chunks, len(CHUNK_FEATURES), generator=generator),
        "chunk_mask": torch.ones(batch, chunks, dtype=torch.int8),
        "expanded": torch.zeros(batch, chunks, dtype=torch.int8),
        "budget_left": torch.full((batch, 1), 3.0),
    }


def budget(batch: int = 3) -> torch.Tensor:
    return torch.full((batch,), 3)


def test_the_papers_policy_knows_no_positions():
    policy, observation = make_policy(**PAPER), make_observation()
    order = torch.tensor([3, 0, 6, 5, 1, 2, 4])
    moved = {**observation, "chunk_embeddings": observation["chunk_embeddings"][:, order]}
    logits = policy(observation, budget())
    torch.testing.assert_close(policy(moved, budget()), logits[:, order])


def test_the_papers_policy_reads_nothing_but_the_chunk_embeddings():
    policy, observation = make_policy(**PAPER), make_observation()
    other = {**make_observation(seed=1), "chunk_embeddings": observation["chunk_embeddings"]}
    assert torch.equal(policy(observation, budget()), policy(other, budget() + 2))


@pytest.mark.parametrize("logits", ["once", "each_pick"])
def test_members_differ_and_the_policy_is_their_mean(logits):
    policy, observation = make_policy(members=3, logits=logits), make_observation()
    observation["expanded"][:, 2] = 1
    of_members = policy.of_members(observation, budget())
    assert of_members.shape == (3, 3, L)
    assert torch.pdist(of_members.flatten(1)).min() > 0.1
    torch.testing.assert_close(policy(observation, budget()), of_members.mean(0))
    alone = [member(observation, budget()) for member in policy.others]
    torch.testing.assert_close(of_members[1:], torch.stack(alone))
    inside, value = policy.logits_and_value(observation)
    found = [member.logits_and_value(observation) for member in policy.others]
    first = make_policy(logits=logits)
    first.load_state_dict(
        {name: each for name, each in policy.state_dict().items() if "others" not in name}
    )
    found.append(first.logits_and_value(observation))
    torch.testing.assert_close(inside, torch.stack([each for each, _ in found]).mean(0))
    torch.testing.assert_close(value, torch.stack([each for _, each in found]).mean(0))


def test_one_member_is_the_policy_of_before():
    assert not [name for name in make_policy().state_dict() if "others" in name]


def test_a_policy_of_features_alone_reads_no_embeddings():
    policy = make_policy(reads_embeddings=False, prompt_token=False)
    observation = make_observation()
    other = {**make_observation(seed=1), "features": observation["features"]}
    assert torch.equal(policy(observation, budget()), policy(other, budget()))
    assert "embedding_in.weight" not in policy.state_dict()


@pytest.mark.parametrize("name", ["prompt_embedding", "features"])
def test_the_default_policy_reads_prompt_and_features(name):
    policy, observation = make_policy(), make_observation()
    other = {**observation, name: make_observation(seed=1)[name]}
    assert not torch.allclose(policy(observation, budget()), policy(other, budget()))


def test_the_default_policy_reads_the_total_budget():
    policy, observation = make_policy(), make_observation()
    assert not torch.allclose(policy(observation, budget()), policy(observation, budget() + 2))


def test_a_match_reaches_the_scores_of_the_next_chunks_without_attention():
    policy = make_policy(features=("suffix_match",), layers=1)
    observation = make_observation(1)
    observation["features"] = observation["features"] * 0
    hidden = policy.neighbours(observation["features"][..., 4:6], torch.ones(1, L).bool())
    observation["features"][0, 2, 4] = 1
    moved = policy.neighbours(observation["features"][..., 4:6], torch.ones(1, L).bool())
    changed = (hidden - moved).abs().amax(-1)[0] > 0
    assert changed[2:7].all()


def test_neighbours_of_a_passage_are_two_before_and_one_after_and_end_at_its_borders():
    policy = make_policy(features=("suffix_match",), neighbours="passage", layers=1)
    assert policy.config.inputs.features == ("suffix_match", "passage_start")
    columns = torch.zeros(1, L, 2)
    starts = torch.tensor([[1.0, 0, 0, 1, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0]]).bool()

    def changed_by(place: int) -> list[int]:
        hidden = policy.neighbours(columns, starts, mask)
        moved = columns.clone()
        moved[0, place] = 1
        other = policy.neighbours(moved, starts, mask)
        return ((hidden - other).abs().amax(-1)[0] > 0).nonzero().flatten().tolist()

    assert changed_by(0) == [0, 1, 2]
    assert changed_by(1) == [0, 1, 2]
    assert changed_by(3) == [3, 4, 5]
    assert changed_by(5) == [4, 5]


@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_neighbours_of_a_passage_in_windows_of_few_chunks(chunks):
    policy = make_policy(neighbours="passage")
    assert policy(make_observation(1, chunks), budget(1)).isfinite().all()


@pytest.mark.parametrize(
    "options",
    [PAPER, {}, {"reads_embeddings": False, "prompt_token": False}, {"neighbours": "passage"}],
)
def test_logits_do_not_depend_on_padding_or_companions(options):
    policy, short = make_policy(**options), make_observation(1, 5)
    padded = make_observation(3, L, seed=2)
    for name in ("chunk_embeddings", "features", "chunk_mask"):
        padded[name][0, :5] = short[name][0]
        padded[name][0, 5:] = 0
    padded["prompt_embedding"][0] = short["prompt_embedding"][0]
    logits = policy(padded, budget())
    torch.testing.assert_close(logits[:1, :5], policy(short, budget(1)), rtol=1e-4, atol=1e-5)
    assert torch.isneginf(logits[0, 5:]).all()


def test_logits_stay_the_same_through_an_episode_and_the_value_does_not():
    policy, observation = make_policy(), make_observation(1)
    torch.nn.init.normal_(policy.value_head.pooled[-1].weight)
    later = {**observation, "budget_left": torch.tensor([[1.0]])}
    later["expanded"] = torch.tensor([[0, 1, 0, 1, 0, 0, 0]], dtype=torch.int8)
    first, value = policy.logits_and_value(observation)
    second, later_value = policy.logits_and_value(later)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, policy(observation, budget(1)))
    assert abs(value - later_value) > 1e-4


def test_states_of_one_context_are_encoded_once_and_give_the_same():
    policy, observation = make_policy(), make_observation(2)
    rows = torch.tensor([1, 0, 0, 1, 1])
    many = {name: tensor[rows] for name, tensor in observation.items()}
    shared = shared_contexts(many, budget(5))
    assert len(shared.rows) == 2
    torch.testing.assert_close(
        policy.logits_and_value(many)[0], policy.logits_and_value(observation)[0][rows]
    )


def test_contexts_that_differ_only_deep_in_an_embedding_are_not_shared():
    observation = make_observation(1)
    twice = {
        name: tensor.repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in observation.items()
    }
    assert len(shared_contexts(twice, budget(2)).rows) == 1
    twice["chunk_embeddings"][1, 3, 5] += 1
    assert len(shared_contexts(twice, budget(2)).rows) == 2


def test_output_scale_zero_starts_uniform_and_the_default_nearly_so():
    observation = make_observation()
    assert (make_policy(output_scale=0.0)(observation, budget()) == 0).all()
    spread = make_policy(output_scale=0.01)(observation, budget()).std()
    assert 0 < spread < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "at least 1"),
        ({"width": 18}, "multiple of heads"),
        ({"kernel": 4}, "odd"),
        ({"members": 0}, "at least 1"),
        ({"neighbours": "sentence"}, "convolution, passage"),
        ({"features": "position"}, "give a list"),
        ({"features": ["nothing"]}, "choose from"),
        ({"prompt_token": 1}, "true or false"),
        ({"reads_embeddings": "no"}, "true or false"),
        ({"reads_embeddings": False}, "give prompt_token=false"),
        ({"reads_embeddings": False, "prompt_token": False, "features": []}, "give one of them"),
        ({"output_scale": -1}, "from 0"),
        ({"depth": 3}, "unknown policy option"),
    ],
)
def test_wrong_options_are_user_errors(options, message):
    with pytest.raises(UserError, match=message):
        PointerConfig.from_mapping({"embedding_size": D, **options})


def test_config_survives_its_mapping():
    config = PointerConfig(D, features=("lexical",), width=32, prompt_token=False)
    assert PointerConfig.from_mapping(config.to_mapping()) == config


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_chunk_without_a_finite_logit_is_an_error_and_not_left_unpicked(wrong):
    policy, observation = make_policy(), make_observation()
    observation["features"][1, 2] = wrong
    with pytest.raises(NotFiniteError, match="a logit of the policy is NaN or infinite"):
        policy(observation, budget())
    with pytest.raises(NotFiniteError, match="of the policy is NaN or infinite"):
        policy.logits_and_value(observation)


def test_logits_of_padding_chunks_need_not_be_finite():
    policy, observation = make_policy(), make_observation()
    with torch.no_grad():
        policy.output.bias.fill_(torch.inf)
    observation["chunk_mask"][:] = 0
    assert torch.isneginf(policy(observation, budget())).all()
