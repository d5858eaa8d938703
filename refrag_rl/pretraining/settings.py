"""Types of the config of ``python -m refrag_rl.pretrain``; ``conf/pretrain`` has the keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class Expansion(Enum):
    """Which chunks of a batch stand as tokens."""

    all = "all"
    none = "none"
    mixed = "mixed"


class Optimizer(Enum):
    """Optimizer of the layers' matrices."""

    adamw = "adamw"
    muon = "muon"


@dataclass
class DataSection:
    """Text to train and to validate on."""

    docs: bool = MISSING
    files: list[str] = field(default_factory=list)
    validation_files: list[str] = field(default_factory=list)


@dataclass
class TokenizerSection:
    """Tokenizer of a decoder that is made from scratch."""

    vocabulary_size: int = MISSING
    share: float = MISSING


@dataclass
class LoraSection:
    """Low-rank adapters of the decoder."""

    rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: Any = "all-linear"


@dataclass
class ModelSection:
    """Encoder and decoder."""

    chunk_size: int = MISSING
    refrag: str | None = None
    encoder_pooling: str = MISSING
    induction_start: bool = MISSING
    chunk_reading_start: bool = MISSING
    embedding_scale: float = MISSING
    decoder: Any = MISSING
    encoder: Any = MISSING
    lora: LoraSection = field(default_factory=LoraSection)


@dataclass
class PartSection:
    """One part of a mixture of windows."""

    kind: str = MISSING
    weight: float = MISSING
    expansion: Expansion = Expansion.mixed
    context_weight: float = 0.0
    distillation: float = 0.0
    domains: list[str] | None = None
    windows: dict[str, Any] = field(default_factory=dict)


@dataclass
class StageSection:
    """One stage."""

    steps: int = MISSING
    batch_tokens: int | None = None
    batch_windows: int | None = None
    accumulate: int = 1
    warmup: float = MISSING
    optimizer: Optimizer = MISSING
    learning_rate: float = MISSING
    muon_learning_rate: float = MISSING
    final_learning_rate: float = MISSING
    expanded_fraction: list[float] = field(default_factory=lambda: [0.0, 1.0])
    parts: list[PartSection] = field(default_factory=list)


@dataclass
class ReconstructionSection(StageSection):
    """The stage with the decoder frozen."""

    curriculum_stages: int = MISSING
    min_chunks: int = MISSING
    max_chunks: int = MISSING


@dataclass
class ContinualSection(StageSection):
    """The stage on mixed input."""

    curriculum_stages: int = MISSING


@dataclass
class PretrainConfig:
    """``python -m refrag_rl.pretrain``."""

    data: DataSection = field(default_factory=DataSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    model: ModelSection = field(default_factory=ModelSection)
    language_modelling: StageSection | None = None
    reconstruction: ReconstructionSection = field(default_factory=ReconstructionSection)
    continual: ContinualSection = field(default_factory=ContinualSection)
    weight_decay: float = MISSING
    betas: list[float] = field(default_factory=list)
    max_gradient_norm: float = MISSING
    bfloat16: bool = MISSING
    log_every: int = MISSING
    save_every: int = MISSING
    keep: int = MISSING
    validate_every: int = MISSING
    validation_windows: int = MISSING
    seed: int = MISSING
    output: str = MISSING
    verbose: bool = True
