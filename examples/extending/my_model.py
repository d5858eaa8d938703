"""A model: the decoder of a checkpoint, with bags of its own token embeddings as chunk embeddings.

No encoder is trained, so this is what a trained one has to beat.
"""

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from refrag_rl.modeling.checkpoint import load_refrag


class BagOfTokens(nn.Module):
    """Stands in the place of the encoder; its state at a token is the token's embedding."""

    def __init__(self, embedding, config):
        super().__init__()
        self.embedding, self.config = embedding, config

    def forward(self, input_ids, attention_mask, **positions):
        """Return the states of the tokens (N, t), as ``last_hidden_state`` (N, t, d)."""
        return BaseModelOutput(last_hidden_state=self.embedding(input_ids))


def load(path, *, dtype=torch.float32, device="cpu"):
    """Return a ``LoadedRefrag``: the model, its tokenizer, and what makes the encoder's inputs."""
    loaded = load_refrag(path, dtype=dtype, device=device)
    model = loaded.model
    embedding = model.decoder.get_input_embeddings()
    model.config.encoder.hidden_size = embedding.embedding_dim
    model.config.encoder_pooling = "mean"
    model.encoder = BagOfTokens(embedding, model.config.encoder)
    model.projector = nn.Identity()
    return loaded
