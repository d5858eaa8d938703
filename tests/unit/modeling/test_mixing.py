import pytest
import torch

from refrag_rl.modeling.mixing import Kind, Layout, lay_out, mix

BOS = 1
K = 3


def random_batch(seed, batch=5, num_chunks=4, prompt=3, output=4):
    generator = torch.Generator().manual_seed(seed)

    def ids(*shape):
        return torch.randint(10, 99, shape, generator=generator)

    def lengths_to_mask(longest, shortest):
        lengths = torch.randint(shortest, longest + 1, (batch, 1), generator=generator)
        return torch.arange(longest) < lengths

    return {
        "context_ids": ids(batch, num_chunks, K),
        "chunk_mask": lengths_to_mask(num_chunks, 0),
        "expanded": torch.rand(batch, num_chunks, generator=generator) < 0.5,
        "prompt_ids": ids(batch, prompt),
        "output_ids": ids(batch, output),
        "prompt_mask": lengths_to_mask(prompt, 0),
        "output_mask": lengths_to_mask(output, 1),
    }


def plain_row(batch, row, position):
    """The row's (kind, token, chunk) triples, written down one by one."""
    context = []
    for i in range(batch["context_ids"].shape[1]):
        if not batch["chunk_mask"][row, i]:
            continue
        if batch["expanded"][row, i]:
            tokens = batch["context_ids"][row, i].tolist()
            context += [(Kind.EXPANDED, token, i) for token in tokens]
        else:
            context.append((Kind.CHUNK, 0, i))
    prompt = batch["prompt_ids"][row][batch["prompt_mask"][row]].tolist()
    output = batch["output_ids"][row][batch["output_mask"][row]].tolist()
    prompt = [(Kind.PROMPT, token, -1) for token in prompt]
    output = [(Kind.OUTPUT, token, -1) for token in output]
    body = prompt + context if position == "before" else context + prompt
    return [(Kind.BOS, BOS, -1), *body, *output]


@pytest.mark.parametrize("seed", range(8))
def test_layout_is_the_one_written_down_position_by_position(seed):
    batch = random_batch(seed)
    positions = ["before" if (seed + row) % 2 else "after" for row in range(5)]
    layout = lay_out(**batch, bos_token_id=BOS, prompt_position=positions)
    rows = [plain_row(batch, row, positions[row]) for row in range(5)]
    assert layout.lengths.tolist() == [len(row) for row in rows]
    width = max(len(row) for row in rows)
    for index, row in enumerate(rows):
        padded = row + [(Kind.PADDING, 0, -1)] * (width - len(row))
        found = zip(
            layout.kind[index].tolist(),
            layout.token_ids[index].tolist(),
            layout.chunk_index[index].tolist(),
            strict=True,
        )
        assert list(found) == padded


@pytest.mark.parametrize("seed", range(4))
def test_mix_takes_each_embedding_from_its_source(seed):
    batch = random_batch(seed)
    layout = lay_out(**batch, bos_token_id=BOS)
    table = torch.randn(99, 6)
    chunks = torch.randn(5, 4, 6)
    mixed = mix(layout, chunks, table[layout.token_ids])
    for row, position in layout.attention_mask.nonzero().tolist():
        if layout.kind[row, position] == Kind.CHUNK:
            expected = chunks[row, layout.chunk_index[row, position]]
        else:
            expected = table[layout.token_ids[row, position]]
        assert torch.equal(mixed[row, position], expected)


def test_masks_name_the_positions_that_are_scored():
    batch = random_batch(3)
    layout = lay_out(**batch, bos_token_id=BOS)
    assert torch.equal(layout.attention_mask.sum(1), layout.lengths)
    assert torch.equal(layout.output_mask.sum(1), batch["output_mask"].sum(1))
    expanded_tokens = (batch["expanded"] & batch["chunk_mask"]).sum(1) * K
    tokens = expanded_tokens + batch["prompt_mask"].sum(1) + batch["output_mask"].sum(1)
    assert torch.equal(layout.token_mask.sum(1), tokens)
    assert not layout.token_mask[:, 0].any(), "bos is read, never predicted"
    assert (layout.labels[layout.output_mask] == layout.token_ids[layout.output_mask]).all()
    assert (layout.labels[~layout.output_mask] == -100).all()


def test_gradients_reach_the_chunks_that_are_read_and_no_others():
    batch = random_batch(5)
    layout = lay_out(**batch, bos_token_id=BOS)
    chunks = torch.randn(5, 4, 6, requires_grad=True)
    tokens = torch.randn(*layout.token_ids.shape, 6, requires_grad=True)
    mix(layout, chunks, tokens)[layout.attention_mask].sum().backward()
    assert chunks.grad is not None and tokens.grad is not None
    read = batch["chunk_mask"] & ~batch["expanded"]
    assert torch.equal(chunks.grad.abs().sum(-1) > 0, read)
    is_token = layout.attention_mask & (layout.kind != Kind.CHUNK)
    assert torch.equal(tokens.grad.abs().sum(-1) > 0, is_token)


def test_no_context_and_no_prompt_leave_bos_and_output():
    nothing = torch.zeros(2, 0, dtype=torch.int64)
    output = torch.tensor([[5, 6], [7, 8]])
    layout = lay_out(
        torch.zeros(2, 0, K, dtype=torch.int64),
        nothing.bool(),
        nothing.bool(),
        nothing,
        output,
        bos_token_id=BOS,
    )
    assert layout.token_ids.tolist() == [[BOS, 5, 6], [BOS, 7, 8]]
    mixed = mix(layout, torch.zeros(2, 0, 4), torch.ones(2, 3, 4))
    assert torch.equal(mixed, torch.ones(2, 3, 4))


def test_expanding_a_padding_chunk_changes_nothing():
    batch = random_batch(7)
    batch["chunk_mask"][:, -1] = False
    one = lay_out(**{**batch, "expanded": batch["expanded"] | True}, bos_token_id=BOS)
    other = lay_out(
        **{**batch, "expanded": batch["chunk_mask"].clone()},
        bos_token_id=BOS,
    )
    assert_same_layout(one, other)


def assert_same_layout(one: Layout, other: Layout):
    assert torch.equal(one.kind, other.kind)
    assert torch.equal(one.token_ids, other.token_ids)
    assert torch.equal(one.chunk_index, other.chunk_index)


@pytest.mark.parametrize("position", ["middle", ["after", "before"]])
def test_an_impossible_prompt_position_is_refused(position):
    with pytest.raises(ValueError, match="'after' or 'before'"):
        lay_out(**random_batch(0), bos_token_id=BOS, prompt_position=position)
