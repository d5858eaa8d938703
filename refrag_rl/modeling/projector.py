"""The projector ``phi``."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Projector(nn.Module):
    """``phi``: a 2-layer MLP from chunk embeddings to the decoder's token-embedding space.

    Args:
        embedding_size: Size of a chunk embedding ``c_i``.
        hidden_size: The paper's is ``output_size``.
        output_size: Size of a decoder token embedding.
    """

    def __init__(self, embedding_size: int, hidden_size: int, output_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(embedding_size, hidden_size)
        self.down = nn.Linear(hidden_size, output_size)

    def forward(self, chunk_embeddings: Tensor) -> Tensor:
        """Project (..., d_enc) to (..., d_dec)."""
        return self.down(functional.gelu(self.up(chunk_embeddings.to(self.up.weight.dtype))))
