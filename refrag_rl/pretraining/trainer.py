"""The training loop that all stages of pre-training run in.

A batch is a function of its step, and nothing else is random, so a run that was stopped and resumed
from its last checkpoint goes through the same batches and the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.pretraining.batches import Batch
from refrag_rl.pretraining.optimizer import learning_rate_factor
from refrag_rl.training_state import Checkpoint


class Progress(Protocol):
    """Shows how far a stage is."""

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Show that ``done`` of ``total`` steps are done."""
        ...


@dataclass(frozen=True, slots=True)
class StageSettings:
    """Settings of one stage.

    Attributes:
        name: Of the stage; names its folder and its scalars.
        steps: Optimizer steps.
        warmup: Share of the steps that warm up.
        final_learning_rate: Share of the peak that the cosine ends at.
        max_gradient_norm: Gradients are clipped to it.
        log_every: Steps between scalars.
        save_every: Steps between checkpoints.
        validate_every: Steps between validations; 0: none.
        bfloat16: Matrix products in bfloat16 (autocast).
    """

    name: str
    steps: int
    warmup: float = 0.04
    final_learning_rate: float = 0.0
    max_gradient_norm: float = 1.0
    log_every: int = 10
    save_every: int = 200
    validate_every: int = 0
    bfloat16: bool = True


def run_stage(
    model: RefragForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    batches: Callable[[int, float], Batch],
    loss_of: Callable[[RefragForCausalLM, Batch], Tensor],
    *,
    settings: StageSettings,
    folder: Path,
    writer: SummaryWriter,
    show: Progress,
    validate: Callable[[], Mapping[str, float]] | None = None,
) -> None:
    """Train one stage to its end, from its last checkpoint if there is one.

    Args:
        model: Trained in place; the parameters that require a gradient.
        optimizers: Over those parameters, at their peak learning rates.
        batches: ``(step, progress) -> Batch``.
        loss_of: ``(model, batch) -> ()`` loss in nats per token.
        settings: Of the stage.
        folder: Of the stage's checkpoint.
        writer: TensorBoard.
        show: Progress bar.
        validate: Returns figures to log every ``validate_every`` steps and at the end.

    Raises:
        FloatingPointError: The loss is not finite; the last checkpoint stands.
    """
    checkpoint = Checkpoint(folder)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    step, tokens = 0, 0
    if checkpoint.exists():
        progress = checkpoint.load(model, optimizers)
        step, tokens = progress["step"], progress["tokens"]
    parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    clock, counted = time.perf_counter(), 0
    losses: dict[str, list[float]] = {}
    while step < settings.steps:
        factor = learning_rate_factor(
            step, settings.steps, warmup=settings.warmup, final=settings.final_learning_rate
        )
        for optimizer, group_peaks in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, group_peaks, strict=True):
                group["lr"] = peak * factor
        batch = batches(step, step / settings.steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            loss = loss_of(model, batch)
        loss.backward()
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"stage {settings.name}: the loss of step {step} is {value} (batch {batch.name})"
            )
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_gradient_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        read = positions(batch)
        tokens += read
        counted += read
        losses.setdefault(batch.name, []).append(value)
        if step % settings.log_every == 0 or step == settings.steps:
            rate = counted / (time.perf_counter() - clock)
            figures = {name: sum(values) / len(values) for name, values in losses.items()}
            for name, mean in figures.items():
                writer.add_scalar(f"{settings.name}/loss/{name}", mean, tokens)
            writer.add_scalar(f"{settings.name}/tokens_per_second", rate, tokens)
            show(settings.name, step, settings.steps, {"tokens/s": rate, **figures})
            clock, counted, losses = time.perf_counter(), 0, {}
        due = settings.validate_every and step % settings.validate_every == 0
        if validate is not None and (due or step == settings.steps):
            held_out = validate()
            for name, mean in held_out.items():
                writer.add_scalar(f"{settings.name}/validation/{name}", mean, tokens)
            show(settings.name, step, settings.steps, held_out)
            clock = time.perf_counter()
        if step % settings.save_every == 0 or step == settings.steps:
            checkpoint.save(model, optimizers, {"step": step, "tokens": tokens})


def positions(batch: Batch) -> int:
    """Return the decoder positions of a batch."""
    rows, num_chunks, chunk_size = batch.context_ids.shape
    fixed = 1 + batch.prompt_ids.shape[1] + batch.output_ids.shape[1] + num_chunks
    return rows * fixed + int(batch.expanded.sum()) * (chunk_size - 1)
