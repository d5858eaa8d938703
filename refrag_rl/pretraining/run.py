"""A pre-training run: text and tokenizer, the stages, and the checkpoint with its card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, cast

from accelerate import Accelerator
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from transformers.utils import logging

from refrag_rl.allocator import keep_large_blocks
from refrag_rl.atomic import write_text
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.errors import StoppedError, UserError
from refrag_rl.event_files import ResumableWriter
from refrag_rl.going_on import saying_how_to_go_on
from refrag_rl.modeling.bfloat16 import warn_of_imitated_bfloat16
from refrag_rl.modeling.checkpoint import save_refrag
from refrag_rl.modeling.compiling import require_compiler
from refrag_rl.pretraining.assembly import decoder_tokenizer
from refrag_rl.pretraining.card import LICENCES, model_card
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.mixture import batch_size, load_documents
from refrag_rl.pretraining.processes import build_accelerator
from refrag_rl.pretraining.progress import Silent, show_stages
from refrag_rl.pretraining.recipe import STAGES, Recipe, stage_checkpoints
from refrag_rl.pretraining.settings import PretrainConfig
from refrag_rl.pretraining.trainer import Progress, Scalars
from refrag_rl.printable import printable
from refrag_rl.run_folder import (
    CONFIG_FILE,
    describe_circumstances,
    leaving_no_trace_of_a_mistake,
)
from refrag_rl.run_lock import LOCK_FILE, hold
from refrag_rl.saved_runs import read_config, refuse_links
from refrag_rl.training_state import Checkpoint

CHANGEABLE = ("in_memory_mb", "keep", "output", "verbose")
"""Settings that a run may be gone on with changed; ``output``, because a folder may be moved."""


def run_pretraining(config: DictConfig) -> None:
    """Pre-train as the config says, from where the run in ``output`` was left.

    Raises:
        FullDiskError: There is no room left; the last checkpoint is intact.
        NotFiniteError: A loss, a gradient or a weight is NaN or infinite.
        StoppedError: Ctrl-C or SIGTERM; the state is kept.
        UserError: There is no text, a setting cannot be used, ``output`` holds a run with another
            config, or a run that is under way.
    """
    # transformers says at each start that a faster kernel for convolutions exists, for GPUs only.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    keep_large_blocks()
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, PretrainConfig)
    folder = Path(settings.output).expanduser()
    _check(settings)
    accelerator = build_accelerator(bfloat16=settings.bfloat16)
    if settings.compile:
        require_compiler("compile", accelerator.device.type)
    main = accelerator.is_main_process
    if main and settings.bfloat16:
        warn_of_imitated_bfloat16("bfloat16=true", "bfloat16=false", accelerator.device.type)
    in_memory_mb = settings.in_memory_mb
    train_documents = load_documents(settings.data, "train", in_memory_mb)
    validation_documents = load_documents(settings.data, "validation", in_memory_mb)
    # The main process makes the run's folder and the tokenizer; the others find them.
    with ExitStack() as open_until_end:
        with accelerator.main_process_first():
            new = _claim(folder, OmegaConf.to_yaml(config), main=main)
            if main and new:
                open_until_end.enter_context(
                    leaving_no_trace_of_a_mistake(
                        folder, lambda: _last_checkpoint(folder) is not None
                    )
                )
            tokenizer = decoder_tokenizer(settings, train_documents, folder / "tokenizer")
        train = TokenizedCorpus(train_documents, tokenizer)
        validation = TokenizedCorpus(validation_documents, tokenizer)
        accelerator.print(
            f"{len(train)} documents, {train.num_tokens / 1e6:.1f}M tokens; "
            f"{validation.num_tokens / 1e6:.1f}M to validate on"
        )
        writer: Scalars = Silent()
        show: Progress = Silent()
        if main:
            last = partial(_last_checkpoint, folder)
            open_until_end.enter_context(saying_how_to_go_on(_same_command(accelerator), last))
            curves = ResumableWriter(folder, _last_position(settings, folder))
            writer = cast(Scalars, open_until_end.enter_context(closing(curves)))
            if settings.verbose:
                show = open_until_end.enter_context(show_stages())
        recipe = Recipe(
            settings,
            tokenizer,
            train=train,
            validation=validation,
            folder=folder,
            accelerator=accelerator,
            writer=writer,
            show=show,
        )
        if recipe.validation.left_out:
            accelerator.print(f"not validated on: {'; '.join(recipe.validation.left_out)}")
        try:
            recipe.run()
        except StoppedError:
            # Of all processes, after the same step: none waits for another at its end.
            accelerator.end_training()
            raise
        if main:
            _finish(settings, folder, OmegaConf.to_yaml(config), recipe, train)
    accelerator.end_training()


def _finish(
    settings: PretrainConfig,
    folder: Path,
    config_yaml: str,
    recipe: Recipe,
    train: TokenizedCorpus,
) -> None:
    """Measure the model and write it with its figures and its card."""
    refrag = recipe.refrag
    model, chunk_tokenizer = refrag.model, refrag.chunk_tokenizer
    figures = recipe.validation(
        lambda batch: mixed_loss(model, batch.to(model.device), chunk_tokenizer)
    )
    write_text(folder / "metrics.json", json.dumps(dict(figures), indent=2))
    model.bfloat16()
    card = model_card(
        name=folder.name,
        config_yaml=config_yaml,
        command=" ".join(["python -m refrag_rl.pretrain", *HydraConfig.get().overrides.task]),
        circumstances=describe_circumstances(),
        tokens=recipe.trained_positions(),
        parameters={
            part: sum(p.numel() for p in getattr(model, part).parameters())
            for part in ("encoder", "projector", "decoder")
        },
        figures=figures,
        documents=_sources(train),
        validation_windows=settings.validation_windows,
        validation_context=recipe.validation.context_length,
    )
    save_refrag(folder / "model", refrag, card=card)
    _print_figures(figures)
    print(f"model: {folder / 'model'}  (use it with refrag.path={folder / 'model'})")


def _check(settings: PretrainConfig) -> None:
    """Check what the types and ranges of the config do not say, before a folder is made.

    Raises:
        UserError: Something cannot be used.
    """
    if len(settings.betas) != 2 or not all(0 <= beta < 1 for beta in settings.betas):
        raise UserError(f"betas={settings.betas}: give two numbers from 0 to below 1")
    for name in STAGES:
        stage = getattr(settings, name)
        if stage is None:
            continue
        batch_size(stage)
        ends = stage.expanded_fraction
        if len(ends) != 2 or not 0 <= ends[0] <= ends[1] <= 1:
            raise UserError(
                f"{name}.expanded_fraction={ends}: give the two ends of a range from 0 to 1"
            )
        weights = [part.weight for part in stage.parts]
        if name != "reconstruction" and stage.steps and not sum(weights) > 0:
            raise UserError(f"{name}.parts: their weights are {weights}; give at least one above 0")
    if settings.max_gradient_norm <= 0:
        raise UserError(f"max_gradient_norm={settings.max_gradient_norm}: give a number above 0")


def _claim(folder: Path, config: str, *, main: bool) -> bool:
    """Make the run's folder, or check that it holds a run with the same config; lock it.

    Args:
        folder: Of the run.
        config: Of the run, as YAML.
        main: Whether this is the main process: it holds the lock for all.

    Returns:
        Whether the run is a new one.
    """
    path = folder / CONFIG_FILE
    try:
        new = not path.exists()
        if new and folder.exists() and _holds_something(folder):
            raise UserError(f"output={folder}: the folder is not empty. Give a new one.")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={folder} cannot be used: {error.strerror}") from error
    refuse_links(folder)
    if main:
        hold(folder)
    if not path.exists():
        write_text(path, config)
    elif _decisive(read_config(path)) != _decisive(
        OmegaConf.to_container(OmegaConf.create(config))
    ):
        raise UserError(
            f"output={folder}: it holds a run with another config. "
            "Give the same options to go on with it, or another folder."
        )
    return new


def _holds_something(folder: Path) -> bool:
    return not folder.is_dir() or any(file.name != LOCK_FILE for file in folder.iterdir())


def _same_command(accelerator: Accelerator) -> str:
    if accelerator.num_processes > 1:
        return "the command that started it"
    return shlex.join(["python", "-m", "refrag_rl.pretrain", *HydraConfig.get().overrides.task])


def _decisive(settings: Any) -> dict[str, Any]:
    """Return the settings that decide what a run comes to; none where they are no settings.

    Keys that were not there when a run was begun have the schema's default: what was done then.
    """
    try:
        whole = OmegaConf.merge(OmegaConf.structured(PretrainConfig), settings)
    except (OmegaConfBaseException, TypeError, ValueError):
        return {}
    named = cast(dict[str, Any], OmegaConf.to_container(whole))
    return {key: value for key, value in named.items() if key not in CHANGEABLE}


def _last_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint of the last stage that has one."""
    paths = (Checkpoint(folder / name).last_path() for name in reversed(STAGES))
    return next((path for path in paths if path is not None), None)


def _last_position(settings: PretrainConfig, folder: Path) -> dict[str, int]:
    """Return how long the event files were at the last checkpoint."""
    # Another object loads it, and reports where the newest is damaged.
    for checkpoint in reversed(stage_checkpoints(settings, folder).values()):
        if checkpoint.exists():
            return dict(checkpoint.progress()["events"])
    return {}


def _sources(corpus: TokenizedCorpus) -> list[str]:
    lines = []
    for domain in corpus.domains:
        part = corpus.of_domain(domain)
        line = f"{domain}: {len(part)} documents, {part.num_tokens / 1e6:.1f} million tokens"
        lines.append(f"{line}; {LICENCES[domain]}" if domain in LICENCES else line)
    return lines


def _print_figures(figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        print(f"  {printable(name):40} {value:.3f} nats per token")
