"""Types of the config of ``python -m refrag_rl.pretrain``; ``conf/pretrain`` has the keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from refrag_rl.bounds import LARGEST_SEED, within


class Expansion(Enum):
    """Which chunks of a batch stand as tokens."""

    all = "all"
    none = "none"
    mixed = "mixed"


class Optimizer(Enum):
    """Optimizer of the layers' matrices."""

    adamw = "adamw"
    muon = "muon"


class FilesSplit(Enum):
    """Which documents of ``data.files`` are trained on."""

    train = "train"
    all = "all"


@dataclass
class DataSection:
    """Text to train and to validate on."""

    docs: bool = MISSING
    files: list[str] = field(default_factory=list)
    files_split: FilesSplit = FilesSplit.train
    validation_files: list[str] = field(default_factory=list)
    text_field: str = "text"
    id_field: str = "id"


@dataclass
class TokenizerSection:
    """Tokenizer of a decoder that is made from scratch."""

    vocabulary_size: int = within(261)
    share: float = within(0, 1)


@dataclass
class LoraSection:
    """Low-rank adapters of the decoder."""

    rank: int = within(0, default=0)
    alpha: float = within(0, default=16.0)
    dropout: float = within(0, 1, default=0.0)
    target_modules: Any = "all-linear"


@dataclass
class ModelSection:
    """Encoder and decoder."""

    chunk_size: int = within(1)
    refrag: str | None = None
    encoder_pooling: str = MISSING
    induction_start: bool = MISSING
    chunk_reading_start: bool = MISSING
    embedding_scale: float = within(0)
    decoder: Any = MISSING
    encoder: Any = MISSING
    lora: LoraSection = field(default_factory=LoraSection)


@dataclass
class PartSection:
    """One part of a mixture of windows."""

    kind: str = MISSING
    weight: float = within(0)
    expansion: Expansion = Expansion.mixed
    context_weight: float = within(0, default=0.0)
    distillation: float = within(0, 1, default=0.0)
    domains: list[str] | None = None
    windows: dict[str, Any] = field(default_factory=dict)


@dataclass
class StageSection:
    """One stage."""

    steps: int = within(0)
    batch_tokens: int | None = within(1, default=None)
    batch_windows: int | None = within(1, default=None)
    accumulate: int = within(1, default=1)
    warmup: float = within(0, 1)
    optimizer: Optimizer = MISSING
    learning_rate: float = within(0)
    muon_learning_rate: float = within(0)
    final_learning_rate: float = within(0)
    expanded_fraction: list[float] = field(default_factory=lambda: [0.0, 1.0])
    expanded_runs: float = within(0, 1, default=0.5)
    parts: list[PartSection] = field(default_factory=list)


@dataclass
class ReconstructionSection(StageSection):
    """The stage with the decoder frozen."""

    curriculum_stages: int = within(1)
    min_chunks: int = within(1)
    max_chunks: int = within(1)


@dataclass
class ContinualSection(StageSection):
    """The stage on mixed input."""

    curriculum_stages: int = within(1)


@dataclass
class PretrainConfig:
    """``python -m refrag_rl.pretrain``."""

    data: DataSection = field(default_factory=DataSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    model: ModelSection = field(default_factory=ModelSection)
    language_modelling: StageSection | None = None
    reconstruction: ReconstructionSection = field(default_factory=ReconstructionSection)
    continual: ContinualSection = field(default_factory=ContinualSection)
    weight_decay: float = within(0)
    betas: list[float] = field(default_factory=list)
    max_gradient_norm: float = within(0)
    bfloat16: bool = MISSING
    compile: bool = False
    log_every: int = within(1)
    save_every: int = within(1)
    keep: int = within(1)
    validate_every: int = within(0)
    validation_windows: int = within(1)
    seed: int = within(0, LARGEST_SEED)
    in_memory_mb: float = within(0, default=256.0)
    output: str = MISSING
    verbose: bool = True
