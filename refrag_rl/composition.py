"""From a composed config to objects: the only module that calls Hydra's ``instantiate``.

Classes are named by ``_target_`` in the YAML files of ``refrag_rl/conf`` and of ``--config-dir``,
and nowhere else: nothing that was saved with a run or a policy is ever instantiated.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from refrag_rl.agents.oracle import Oracle
from refrag_rl.agents.selector import Selector
from refrag_rl.corpora.collection import IN_MEMORY_MB, collect, select_split
from refrag_rl.corpora.documents import SPLITS, Document, Split
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import WindowSource
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.errors import UserError, first_line
from refrag_rl.evaluation.interfaces import REFERENCES
from refrag_rl.evaluation.windows import JoinedWindows, LaterWindows
from refrag_rl.modeling.bfloat16 import number_format, warn_of_imitated_bfloat16
from refrag_rl.modeling.checkpoint import LoadedRefrag
from refrag_rl.modeling.compiling import require_compiler
from refrag_rl.modeling.quiet import silence_kernel_advice
from refrag_rl.observation import Inputs
from refrag_rl.reward import RewardModel

OTHER_ROWS = (*REFERENCES, *Oracle.names)
"""Rows of a comparison that are no agent's and no heuristic's."""


@dataclass(frozen=True)
class FrozenRefrag:
    """The frozen model with what cuts text for it.

    Attributes:
        reward_model: Scores selections.
        tokenizer: The decoder's.
        chunk_size: ``k``, tokens.
        reads_texts: Whether the encoder has a tokenizer of its own, for the texts of chunks.
    """

    reward_model: RewardModel
    tokenizer: PreTrainedTokenizerFast
    chunk_size: int
    reads_texts: bool


def build_refrag(section: DictConfig) -> FrozenRefrag:
    """Load the checkpoint that ``refrag`` of the config names.

    Raises:
        UserError: There is no such checkpoint, no such device, or what loads it gives no model.
    """
    options = _plain(section)
    device = choose_device("refrag.device", options["device"])
    dtype = number_format(options["dtype"], device)
    if dtype == "bfloat16":
        warn_of_imitated_bfloat16("refrag.dtype=bfloat16", "refrag.dtype=float32", device)
    if options["compile"]:
        require_compiler("refrag.compile", device)
    loader = {name: options[name] for name in ("_target_", "path")}
    with _quiet_loading():
        loaded = _make("refrag", loader, dtype=torch.float32, device=device)
    if not isinstance(loaded, LoadedRefrag):
        raise UserError(
            f"refrag._target_={loader['_target_']} gave {type(loaded).__name__}; "
            "it has to return a refrag_rl.modeling.checkpoint.LoadedRefrag"
        )
    reward_model = RewardModel(
        loaded.model,
        loaded.chunk_tokenizer,
        batch_tokens=options["batch_tokens"],
        dtype=dtype,
        compile=options["compile"],
        cache_windows=options["cache_windows"],
        cache_sets=options["cache_sets"],
    )
    if not isinstance(loaded.tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"refrag.path={options['path']}: {type(loaded.tokenizer).__name__} gives no character "
            "offsets\ngive a checkpoint with a fast tokenizer"
        )
    return FrozenRefrag(
        reward_model,
        loaded.tokenizer,
        loaded.model.config.chunk_size,
        reads_texts=not loaded.chunk_tokenizer.is_shared,
    )


def choose_device(key: str, device: str) -> str:
    """Return ``cpu`` or ``cuda`` for the value of a key: one of these, or ``auto``.

    Raises:
        UserError: It is ``cuda``, and there is no GPU.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{key}=cuda: no GPU is usable here; give cpu or auto")
    return device


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Hide the bar that transformers shows while it loads weights."""
    silence_kernel_advice()
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_documents(section: DictConfig) -> Sequence[Document]:
    """Read the documents that ``corpus`` of the config names, of all splits.

    Raises:
        UserError: A file is missing or cannot be read, or the section does not fit its class.
    """
    options = _plain(section)
    require_split(options.pop("split", "test"))
    in_memory_mb = options.pop("in_memory_mb", IN_MEMORY_MB)
    return collect(_make("corpus", options), in_memory_mb)


def evaluation_split(section: DictConfig, *, learns: bool) -> Split:
    """Return ``corpus.split``: the documents of the final comparison.

    Args:
        section: ``corpus`` of the config.
        learns: Whether something is trained on the split ``train`` in the same run.

    Raises:
        UserError: There is no such split, or it holds documents that are trained on.
    """
    split = require_split(section.get("split", "test"))
    if learns and split in ("train", "all"):
        raise UserError(
            f"corpus.split={split} holds the documents that are trained on; give test or validation"
        )
    return split


def require_split(split: object) -> Split:
    """Return a split, as it was given.

    Raises:
        UserError: There is none of this name.
    """
    for choice in SPLITS:
        if split == choice:
            return choice  # type: ignore[return-value]
    raise UserError(f"corpus.split={split}: there is no such split\nchoices: {', '.join(SPLITS)}")


def build_windows(
    section: DictConfig,
    documents: Sequence[Document],
    split: Split,
    refrag: FrozenRefrag,
    *,
    count: int,
    seed: int,
    each_domain: bool,
    with_texts: bool = True,
    first: int = 0,
) -> WindowSource:
    """Cut windows from one split of the documents.

    Args:
        section: ``windows`` of the config.
        documents: Of all splits.
        split: Which of them.
        refrag: Gives tokenizer and chunk size.
        count: How many windows.
        seed: Of the draw.
        each_domain: Whether there are ``count`` windows of each domain, or of all together.
        with_texts: Whether people will see them. Without, they hold texts only if the encoder
            reads them, or if the class has no argument ``with_texts``.
        first: Windows that are left out before those, of each domain or of all together.

    Raises:
        UserError: The split has no documents, or none is as long as a window.
    """
    if count < 1:
        raise UserError(f"count={count}: give 1 window or more")
    chosen = select_split(documents, split)
    if not chosen:
        raise UserError(
            f"none of the corpus's {len(documents)} documents is in its split {split}.\n"
            "Give more documents; refrag_rl.evaluate with corpus.split=all uses every document."
        )
    corpus = TokenizedCorpus(chosen, refrag.tokenizer)
    options = _plain(section)
    parts = [corpus.of_domain(domain) for domain in corpus.domains] if each_domain else [corpus]
    if "with_texts" in _called("windows", options)[1].parameters:
        options = {"with_texts": with_texts or refrag.reads_texts, **options}
    given: dict[str, Any] = {"chunk_size": refrag.chunk_size, "count": first + count, "seed": seed}
    sources: list[WindowSource] = []
    for part in parts:
        try:
            sources.append(_make("windows", options, corpus=part, **given))
        except UserError as error:
            if len(parts) == 1:
                raise
            raise UserError(
                f"domain {part.domains[0]}: {error}\nEach domain has windows of its own; "
                "corpus.domain=NAME makes the files of a corpus one domain."
            ) from error
    if first:
        sources = [LaterWindows(source, first) for source in sources]
    return sources[0] if len(sources) == 1 else JoinedWindows(sources)


def build_problem(
    windows: WindowSource,
    refrag: FrozenRefrag,
    *,
    budget: object = 1,
    reward: str = "neg_log_perplexity",
    reward_baseline: str = "none",
    inputs: Inputs | None = None,
    baseline_heuristics: Sequence[str] = (),
) -> ExpansionProblem:
    """Join windows and model; arguments as of ``ExpansionProblem``.

    The default budget fits every model; it is for callers that bring budgets of their own.

    Raises:
        UserError: An option is unknown or out of range.
    """
    spec: Any = OmegaConf.to_container(budget) if OmegaConf.is_config(budget) else budget
    return ExpansionProblem(
        windows,
        refrag.reward_model,
        spec,
        reward,  # type: ignore[arg-type]
        reward_baseline,  # type: ignore[arg-type]
        inputs=inputs,
        baseline_heuristics=baseline_heuristics,
    )


def build_agent(section: DictConfig) -> Selector:
    """Make the agent that ``agent`` of the config describes.

    Raises:
        UserError: An option is unknown or out of range, or the class is no selector.
    """
    agent = _make("agent", _plain(section))
    if not isinstance(agent, Selector):
        raise UserError(
            f"agent._target_={section._target_} is no selector: it needs a name and select()"
        )
    if agent.name in OTHER_ROWS:
        raise UserError(f"agent name {agent.name} is taken by another row; give another")
    return agent


def _plain(section: DictConfig) -> dict[str, Any]:
    """Return a section as a dictionary, interpolations resolved."""
    options = OmegaConf.to_container(section, resolve=True, throw_on_missing=True, enum_to_str=True)
    assert isinstance(options, dict)
    return {str(key): value for key, value in options.items()}


def _make(name: str, options: dict[str, Any], **objects: Any) -> Any:
    """Call the ``_target_`` of a section with its options and with objects beside them."""
    partial, signature = _called(name, options)
    try:
        signature.bind(*partial.args, **partial.keywords, **objects)
    except TypeError as error:
        allowed = set(signature.parameters) - set(objects)
        raise UserError(
            f"{name}={options['_target_']}: {error}\nits options: {', '.join(sorted(allowed))}"
        ) from error
    return partial(**objects)


def _called(name: str, options: dict[str, Any]) -> tuple[functools.partial[Any], inspect.Signature]:
    """Return the ``_target_`` of a section with its options, not yet called, and its arguments."""
    if "_target_" not in options:
        raise UserError(f"{name}._target_ is missing; give the dotted name of a class or function")
    target = options["_target_"]
    try:
        partial = instantiate({**options, "_partial_": True, "_convert_": "all"})
    except InstantiationException as error:
        raise UserError(f"{name}._target_={target}: {_why_not_made(error)}") from error
    try:
        return partial, inspect.signature(partial.func)
    except ValueError as error:
        raise UserError(f"{name}._target_={target} is no class that can be used here") from error


def _why_not_made(error: BaseException) -> str:
    """Return the first cause of an error of Hydra's ``instantiate``, and what to do."""
    while error.__cause__ is not None:
        error = error.__cause__
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    reason = f"{kind}{first_line(error)}"
    if isinstance(error, ModuleNotFoundError):
        reason += "\nrun the command from the folder that holds it, or set PYTHONPATH"
    return reason
