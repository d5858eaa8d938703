"""Types of the config tree: what Hydra checks the YAML files and the command line against.

``agent`` and ``corpus`` are left open, because users plug in classes of their own there; those
classes check their arguments themselves. The keys are explained in ``refrag_rl/conf``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from refrag_rl.bounds import LARGEST_SEED, within
from refrag_rl.pretraining.settings import PretrainConfig


class PromptPosition(Enum):
    """Where the prompt stands."""

    after = "after"
    before = "before"


class Retriever(Enum):
    """Which of the passages that were found are taken."""

    strong = "strong"
    weak = "weak"


class Order(Enum):
    """How the passages are ordered."""

    shuffled = "shuffled"
    ranked = "ranked"


class Reward(Enum):
    """What the policy is paid."""

    neg_log_perplexity = "neg_log_perplexity"
    neg_perplexity = "neg_perplexity"


class RewardBaseline(Enum):
    """What is subtracted from the reward."""

    none = "none"
    compressed = "compressed"
    perplexity_desc = "perplexity_desc"
    perplexity_asc = "perplexity_asc"
    recency = "recency"
    lead = "lead"
    similarity = "similarity"
    lexical = "lexical"
    passage_rank = "passage_rank"
    successor = "successor"
    best_heuristic = "best_heuristic"


class ChunkEmbeddings(Enum):
    """Which chunk embeddings the policy reads."""

    encoder = "encoder"
    projector = "projector"


class RewardTiming(Enum):
    """When the reward comes."""

    terminal = "terminal"
    per_step = "per_step"


class Device(Enum):
    """Where the frozen model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Dtype(Enum):
    """Number format of the frozen model."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class NumberFormat(Enum):
    """Number format of a measurement."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass
class WindowsSection:
    """Keys that every kind of window has."""

    _target_: str = MISSING
    context_length: int = MISSING
    prompt_length: int = MISSING
    output_length: int = MISSING
    prompt_position: PromptPosition = PromptPosition.after


@dataclass
class ContiguousSection(WindowsSection):
    """``windows=contiguous``."""


@dataclass
class RetrievedSection(WindowsSection):
    """``windows=retrieved``."""

    passage_length: int = MISSING
    retriever: Retriever = Retriever.strong
    pool: int = MISSING
    order: Order = Order.shuffled


@dataclass
class RecallSection(WindowsSection):
    """``windows=recall``."""

    passage_length: int = MISSING


@dataclass
class RefragSection:
    """The frozen model."""

    _target_: str = "refrag_rl.modeling.checkpoint.load_refrag"
    path: str = MISSING
    dtype: Dtype = Dtype.auto
    device: Device = Device.auto
    compile: bool = False
    batch_tokens: int = within(1)
    cache_windows: int = within(0)
    cache_sets: int = within(0)


@dataclass
class EnvSection:
    """Options of the environment."""

    reward: Reward = Reward.neg_log_perplexity
    reward_baseline: RewardBaseline = RewardBaseline.none
    baseline_heuristics: list[str] = field(default_factory=list)
    chunk_embeddings: ChunkEmbeddings = ChunkEmbeddings.encoder
    reward_timing: RewardTiming = RewardTiming.terminal
    num_envs: int = within(1)


@dataclass
class EvaluationSection:
    """The comparison at the end of a training, and the smaller ones in its course."""

    rates: list[float] = field(default_factory=list)
    budgets: list[int] = field(default_factory=list)
    heuristics: list[str] = field(default_factory=list)
    count: int = within(1)
    validation_count: int = within(1)
    eval_every: int = within(0)


@dataclass
class ReportSection:
    """The page that a run leaves. The default stands for runs whose config has no such section."""

    windows: int = within(0, default=20)


@dataclass
class CommonConfig:
    """Keys that ``train``, ``evaluate`` and ``benchmark`` share."""

    corpus: Any = MISSING
    windows: Any = MISSING
    refrag: RefragSection = field(default_factory=RefragSection)
    seed: int = within(0, LARGEST_SEED)
    output: str | None = None


@dataclass
class TrainConfig(CommonConfig):
    """``python -m refrag_rl.train``."""

    verbose: bool = True
    agent: Any = MISSING
    env: EnvSection = field(default_factory=EnvSection)
    budget: Any = MISSING
    train_count: int = within(1)
    start_from: str | None = None
    save_every: int = within(0)
    keep: int = within(1)
    resume: str | None = None
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    report: ReportSection = field(default_factory=ReportSection)


@dataclass
class EvaluateConfig(CommonConfig):
    """``python -m refrag_rl.evaluate``."""

    verbose: bool = True
    selectors: list[str] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    budgets: list[int] = field(default_factory=list)
    count: int = within(1)
    first: int = within(0)
    references: bool = True
    oracle: int | None = within(0, default=None)
    report: ReportSection = field(default_factory=ReportSection)


@dataclass
class TextWindowSection:
    """How the end of a text is cut."""

    context_length: int = MISSING
    prompt_length: int = MISSING
    output_length: int = MISSING
    prompt_position: PromptPosition = PromptPosition.after


@dataclass
class InspectConfig:
    """``python -m refrag_rl.inspect``."""

    text: str = MISSING
    policy: Any = MISSING
    budget: Any = MISSING
    windows: TextWindowSection = field(default_factory=TextWindowSection)
    refrag: RefragSection = field(default_factory=RefragSection)
    seed: int = within(0, LARGEST_SEED)
    output: str | None = None


@dataclass
class ShapeSection:
    """Decoder and encoder of random weights."""

    name: str = MISSING
    decoder: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)


@dataclass
class RewardsBenchmarkConfig(CommonConfig):
    """``python -m refrag_rl.benchmark rewards``."""

    model: ShapeSection | None = None
    rates: list[float] = field(default_factory=list)
    dtypes: list[NumberFormat] | None = None
    count: int = within(1)
    group_size: int = within(1)
    plain_batch: int = within(1)
    cached: bool = False
    repeats: int = within(1)


class View(Enum):
    """A view of the environment."""

    single = "single"
    vector = "vector"
    sb3 = "sb3"


@dataclass
class EnvBenchmarkConfig(CommonConfig):
    """``python -m refrag_rl.benchmark env``."""

    env: EnvSection = field(default_factory=EnvSection)
    budget: Any = MISSING
    views: list[View] = field(default_factory=list)
    count: int = within(1)
    episodes: int = within(1)
    repeats: int = within(1)


@dataclass
class TrainBenchmarkConfig:
    """``python -m refrag_rl.benchmark train``."""

    agents: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    total_rewards: int = within(1)
    eval_every: int = within(0)
    rate: float = MISSING
    target: float | None = within(0, default=None)
    seed: int = within(0, LARGEST_SEED)
    output: str | None = None


@dataclass
class PretrainBenchmarkConfig:
    """``python -m refrag_rl.benchmark pretrain``."""

    decoder: dict[str, Any] = field(default_factory=dict)
    batch: int = within(1)
    length: int = within(2)
    compile: bool = MISSING
    float32: bool = MISSING
    repeats: int = within(1)
    device: Device = Device.auto
    seed: int = within(0, LARGEST_SEED)
    output: str | None = None


@dataclass
class PolicyShapeSection:
    """A policy of random weights: what it reads, and its network."""

    features: list[str] = field(default_factory=list)
    chunk_embeddings: ChunkEmbeddings = ChunkEmbeddings.encoder
    reads_embeddings: bool = MISSING
    prompt_token: bool = MISSING
    budget_token: bool = MISSING
    logits: str = MISSING
    width: int = within(1)
    layers: int = within(1)
    heads: int = within(1)
    neighbours: str = MISSING
    kernel: int = within(1)
    members: int = within(1)


@dataclass
class LatencyBenchmarkConfig:
    """``python -m refrag_rl.benchmark latency``."""

    model: ShapeSection = field(default_factory=ShapeSection)
    lengths: list[int] = field(default_factory=list)
    chunk_sizes: list[int] = field(default_factory=list)
    policy_rates: list[float] = field(default_factory=list)
    prompt_length: int = MISSING
    output_length: int = MISSING
    policy: PolicyShapeSection = field(default_factory=PolicyShapeSection)
    cuda_graphs: bool = MISSING
    encoder_tokens: int = within(1)
    warmup: int = within(0)
    repeats: int = within(1)
    device: Device = Device.auto
    dtype: Dtype = Dtype.auto
    seed: int = within(0, LARGEST_SEED)
    output: str | None = None


def register() -> None:
    """Make the types known to Hydra, under the names that the YAML files' defaults lists use."""
    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig, package="_global_")
    store.store(group="schema", name="evaluate", node=EvaluateConfig, package="_global_")
    store.store(group="schema", name="inspect", node=InspectConfig, package="_global_")
    store.store(group="schema", name="pretrain", node=PretrainConfig, package="_global_")
    for name, benchmark in (
        ("benchmark_rewards", RewardsBenchmarkConfig),
        ("benchmark_env", EnvBenchmarkConfig),
        ("benchmark_train", TrainBenchmarkConfig),
        ("benchmark_latency", LatencyBenchmarkConfig),
        ("benchmark_pretrain", PretrainBenchmarkConfig),
    ):
        store.store(group="schema", name=name, node=benchmark, package="_global_")
    for name, section in (
        ("contiguous", ContiguousSection),
        ("retrieved", RetrievedSection),
        ("recall", RecallSection),
    ):
        store.store(group="schema/windows", name=name, node=section)
