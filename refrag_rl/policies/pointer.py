"""The selection policy: a two-layer transformer that points at chunks.

1. REFRAG (arXiv 2509.01092, A.1): ``s = g({c_i})``, ``g`` a two-layer transformer over the chunk
   embeddings; ``s`` is computed once a context and masked as picks are made. With ``features=()``,
   ``prompt_token=False`` and ``budget_token=False`` this is that policy: it knows no positions.
2. Departures, each an option: logits again after each pick (the chunks expanded so far are marked
   in the input); chunk features enter together with those of neighbouring chunks (what a chunk is
   worth can depend on a match in the chunk before it, and attention without positions knows no
   neighbours), by two convolutions or passage by passage; the prompt's embedding and the total
   budget are further input tokens.
3. The paper leaves open: pre-norm, GELU, no dropout (log-probabilities at sampling and at update
   must agree), embeddings normalised to zero mean and unit variance before the input projection
   (encoders differ in scale), an output layer that starts near zero (the first policy is nearly
   uniform).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from refrag_rl.errors import NotFiniteError, UserError
from refrag_rl.observation import CHUNK_FEATURES, DEFAULT_FEATURES, EmbeddingSource, Inputs
from refrag_rl.policies.features import count_columns, feature_columns
from refrag_rl.policies.layers import Block, NeighbourFeatures, PassageNeighbours, ValueHead
from refrag_rl.policies.sharing import CONTEXT_KEYS, shared_contexts

TensorObservation = Mapping[str, Tensor]
"""A batched observation as tensors: the keys of ``refrag_rl.observation.Observation``."""


@dataclass(frozen=True)
class PointerConfig:
    """Shape of a ``PointerPolicy``.

    Attributes:
        embedding_size: ``d``, of the chunk embeddings.
        chunk_embeddings: Where they come from, ``encoder`` (the paper) or ``projector``.
        reads_embeddings: Whether the policy reads them, and the prompt's; without, features and the
            budget alone.
        features: Which of ``CHUNK_FEATURES`` the policy reads; () is the paper's policy.
        prompt_token: Whether the prompt's embedding is one more input token.
        budget_token: Whether the total budget is one more input token.
        logits: ``once`` a context, as the paper, or again at ``each_pick``, from what is expanded
            so far.
        width: Hidden size, a multiple of ``heads``.
        layers: Transformer layers.
        heads: Attention heads.
        neighbours: How features of neighbouring chunks enter: by a ``convolution`` over all chunks,
            or those of the same ``passage``, see ``layers.PassageNeighbours``.
        kernel: Chunks that each of the two feature convolutions spans, odd; no matter to
            ``neighbours="passage"``.
        output_scale: Standard deviation of the output layer's initial weights; 0 starts exactly
            uniform.
        members: Networks of this shape, each with first weights of its own, whose logits are
            averaged (Lakshminarayanan et al. 2017, arXiv 1612.01474); 1: one.

    Raises:
        UserError: A value is out of its range.
    """

    embedding_size: int
    chunk_embeddings: EmbeddingSource = "encoder"
    reads_embeddings: bool = True
    features: tuple[str, ...] = DEFAULT_FEATURES
    prompt_token: bool = True
    budget_token: bool = True
    logits: str = "once"
    width: int = 64
    layers: int = 2
    heads: int = 4
    neighbours: str = "convolution"
    kernel: int = 5
    output_scale: float = 0.01
    members: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.features, str) or not isinstance(self.features, Sequence):
            raise UserError(f"features={self.features!r}: give a list, as in [{self.features}]")
        inputs = Inputs(tuple(self.features), self.chunk_embeddings)
        object.__setattr__(self, "features", inputs.features)
        if inputs.chunk_embeddings is None:
            raise UserError("policy chunk_embeddings: give encoder or projector")
        for name in ("embedding_size", "width", "layers", "heads", "kernel", "members"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"policy {name}={value!r}: give a whole number of at least 1")
        for name in ("reads_embeddings", "prompt_token", "budget_token"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"policy {name}={getattr(self, name)!r}: give true or false")
        if not self.reads_embeddings and self.prompt_token:
            raise UserError(
                "policy prompt_token=true is the prompt's embedding, and reads_embeddings=false; "
                "give prompt_token=false"
            )
        if not self.reads_embeddings and not self.features:
            raise UserError("policy features=[] and reads_embeddings=false: give one of them")
        if self.logits not in ("once", "each_pick"):
            raise UserError(f"policy logits={self.logits!r}: choose from once, each_pick")
        if self.neighbours not in ("convolution", "passage"):
            raise UserError(
                f"policy neighbours={self.neighbours!r}: choose from convolution, passage"
            )
        if self.width % self.heads:
            raise UserError(f"policy width={self.width}: give a multiple of heads={self.heads}")
        if self.kernel % 2 == 0:
            raise UserError(f"policy kernel={self.kernel}: give an odd number")
        scale = self.output_scale
        is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
        if not is_number or not 0 <= scale <= sys.float_info.max:
            raise UserError(f"policy output_scale={self.output_scale!r}: give a number from 0 up")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> PointerConfig:
        """Make a config from named values, as a YAML or JSON file gives them.

        Raises:
            UserError: A name is unknown, ``embedding_size`` is missing, a value is out of range.
        """
        known = [f.name for f in fields(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise UserError(f"unknown policy option {unknown[0]!r}; choose from {', '.join(known)}")
        if "embedding_size" not in values:
            raise UserError("policy options without embedding_size: give the encoder's width")
        return cls(**dict(values))

    @property
    def inputs(self) -> Inputs:
        """What the policy reads."""
        features = self.features
        if features and self.neighbours == "passage" and "passage_start" not in features:
            features = (*features, "passage_start")
        return Inputs(features, self.chunk_embeddings if self.reads_embeddings else None)

    def to_mapping(self) -> dict[str, Any]:
        """Return the named values, ready for JSON; ``from_mapping`` reads them back."""
        return {**asdict(self), "features": list(self.features)}


class PointerPolicy(nn.Module):
    """Scores the chunks of a context; see the module's docstring."""

    def __init__(self, config: PointerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embedding_norm = nn.LayerNorm(config.embedding_size, elementwise_affine=False)
        self.embedding_in = (
            nn.Linear(config.embedding_size, width) if config.reads_embeddings else None
        )
        self.neighbours: NeighbourFeatures | PassageNeighbours | None = None
        if config.features:
            columns = count_columns(config.features)
            self.neighbours = (
                PassageNeighbours(columns, width)
                if config.neighbours == "passage"
                else NeighbourFeatures(columns, width, config.kernel)
            )
        self.prompt_type = nn.Parameter(0.02 * torch.randn(width)) if config.prompt_token else None
        self.budget_in = nn.Linear(2, width) if config.budget_token else None
        # As large as the other inputs: smaller, it takes long to be noticed.
        self.expanded_type = nn.Parameter(torch.randn(width)) if self.reads_expanded else None
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, 1)
        nn.init.normal_(self.output.weight, std=config.output_scale)
        nn.init.zeros_(self.output.bias)
        self.value_head = ValueHead(width)
        alone = replace(config, members=1)
        self.others = nn.ModuleList(PointerPolicy(alone) for _ in range(config.members - 1))

    @property
    def networks(self) -> tuple[PointerPolicy, ...]:
        """The members: this network, which holds the others, and those."""
        return (self, *self.others)

    @property
    def reads_expanded(self) -> bool:
        """Whether the logits depend on what is expanded so far."""
        return self.config.logits == "each_pick"

    def encode(
        self, observation: TensorObservation, budget: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Return the chunks' hidden states, (B, L, w).

        Args:
            observation: ``chunk_embeddings``, ``chunk_mask``, and what the config asks for of
                ``features``, ``prompt_embedding`` (of ``U`` contexts) and ``expanded`` (of ``B``
                states).
            budget: (B,) total picks ``T'`` of the episode.
            context: (B,) int64, the context of each state; None: they stand row by row, U = B.
        """
        mask = observation["chunk_mask"].bool()
        parts: list[Tensor] = []
        prompt: Tensor | None = None
        if self.embedding_in is not None:
            embeddings = self.embedding_norm(observation["chunk_embeddings"].float())
            parts.append(self.embedding_in(embeddings))
            if self.prompt_type is not None:
                normed = self.embedding_norm(observation["prompt_embedding"].float())
                prompt = self.embedding_in(normed) + self.prompt_type
        if self.neighbours is not None:
            raw = observation["features"]
            columns = feature_columns(raw, mask, self.config.features)
            if isinstance(self.neighbours, PassageNeighbours):
                starts = raw[..., CHUNK_FEATURES.index("passage_start")]
                parts.append(self.neighbours(columns, starts, mask))
            else:
                parts.append(self.neighbours(columns, mask))
        chunks = sum(parts[1:], start=parts[0])
        if context is not None:
            # Only now, so that no state has a copy of the embeddings. Not by plain indexing, whose
            # gradient is added up in any order by several threads of a CPU.
            mask, chunks = mask.index_select(0, context), chunks.index_select(0, context)
            prompt = None if prompt is None else prompt.index_select(0, context)
        if self.expanded_type is not None:
            chunks = chunks + observation["expanded"].float().unsqueeze(-1) * self.expanded_type
        tokens: list[Tensor] = [] if prompt is None else [prompt]
        if self.budget_in is not None:
            share = budget.float() / mask.sum(-1).clamp(min=1)
            tokens.append(self.budget_in(torch.stack([share, torch.log1p(budget.float())], -1)))
        hidden = torch.cat([*(token.unsqueeze(1) for token in tokens), chunks], dim=1)
        attended = nn.functional.pad(mask, (len(tokens), 0), value=True)
        for block in self.blocks:
            hidden = block(hidden, attended)
        return self.final_norm(hidden[:, len(tokens) :])

    def forward(
        self, observation: TensorObservation, budget: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Return the logits ``s`` of a batch of contexts, (B, L), ``-inf`` on padding chunks.

        Chunks that are expanded already are not masked.

        Args:
            observation: See ``encode``.
            budget: (B,) total picks ``T'`` of the episode.
            context: See ``encode``.

        Raises:
            NotFiniteError: A logit is NaN or infinite, from weights or inputs that are too large.
        """
        return self.of_members(observation, budget, context).mean(0)

    def of_members(
        self, observation: TensorObservation, budget: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Return the logits of each member, (M, B, L), of which ``forward`` returns the mean."""
        mask = observation["chunk_mask"].bool()
        mask = mask if context is None else mask[context]
        logits = torch.stack(
            [
                member.output(member.encode(observation, budget, context)).squeeze(-1)
                for member in self.networks
            ]
        )
        _require_finite("logit", logits, mask)
        return logits.masked_fill(~mask, -torch.inf)

    def logits_and_value(self, observation: TensorObservation) -> tuple[Tensor, Tensor]:
        """Return the logits and the value of states inside episodes, (B, L) and (B,).

        The total budget is what is left plus what is expanded: it stays the same through an episode
        (but for picks spent on forbidden actions), and with it the logits where they are computed
        once; contexts are then encoded once for all of their states.

        Args:
            observation: All keys of an ``Observation``; ``budget_left`` (B, 1). Contexts may stand
                once: see ``sharing.CONTEXT``.

        Raises:
            NotFiniteError: One of them is NaN or infinite, from weights or inputs that are too
                large.
        """
        expanded = observation["expanded"].bool()
        budget_left = observation["budget_left"].float().flatten()
        budget = budget_left + expanded.sum(-1)
        shared = shared_contexts(observation, budget)
        contexts = {name: observation[name][shared.rows] for name in CONTEXT_KEYS}
        mask = contexts["chunk_mask"].bool()[shared.context]
        if self.reads_expanded:
            contexts["expanded"] = expanded
        else:
            of_context = budget.new_zeros(len(shared.rows))
            of_context[shared.context] = budget
        found: list[tuple[Tensor, Tensor]] = []
        for member in self.networks:
            if self.reads_expanded:
                hidden = member.encode(contexts, budget, shared.context)
            else:
                # As in ``encode``: not by plain indexing.
                hidden = member.encode(contexts, of_context).index_select(0, shared.context)
            own = member.output(hidden).squeeze(-1)
            found.append((own, member.value_head(hidden, own, mask, expanded, budget_left)))
        logits, value = (torch.stack(each).mean(0) for each in zip(*found, strict=True))
        _require_finite("logit", logits, mask)
        _require_finite("value", value)
        return logits.masked_fill(~mask, -torch.inf), value


def _require_finite(what: str, values: Tensor, mask: Tensor | None = None) -> None:
    """Check what a policy computed, where ``mask`` is true: a chunk of NaN would never be picked.

    Raises:
        NotFiniteError: It is NaN or infinite.
    """
    held = values.detach() if mask is None else values.detach().masked_fill(~mask, 0.0)
    if not torch.isfinite(held).all():
        raise NotFiniteError(f"a {what} of the policy is NaN or infinite")


def as_tensors(
    observation: Mapping[str, Any], device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Return the arrays of a batched observation as tensors on a device."""
    return {
        name: torch.from_numpy(np.ascontiguousarray(array)).to(device)
        for name, array in observation.items()
    }
