"""The loss of a batch of mixed sequences: what every stage of pre-training minimizes."""

from __future__ import annotations

import torch
from torch import Tensor

from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.chunk_tokenizer import ChunkTokenizer, Piece
from refrag_rl.modeling.mixing import Kind
from refrag_rl.modeling.scoring import is_one_matrix
from refrag_rl.pretraining.batch import Batch
from refrag_rl.pretraining.distillation import Teacher
from refrag_rl.pretraining.fused_loss import sliced_cross_entropy


def mixed_loss(
    model: RefragForCausalLM, batch: Batch, chunk_tokenizer: ChunkTokenizer | None = None
) -> Tensor:
    """Return the mean negative log-likelihood of a batch, nats per token.

    Scored are the tokens of the output and, with the batch's weights, those of the prompt and of
    expanded chunks. Only the chunks that stand compressed are encoded. With ``batch.distillation``
    it is the cross-entropy to a mixture of the true token and the teacher's prediction.

    Args:
        model: Encoder and decoder.
        batch: Windows and their expanded chunks, with texts where the encoder reads its own tokens.
        chunk_tokenizer: As for ``embed_compressed``.

    Returns:
        () float32.
    """
    layout = model.lay_out(
        batch.context_ids,
        batch.chunk_mask,
        batch.expanded,
        batch.prompt_ids,
        batch.output_ids,
        prompt_position=batch.prompt_position,
    )
    states_in = model.embed(layout, embed_compressed(model, batch, chunk_tokenizer))
    weights = (layout.kind == Kind.OUTPUT).float()
    weights += batch.prompt_weight * (layout.kind == Kind.PROMPT).float()
    weights += batch.context_weight * (layout.kind == Kind.EXPANDED).float()
    weights[:, 0] = 0.0
    scored = weights > 0
    states = model.head.states(states_in, scored)
    tokens = layout.token_ids[scored]
    teacher = Teacher.of(model, batch, layout.kind[scored]) if batch.distillation else None
    output_layer = model.decoder.get_output_embeddings()
    if model.head.is_plain and is_one_matrix(output_layer):
        return sliced_cross_entropy(states, output_layer.weight, tokens, weights[scored], teacher)
    losses = -model.head.log_likelihood(states, tokens)
    if teacher is not None:
        losses = teacher.mix(losses, states, model.head)
    return (losses * weights[scored]).sum() / weights[scored].sum()


def embed_compressed(
    model: RefragForCausalLM, batch: Batch, chunk_tokenizer: ChunkTokenizer | None = None
) -> Tensor:
    """Return the chunk embeddings of the compressed chunks, (B, L, d); zeros for all others.

    Args:
        model: Its encoder reads them.
        batch: With texts where the encoder has a tokenizer of its own.
        chunk_tokenizer: Makes the encoder's inputs; ``None`` where the encoder reads the decoder's
            token ids.
    """
    compressed = batch.chunk_mask & ~batch.expanded
    embeddings = torch.zeros(
        *compressed.shape, model.embedding_size, device=compressed.device, dtype=torch.float32
    )
    if compressed.any():
        if chunk_tokenizer is None or chunk_tokenizer.is_shared:
            chunk_ids = batch.context_ids[compressed]
            start = chunk_ids.new_full((len(chunk_ids), 1), model.config.chunk_start_token_id)
            ids = torch.cat([start, chunk_ids], dim=1)
            mask = torch.ones_like(ids)
        else:
            ids, mask = (
                inputs.to(compressed.device)
                for inputs in chunk_tokenizer.encode(_pieces(batch, compressed))
            )
        embeddings[compressed] = model.encode_chunks(ids, mask).float()
    return embeddings


def _pieces(batch: Batch, compressed: Tensor) -> list[Piece]:
    """Return the compressed chunks in row-major order, as texts of their documents."""
    return [
        Piece(batch.context_ids[row, chunk].cpu().numpy(), batch.chunk_texts[row][chunk])
        for row, chunk in compressed.nonzero().tolist()
    ]
