"""The stages of pre-training, put together from the config."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from transformers import PreTrainedTokenizerFast

from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.checkpoint import LoadedRefrag
from refrag_rl.modeling.compiling import compile_body
from refrag_rl.pretraining.assembly import build_model, start_encoder
from refrag_rl.pretraining.attention import write_out_attention
from refrag_rl.pretraining.batches import MixtureBatches, ReconstructionBatches
from refrag_rl.pretraining.lora import Lora, lora_dropouts
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.mixture import StageBatches
from refrag_rl.pretraining.optimizer import build_optimizers
from refrag_rl.pretraining.settings import Expansion, Optimizer, PretrainConfig, StageSection
from refrag_rl.pretraining.trainer import (
    Progress,
    Scalars,
    StageSettings,
    run_stage,
    stage_checkpoint,
)
from refrag_rl.pretraining.validation import Validation
from refrag_rl.stopping import stopping_after_the_step
from refrag_rl.training_state import Checkpoint, gather

Batches = MixtureBatches | ReconstructionBatches

STAGES = ("language_modelling", "reconstruction", "continual")


class Recipe:
    """Runs the stages of one pre-training, each from where it was left.

    Args:
        config: The whole config.
        tokenizer: Of the decoder.
        train: Training documents, tokenized.
        validation: Held-out documents, tokenized.
        folder: Of the run; each stage has a checkpoint in it.
        accelerator: Processes, devices and number format.
        writer: TensorBoard.
        show: Progress bar.

    Attributes:
        refrag: The model with its tokenizers.
        validation: Held-out windows.

    Raises:
        UserError: The model or the batches of a stage cannot be made, or the decoder cannot read
            them.
    """

    def __init__(
        self,
        config: PretrainConfig,
        tokenizer: PreTrainedTokenizerFast,
        *,
        train: TokenizedCorpus,
        validation: TokenizedCorpus,
        folder: Path,
        accelerator: Accelerator,
        writer: Scalars,
        show: Progress,
    ) -> None:
        self._config = config
        self._folder = folder
        self._accelerator = accelerator
        self._writer = writer
        self._show = show
        torch.manual_seed(config.seed)
        self.refrag: LoadedRefrag = build_model(config.model, tokenizer)
        with_texts = not self.refrag.chunk_tokenizer.is_shared
        chunk_size, limit = config.model.chunk_size, self.refrag.model.max_decoder_positions
        batches = StageBatches(
            train, chunk_size=chunk_size, seed=config.seed, with_texts=with_texts
        )
        make: dict[str, Callable[[Any, int], Batches]] = {
            "language_modelling": batches.mixture,
            "reconstruction": batches.reconstruction,
            "continual": batches.mixture,
        }
        # All of them now: what cannot be cut in the last stage is said before the first is trained.
        self._batches: dict[str, Batches] = {
            name: make[name](stage, config.seed * len(STAGES) + number)
            for number, name in enumerate(STAGES)
            if (stage := getattr(config, name)) is not None and stage.steps
        }
        for name, made in self._batches.items():
            _require_readable(name, made, limit)
        longest = [max(made.longest_rows().values()) for made in self._batches.values()]
        write_out_attention(
            self.refrag.model, accelerator.device, longest_row=max(longest, default=0)
        )
        self._compile(self.refrag.model)
        self.validation = Validation(
            validation,
            chunk_size=chunk_size,
            count=config.validation_windows,
            max_positions=limit,
            with_texts=with_texts,
        )

    # Around all stages: also where one process is between two of them, all stop after one step.
    @stopping_after_the_step()
    def run(self) -> RefragForCausalLM:
        """Run all stages in order and return the model, in evaluation mode.

        Raises:
            StoppedError: A signal asked for it; the step is finished and the state kept.
        """
        model, lora = self.refrag.model, self._config.model.lora
        all_parts = ["encoder", "projector", "decoder"]
        compresses = _compresses(self._config.language_modelling)
        first = all_parts if compresses else ["decoder"]
        self._run("language_modelling", first)
        section = self._config.model
        from_scratch = section.refrag is None and not isinstance(section.encoder, str)
        begun = compresses or Checkpoint(self._folder / "reconstruction").exists()
        if from_scratch and not begun:
            start_encoder(model)
        self._run("reconstruction", ["encoder", "projector"])
        if not lora.rank:
            self._run("continual", all_parts)
            return model.eval()
        torch.manual_seed(self._config.seed)
        adapters = Lora(
            model.decoder,
            rank=lora.rank,
            alpha=lora.alpha,
            dropout=lora.dropout,
            target_modules=lora.target_modules,
        )
        self._run("continual", ["encoder", "projector"], adapters)
        adapters.merge()
        return model.eval()

    def trained_positions(self) -> dict[str, int]:
        """Return the decoder positions that each stage was trained on so far."""
        return {
            name: int(checkpoint.progress()["tokens"])
            for name, checkpoint in stage_checkpoints(self._config, self._folder).items()
            if checkpoint.exists()
        }

    def _compile(self, model: RefragForCausalLM) -> None:
        if self._config.compile:
            for body in (model.encoder, model.decoder.base_model):
                compile_body(body)

    def _run(
        self,
        name: str,
        trained: Sequence[str],
        lora: Lora | None = None,
    ) -> None:
        stage: StageSection | None = getattr(self._config, name)
        if stage is None or not stage.steps:
            return
        config, whole = self._config, self.refrag.model
        whole.requires_grad_(False)
        for module in [getattr(whole, part) for part in trained] + (lora.adapters if lora else []):
            module.requires_grad_(True)
        in_shards = self._accelerator.distributed_type == DistributedType.FSDP
        if in_shards and stage.optimizer is not Optimizer.adamw:
            raise UserError(
                f"{name}.optimizer={stage.optimizer.value}: it needs whole matrices, and FSDP cuts "
                f"them. Give {name}.optimizer=adamw."
            )
        # A model that was cut into shards stays so: a copy is cut, and its weights are taken back.
        model = whole
        if in_shards:
            model = copy.deepcopy(whole)
            self._compile(model)  # a copy forgets that its original was compiled
        optimizers = build_optimizers(
            [model],
            name=cast(Any, stage.optimizer.value),
            learning_rate=stage.learning_rate,
            muon_learning_rate=stage.muon_learning_rate,
            weight_decay=config.weight_decay,
            betas=(config.betas[0], config.betas[1]),
        )
        with_chunks = name != "language_modelling" or _compresses(stage)
        run_stage(
            model,
            optimizers,
            self._batches[name],
            partial(mixed_loss, chunk_tokenizer=self.refrag.chunk_tokenizer),
            accelerator=self._accelerator,
            settings=StageSettings(
                name=name,
                steps=stage.steps,
                warmup=stage.warmup,
                final_learning_rate=stage.final_learning_rate,
                max_gradient_norm=config.max_gradient_norm,
                log_every=config.log_every,
                save_every=config.save_every,
                keep=config.keep,
                validate_every=config.validate_every,
                accumulate=stage.accumulate,
            ),
            folder=self._folder / name,
            writer=self._writer,
            show=self._show,
            validate=partial(self.validation, with_chunks=with_chunks),
            dropouts=lora_dropouts(model) if lora else (),
        )
        if in_shards:
            target = whole.state_dict()
            for key, tensor in model.state_dict().items():
                target[key].copy_(gather(tensor))


def stage_checkpoints(config: PretrainConfig, folder: Path) -> dict[str, Checkpoint]:
    """Return the checkpoint of each stage that a config has, to be read only."""
    return {
        name: stage_checkpoint(folder / name, stage.steps, writes=False)
        for name in STAGES
        if (stage := getattr(config, name)) is not None and stage.steps
    }


def _compresses(stage: StageSection | None) -> bool:
    """Return whether chunk embeddings stand in the windows of a stage that is trained."""
    if stage is None or not stage.steps:
        return False
    return any(part.expansion is not Expansion.all for part in stage.parts)


def _require_readable(stage: str, batches: Batches, limit: int | None) -> None:
    """Check that the decoder can read all rows of a stage.

    Raises:
        UserError: A row is longer than ``limit`` positions.
    """
    if limit is None:
        return
    rows = batches.longest_rows()
    name = max(rows, key=rows.__getitem__)
    if rows[name] <= limit:
        return
    remedy = "a smaller max_chunks" if stage == "reconstruction" else "shorter windows"
    raise UserError(
        f"{stage}: a window of {name} takes {rows[name]} positions, the decoder reads {limit}: "
        f"give {remedy}, or a decoder that reads more."
    )
