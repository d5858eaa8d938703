"""Self-distillation: compressed context is read as the decoder itself reads all tokens.

The true next token says little about what the context was worth: most of its log-perplexity is of
the text, not of the reading. The decoder's own prediction from all tokens of the same window holds
what the context changes, token by token, so it can be learned from fewer windows (distillation:
Hinton et al., arXiv 1503.02531; of a context into the model: Snell et al., arXiv 2209.15189). This
is a departure from the paper, whose targets are the true tokens alone; ``distillation: 0`` of a
part of the mixture is the paper's.

1. The teacher is the model as it is at this step, all chunks expanded, without gradient.
2. The target of an output token is ``share`` times the teacher's distribution and ``1 - share``
   times the true token; the loss is the cross-entropy to it.
3. Prompt and context tokens keep their true targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.mixing import Kind
from refrag_rl.modeling.scoring import ScoringHead, dropout_off
from refrag_rl.pretraining.batch import Batch


@dataclass(frozen=True, slots=True)
class Teacher:
    """What output tokens are predicted from when all chunks stand as tokens.

    Attributes:
        states: (n, d) or (n, V), as ``ScoringHead.states`` returns them; zeros where there is
            nothing to follow.
        share: (n,) float32, of the target that is the teacher's.
    """

    states: Tensor
    share: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: RefragForCausalLM, batch: Batch, kind: Tensor) -> Teacher:
        """Read a batch with all chunks expanded.

        Args:
            model: Teacher and learner in one.
            batch: Its ``distillation`` is the share.
            kind: (n,) the ``Kind`` of each scored token of the learner, row by row.
        """
        layout = model.lay_out(
            batch.context_ids,
            batch.chunk_mask,
            batch.chunk_mask,
            batch.prompt_ids,
            batch.output_ids,
            prompt_position=batch.prompt_position,
        )
        nothing = torch.zeros(
            *batch.chunk_mask.shape, model.embedding_size, device=batch.context_ids.device
        )
        with dropout_off(model.decoder):  # that of LoRA is on in training
            outputs = model.head.states(model.embed(layout, nothing), layout.output_mask)
        followed = kind == Kind.OUTPUT
        states = outputs.new_zeros(len(kind), outputs.shape[1])
        states[followed] = outputs
        return cls(states, batch.distillation * followed.float())

    def mix(self, losses: Tensor, states: Tensor, head: ScoringHead) -> Tensor:
        """Return the losses to the mixed targets, (n,) nats.

        Args:
            losses: (n,) to the true tokens.
            states: Of the learner, like the teacher's.
            head: Of the decoder that both are of.
        """
        learned = head.logits(states).log_softmax(1)
        with torch.no_grad():
            target = head.logits(self.states).softmax(1)
        return torch.lerp(losses, -(target * learned).sum(1), self.share)
