import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer

from refrag_rl.agents.ppo import Ppo
from refrag_rl.agents.rollout import EpisodeRolloutBuffer
from refrag_rl.envs import SelectiveExpansionVectorEnv
from refrag_rl.envs.layout import observation_space
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.policies.sharing import CONTEXT, CONTEXT_KEYS
from tests.contexts import in_every_row
from tests.planted import planted_problem


def draw(box, rng):
    if box.dtype == np.int8:
        return rng.integers(0, 2, box.shape).astype(np.int8)
    return rng.random(box.shape, dtype=np.float32)


def filled(buffers, chunks, width, lengths, n_envs, seed=0):
    """Fill buffers with episodes of these lengths; return how many there were."""
    rng = np.random.default_rng(seed)
    space = observation_space(chunks, width, flat=False)
    # Written into again and again: a buffer has to keep what it is given.
    given = {name: np.zeros((n_envs, *box.shape), box.dtype) for name, box in space.items()}
    left, episodes = np.zeros(n_envs, int), 0
    for _ in range(buffers[0].buffer_size):
        begins = left == 0
        for row in np.flatnonzero(begins):
            left[row] = rng.choice(lengths)
            for name in CONTEXT_KEYS:
                given[name][row] = draw(space[name], rng)
            episodes += 1
        for row in range(n_envs):
            given["expanded"][row] = draw(space["expanded"], rng)
        given["budget_left"][:] = left[:, None]
        numbers = rng.random((3, n_envs), dtype=np.float32)
        step = (
            given,
            rng.integers(chunks, size=n_envs),
            numbers[0],
            begins.astype(np.float32),
            torch.from_numpy(numbers[1]),
            torch.from_numpy(numbers[2]),
        )
        masks = rng.integers(0, 2, (n_envs, chunks)).astype(bool)
        for buffer in buffers:
            buffer.add(*step, action_masks=masks)
        left -= 1
    return episodes


def make(kind, steps, chunks, width, n_envs):
    space = observation_space(chunks, width, flat=False)
    return kind(steps, space, spaces.Discrete(chunks), "cpu", n_envs=n_envs)


@pytest.mark.parametrize(
    ("steps", "chunks", "width", "lengths", "n_envs"),
    [(45, 32, 256, [2, 6, 15], 16), (64, 256, 1024, [64], 64)],
    ids=["default", "large"],
)
def test_the_buffer_holds_one_context_an_episode_and_little_else(
    steps, chunks, width, lengths, n_envs
):
    buffer = make(EpisodeRolloutBuffer, steps, chunks, width, n_envs)
    episodes = filled([buffer], chunks, width, lengths, n_envs)
    one_copy = episodes * chunks * width * 4
    assert one_copy < buffer.nbytes < 1.5 * one_copy
    sample = next(buffer.get(None))
    held = sum(tensor.nbytes for tensor in sample.observations.values())
    assert len(sample.actions) == steps * n_envs
    assert held < 1.5 * one_copy, "a sample of all steps has no copies either"
    assert buffer.nbytes < 1.5 * one_copy, "still, after it was read"


def test_samples_are_the_library_s():
    shape = {"steps": 10, "chunks": 5, "width": 3, "n_envs": 4}
    ours, theirs = (
        make(kind, **shape) for kind in (EpisodeRolloutBuffer, MaskableDictRolloutBuffer)
    )
    for seed in (0, 1):
        for buffer in (ours, theirs):
            buffer.reset()
        filled([ours, theirs], 5, 3, [1, 2, 3], 4, seed)
        samples = []
        for buffer in (ours, theirs):
            buffer.compute_returns_and_advantage(torch.zeros(4), np.zeros(4))
            np.random.seed(7)  # noqa: NPY002  the library's order is drawn from it
            samples.append(list(buffer.get(8)))
        for mine, other in zip(*samples, strict=True):
            rows = in_every_row(mine.observations)
            assert rows.keys() == other.observations.keys()
            for name, tensor in other.observations.items():
                assert torch.equal(rows[name], tensor), name
            for name in other._fields[1:]:
                if name != "actions":
                    assert torch.equal(getattr(mine, name), getattr(other, name)), name


@pytest.mark.parametrize("logits", ["once", "each_pick"])
def test_the_pointer_reads_contexts_that_stand_once_as_those_in_every_row(logits):
    torch.manual_seed(0)
    policy = PointerPolicy(PointerConfig(3, width=16, output_scale=1.0, logits=logits))
    torch.nn.init.normal_(policy.value_head.pooled[-1].weight)
    buffer = make(EpisodeRolloutBuffer, 10, 5, 3, 4)
    filled([buffer], 5, 3, [1, 2, 3], 4)
    once = next(buffer.get(None)).observations
    assert len(once["features"]) < len(once[CONTEXT])
    once["chunk_mask"][:, 0] = 1
    gradients = []
    results = [policy.logits_and_value(given) for given in (once, in_every_row(once))]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    for found, value in results:
        policy.zero_grad()
        (found.clamp(min=-9).square().sum() + value.square().sum()).backward()
        gradients.append({name: weight.grad for name, weight in policy.named_parameters()})
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_ppo_encodes_each_context_once_a_pass_and_holds_it_once():
    problem = planted_problem(budget=4, count=400)
    agent = Ppo(
        policy={"width": 16, "heads": 2}, episodes_per_update=32, total_rewards=32, device="cpu"
    )
    model = agent._make_model(SelectiveExpansionVectorEnv(problem, num_envs=8))
    encoded = []
    pointer = model.policy.features_extractor.pointer
    encode = pointer.encode
    pointer.encode = lambda contexts, *rest: (
        encoded.append(len(contexts["chunk_embeddings"])) or encode(contexts, *rest)
    )
    model.learn(model.n_steps * 8)
    assert model.n_steps == 16
    assert encoded[-agent.epochs :] == [32] * agent.epochs
    assert len(model.rollout_buffer._contexts) == 32
    assert not set(CONTEXT_KEYS) & model.rollout_buffer.observations.keys()
