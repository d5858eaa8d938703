"""A training run: everything checked and loaded first, then learning, then the final comparison."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.learning import LearningAgent, own_options
from refrag_rl.agents.loading import POLICY_FOLDER, find_policy
from refrag_rl.agents.selector import Agent, Selector
from refrag_rl.agents.shipped import find_shipped, is_shipped_name
from refrag_rl.agents.starting import WARM_STARTS
from refrag_rl.board import add_hyperparameters
from refrag_rl.comparison import build_columns, build_comparator, build_heuristics
from refrag_rl.composition import (
    FrozenRefrag,
    build_agent,
    build_problem,
    build_refrag,
    build_windows,
    evaluation_split,
    load_documents,
)
from refrag_rl.corpora.documents import Document, Split
from refrag_rl.corpora.windows import WindowSource
from refrag_rl.envs.budget import Budget
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.envs.vector import SelectiveExpansionVectorEnv
from refrag_rl.errors import NotFiniteError, UserError
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import Row
from refrag_rl.evaluation.report import write_comparison
from refrag_rl.evaluation.tables import comparison_tables
from refrag_rl.event_files import ResumableWriter
from refrag_rl.monitoring import TrainingMonitor, training_checkpoint
from refrag_rl.observation import Inputs, inputs_of
from refrag_rl.page.run_report import RunReport
from refrag_rl.progress import ProgressReport
from refrag_rl.run_folder import CONFIG_FILE, choose_run_folder, create_run_folder
from refrag_rl.run_inputs import inputs_of_run, make_paths_absolute, require_same_inputs
from refrag_rl.saved_runs import read_config
from refrag_rl.score_caches import ScoreCaches
from refrag_rl.stopping import stopping_after_the_step
from refrag_rl.training_state import Checkpoint

TENSORBOARD_FOLDER = "tensorboard"
CHECKPOINT_FOLDER = "checkpoint"


@dataclass
class Learning:
    """What only a learning agent needs.

    Attributes:
        agent: Learns.
        env: On windows of the split ``train``.
        comparator: On windows of the split ``validation``.
        eval_every: Training rewards between two comparisons.
        save_every: Training rewards between two checkpoints.
        caches: Of the scores of both.
    """

    agent: Agent
    env: SelectiveExpansionVectorEnv
    comparator: Comparator
    eval_every: int
    save_every: int
    caches: ScoreCaches


@dataclass
class TrainingRun:
    """A run whose input was checked.

    Attributes:
        folder: Of the run; made already.
        agent: Trained, or a heuristic.
        learning: ``None`` for a heuristic.
        comparator: On windows of held-out documents.
        checkpoint: Of the training.
        report: Writes the run's page.
    """

    folder: Path
    agent: Selector
    learning: Learning | None
    comparator: Comparator
    checkpoint: Checkpoint
    report: RunReport
    _reached: Mapping[str, Any] = field(init=False, default_factory=dict)

    @property
    def learns(self) -> bool:
        """Whether the agent is one that learns."""
        return self.learning is not None

    def _write_hyperparameters(self, rows: Sequence[Row]) -> None:
        """Add settings and final figures to the curves, for TensorBoard's HParams tab."""
        config = read_config(self.folder / CONFIG_FILE)
        # An agent of somebody else's may keep no checkpoint.
        last = self.checkpoint.progress() if self.checkpoint.exists() else self._reached
        # What was written by a comparison that did not come to its end is cut off.
        writer = ResumableWriter(self.folder / TENSORBOARD_FOLDER, last["events"])
        with closing(writer):
            add_hyperparameters(writer, config, rows, self.agent.name, last["done"])

    def learn(self, console: Console) -> None:
        """Train the agent, from its checkpoint if there is one, and save its policy.

        Nothing for a heuristic.

        Raises:
            NotFiniteError: A reward, a gradient or a weight is NaN or infinite.
            StoppedError: A signal asked for it; the state is kept.
            UserError: All checkpoints are damaged.
        """
        if self.learning is None:
            return
        agent = self.learning.agent
        with TrainingMonitor(
            self.folder / TENSORBOARD_FOLDER,
            self.learning.comparator,
            self.learning.eval_every,
            checkpoint=self.checkpoint,
            save_every=self.learning.save_every,
            caches=self.learning.caches,
            last_scored=self.learning.env.problem.last_scored,
        ) as monitor:
            if self.learning.eval_every:
                with ProgressReport(console, "heuristics, validation", "selections") as progress:
                    monitor.compare_heuristics(progress)
            with ProgressReport(console, f"training {agent.name}", "rewards") as progress:
                monitor.progress = progress
                with stopping_after_the_step(), _naming_windows(self.learning.env.problem):
                    agent.learn(self.learning.env, monitor)
            self._reached = monitor.reached()
        agent.save(self.folder / POLICY_FOLDER)

    def compare(self, console: Console, progress_console: Console) -> None:
        """Compare on held-out documents, write the files, print the table.

        Args:
            console: For the table.
            progress_console: For the progress.
        """
        selectors = [] if self.agent in self.comparator.heuristics else [self.agent]
        highlighted = [self.agent.name]
        total = self.comparator.reports(len(selectors))
        with ProgressReport(progress_console, "held-out comparison", "selections") as progress:
            rows = self.comparator.compare(selectors, lambda _: progress.step(total))
        if self.learning is not None:
            self._write_hyperparameters(rows)
        write_comparison(self.folder, rows, highlighted)
        for table in comparison_tables(rows, highlighted):
            console.print()
            console.print(table)
        # After all else: a page that fails must not cost the comparison.
        self.report.write(
            self.folder,
            self.comparator,
            selectors,
            rows,
            progress_console,
            highlighted=highlighted,
            curves=self.folder / TENSORBOARD_FOLDER,
        )


def prepare(config: DictConfig, resumed: Path | None = None) -> TrainingRun:
    """Check and load everything, and make the run's folder last.

    Args:
        config: As composed from ``refrag_rl/conf/train.yaml``.
        resumed: Folder of the run that is gone on with; ``None``: a new one, as the config says.

    Raises:
        UserError: Something does not exist or does not fit; no folder was made.
    """
    if (
        resumed is not None
        and training_checkpoint(resumed / CHECKPOINT_FOLDER, config.keep).exists()
    ):
        config = _without_first_policy(config)
    agent = build_agent(config.agent)
    learns = isinstance(agent, Agent)
    if config.start_from is not None and not learns:
        raise UserError(
            f"start_from={config.start_from}: agent {agent.name} learns nothing; leave it out"
        )
    folder = resumed or choose_run_folder(config, agent.name)
    own = {"check_own": agent.check_progress} if isinstance(agent, LearningAgent) else {}
    checkpoint = training_checkpoint(folder / CHECKPOINT_FOLDER, config.keep, **own)
    heuristics = _heuristics(config.evaluation.heuristics, agent)
    split = evaluation_split(config.corpus, learns=learns)
    refrag = build_refrag(config.refrag)
    documents = load_documents(config.corpus)
    inputs = inputs_of_run(refrag.reward_model.fingerprint, documents)
    if resumed is not None:
        require_same_inputs(resumed, inputs)
    comparator = _comparator(config, documents, split, refrag, heuristics, config.evaluation.count)
    learning = None
    if isinstance(agent, Agent):
        if config.start_from is not None:
            agent.load(_policy_to_start_from(config.start_from, refrag))
        _write_policy_options(config, agent)
        learning = _learning(config, agent, documents, refrag, heuristics)
    if resumed is None:
        make_paths_absolute(config)
        create_run_folder(
            folder,
            config,
            command="train",
            inputs=inputs,
            arguments=[str(each) for each in HydraConfig.get().overrides.task],
        )
    report = RunReport(refrag.tokenizer, config.report.windows)
    return TrainingRun(folder, agent, learning, comparator, checkpoint, report)


@contextmanager
def _naming_windows(problem: ExpansionProblem) -> Iterator[None]:
    """Add the windows of the update under way to an error in its numbers that names none."""
    try:
        yield
    except NotFiniteError as error:
        windows = error.windows or list(dict.fromkeys(problem.last_scored))
        if error.windows or not windows:
            raise
        more = f" and {len(windows) - 3} more" if len(windows) > 3 else ""
        raise NotFiniteError(
            f"{error}, in an update on the windows {', '.join(windows[:3])}{more}", windows
        ) from error


def _without_first_policy(config: DictConfig) -> DictConfig:
    """Return the config of a run whose weights are kept: what it started from may be gone by now.

    ``agent.policy`` says how that policy is built; see ``_write_policy_options``.
    """
    config = copy.deepcopy(config)
    config.start_from = None
    if config.agent.get("warm_start") not in (None, *WARM_STARTS):
        config.agent.warm_start = None
    return config


def _policy_to_start_from(path: str, refrag: FrozenRefrag) -> Path:
    if is_shipped_name(path):
        return find_shipped(path, refrag.reward_model.fingerprint)
    folder = find_policy(path)
    if folder is None:
        raise UserError(
            f"start_from={path}: there is no policy in it\n"
            "give a run folder, a policy folder or policy:default"
        )
    return folder


def _write_policy_options(config: DictConfig, agent: Agent) -> None:
    """Let the config say which policy is trained where a loaded one keeps its own options."""
    if isinstance(agent, LearningAgent) and agent.selector is not None:
        config.agent.policy = own_options(agent.selector.policy.config)


def _heuristics(names: Sequence[str], agent: Selector) -> list[Selector]:
    """Return the heuristics to compare with; an agent that is one stands in its own place."""
    heuristics = build_heuristics(names)
    if agent.name not in HEURISTICS:
        return heuristics
    if type(agent) is not HEURISTICS[agent.name]:
        raise UserError(f"agent name {agent.name} is taken by a heuristic; give another")
    return [*(heuristic for heuristic in heuristics if heuristic.name != agent.name), agent]


def training_windows(
    config: DictConfig, documents: Sequence[Document], refrag: FrozenRefrag
) -> WindowSource:
    """Return the windows that a run is trained on.

    Args:
        config: Of the run.
        documents: Of its corpus.
        refrag: Gives tokenizer and chunk size.

    Raises:
        UserError: An option is unknown or out of range.
    """
    return build_windows(
        config.windows,
        documents,
        "train",
        refrag,
        count=config.train_count,
        seed=config.seed,
        each_domain=False,
        with_texts=False,
    )


def _learning(
    config: DictConfig,
    agent: Agent,
    documents: Sequence[Document],
    refrag: FrozenRefrag,
    heuristics: Sequence[Selector],
) -> Learning:
    section = config.env
    if section.baseline_heuristics and section.reward_baseline.value != "best_heuristic":
        raise UserError(
            f"env.baseline_heuristics={list(section.baseline_heuristics)} has no effect with "
            f"env.reward_baseline={section.reward_baseline.value}\nleave it out, or give "
            "env.reward_baseline=best_heuristic"
        )
    problem = build_problem(
        training_windows(config, documents, refrag),
        refrag,
        budget=config.budget,
        reward=section.reward.value,
        reward_baseline=section.reward_baseline.value,
        inputs=Inputs(inputs_of(agent).features, section.chunk_embeddings.value),
        baseline_heuristics=list(section.baseline_heuristics),
    )
    env = SelectiveExpansionVectorEnv(
        problem, section.num_envs, reward_timing=section.reward_timing.value
    )
    evaluation = config.evaluation
    comparator = _comparator(
        config, documents, "validation", refrag, heuristics, evaluation.validation_count
    )
    caches = ScoreCaches(problem, refrag.reward_model)
    return Learning(agent, env, comparator, evaluation.eval_every, config.save_every, caches)


def _comparator(
    config: DictConfig,
    documents: Sequence[Document],
    split: Split,
    refrag: FrozenRefrag,
    heuristics: Sequence[Selector],
    count: int,
) -> Comparator:
    windows = build_windows(
        config.windows, documents, split, refrag, count=count, seed=config.seed, each_domain=True
    )
    budgets = list(config.evaluation.budgets)
    # What is trained at a fixed number of chunks is compared at it, too.
    if isinstance(config.budget, int):
        # One out of range is an error of its own, not of the comparison's.
        Budget.parse(config.budget, chunk_size=windows.chunk_size, num_chunks=windows.num_chunks)
        budgets.append(config.budget)
    columns = build_columns(
        list(config.evaluation.rates),
        budgets,
        chunk_size=windows.chunk_size,
        num_chunks=windows.num_chunks,
        section="evaluation.",
    )
    return build_comparator(windows, refrag, heuristics, columns, config.seed)
