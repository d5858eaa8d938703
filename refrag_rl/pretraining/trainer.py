"""The training loop that all stages of pre-training run in.

A batch is a function of its step, and nothing else is random, so a run that was stopped and resumed
from its last checkpoint goes through the same batches and the same weights.

Each process draws the whole batch of a step and reads its own rows, in ``accumulate`` parts. The
loss is a weighted mean over the batch's tokens; a part counts by its share of the weights, so the
gradient is that of the whole batch, however it was cut.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from refrag_rl.errors import NotFiniteError, StoppedError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.pretraining.batch import Batch, positions, split
from refrag_rl.pretraining.optimizer import learning_rate_factor
from refrag_rl.stopping import received
from refrag_rl.training_state import KEEP, Checkpoint, gather, require_fields


class Progress(Protocol):
    """Shows how far a stage is."""

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        """Show that ``done`` of ``total`` steps are done."""
        ...


class Scalars(Protocol):
    """Takes the curves of a run, as TensorBoard's ``SummaryWriter`` does."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Add a point to a curve."""
        ...

    def position(self) -> dict[str, int]:
        """Return how long the curves' files are, everything written; see ``ResumableWriter``."""
        ...


_PROGRESS = {"step": int, "tokens": int, "losses": dict, "events": dict}
"""What is kept beside the state."""

Loss = Callable[[Batch], Tensor]
"""Loss of a batch, () in nats per token."""


class _StageModel(nn.Module):
    """The model with its loss as its forward pass, which is what DDP and FSDP wrap.

    Args:
        model: To be trained.
        loss_of: ``(model, batch) -> ()``.
    """

    def __init__(
        self, model: RefragForCausalLM, loss_of: Callable[[RefragForCausalLM, Batch], Tensor]
    ) -> None:
        super().__init__()
        self.model = model
        self._loss_of = loss_of

    def forward(self, batch: Batch) -> Tensor:
        return self._loss_of(self.model, batch)


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
        accumulate: Parts in which a process reads its rows of a batch.
        keep: Checkpoints that are kept.
    """

    name: str
    steps: int
    warmup: float = 0.04
    final_learning_rate: float = 0.0
    max_gradient_norm: float = 1.0
    log_every: int = 10
    save_every: int = 200
    validate_every: int = 0
    accumulate: int = 1
    keep: int = KEEP


def stage_checkpoint(
    folder: Path, steps: int, *, writes: bool = True, keep: int = KEEP
) -> Checkpoint:
    """Return the checkpoint of a stage, in which only states that it can be in are sound.

    Args:
        folder: Of the stage.
        steps: Of the whole stage.
        writes: Whether this process writes.
        keep: How many states are kept.
    """

    def check(progress: Mapping[str, Any]) -> None:
        require_fields(progress, _PROGRESS)
        if progress["step"] > steps:
            raise ValueError(f"its step is {progress['step']}, of {steps} in all")
        for name, values in progress["losses"].items():
            if not isinstance(values, list) or not all(isinstance(v, float) for v in values):
                raise ValueError(f"its losses of {name} are no numbers")

    return Checkpoint(folder, writes=writes, keep=keep, check=check)


def run_stage(
    model: RefragForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    batches: Callable[[int, float], Batch],
    loss_of: Callable[[RefragForCausalLM, Batch], Tensor],
    *,
    accelerator: Accelerator,
    settings: StageSettings,
    folder: Path,
    writer: Scalars,
    show: Progress,
    validate: Callable[[Loss], Mapping[str, float]] | None = None,
    dropouts: Sequence[nn.Module] = (),
) -> None:
    """Train one stage to its end, from its last checkpoint if there is one.

    Args:
        model: Trained in place; the parameters that require a gradient.
        optimizers: Over those parameters, at their peak learning rates.
        batches: ``(step, progress) -> Batch`` of all processes together.
        loss_of: ``(model, batch) -> ()`` loss in nats per token, a mean over the batch's tokens by
            their weights.
        accelerator: Processes, devices and number format.
        settings: Of the stage.
        folder: Of the stage's checkpoint, which the main process writes.
        writer: TensorBoard.
        show: Progress bar.
        validate: Returns figures to log every ``validate_every`` steps and at the end.
        dropouts: Put in training mode for the steps; all else stays in evaluation mode.

    Raises:
        NotFiniteError: The loss, the gradient or a weight is NaN or infinite; the last checkpoint
            is from before.
        StoppedError: A signal asked for it; the step is finished and the state kept.
        UserError: All checkpoints are damaged.
    """
    checkpoint = stage_checkpoint(
        folder, settings.steps, writes=accelerator.is_main_process, keep=settings.keep
    )
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    prepared, *optimizers = accelerator.prepare(_StageModel(model, loss_of), *optimizers)
    step, tokens = 0, 0
    # Since the last point of the curves, by the batch's name.
    losses: dict[str, list[float]] = {}
    if checkpoint.exists():
        progress = checkpoint.load(model, optimizers)
        step, tokens, losses = progress["step"], progress["tokens"], progress["losses"]
    clock, counted = time.perf_counter(), 0
    while step < settings.steps:
        factor = learning_rate_factor(
            step, settings.steps, warmup=settings.warmup, final=settings.final_learning_rate
        )
        for optimizer, group_peaks in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, group_peaks, strict=True):
                group["lr"] = peak * factor
        batch = batches(step, step / settings.steps)
        with _training(dropouts, step, accelerator.process_index):
            value = _accumulate_gradient(accelerator, prepared, batch, settings.accumulate)
        _require_finite("loss", value, settings.name, step, batch)
        norm = _clip(accelerator, prepared, optimizers, settings.max_gradient_norm)
        _require_finite("gradient's norm", norm, settings.name, step, batch)
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
            started = time.perf_counter()
            held_out = validate(lambda batch: prepared(batch.to(accelerator.device)))
            clock += time.perf_counter() - started
            for name, mean in held_out.items():
                writer.add_scalar(f"{settings.name}/validation/{name}", mean, tokens)
            show(settings.name, step, settings.steps, held_out)
        stop = _agreed(accelerator, received())
        if step % settings.save_every == 0 or step == settings.steps or stop is not None:
            _require_finite("largest weight", _largest_weight(model), settings.name, step, batch)
            state = {"step": step, "tokens": tokens, "losses": losses}
            checkpoint.save(model, optimizers, {**state, "events": writer.position()})
            accelerator.wait_for_everyone()
        if stop is not None:
            raise StoppedError(stop)
    accelerator.free_memory()


def _accumulate_gradient(
    accelerator: Accelerator, prepared: nn.Module, batch: Batch, accumulate: int
) -> float:
    """Leave the gradient of a batch's loss in the parameters; return the loss, nats per token."""
    processes, first = accelerator.num_processes, accelerator.process_index * accumulate
    parts = split(batch, processes * accumulate)[first : first + accumulate]
    value = torch.zeros((), device=accelerator.device)
    for number, (part, share) in enumerate(parts, start=1):
        last = number == len(parts)
        with nullcontext() if last else accelerator.no_sync(prepared):
            loss = prepared(part.to(accelerator.device)) * share
            # The processes' gradients are averaged, not summed.
            accelerator.backward(loss * processes)
        value += loss.detach()
    return float(accelerator.reduce(value, "sum").item())


def _clip(
    accelerator: Accelerator,
    prepared: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    max_norm: float,
) -> float:
    """Clip the gradient of all optimized parameters together; return its norm before."""
    parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    if accelerator.distributed_type == DistributedType.FSDP:
        # accelerate knows a model in shards by the list of all its parameters.
        parameters = list(prepared.parameters())
    return float(gather(accelerator.clip_grad_norm_(parameters, max_norm)))


def _require_finite(what: str, value: float, stage: str, step: int, batch: Batch) -> None:
    """Raise ``NotFiniteError`` with the windows of a batch, unless the value is finite."""
    if math.isfinite(value):
        return
    more = f" and {len(batch.keys) - 3} more" if len(batch.keys) > 3 else ""
    raise NotFiniteError(
        f"stage {stage}, step {step}: the {what} is {value}, in a batch of {batch.name} with the "
        f"windows {', '.join(batch.keys[:3])}{more}",
        batch.keys,
    )


def _largest_weight(model: nn.Module) -> float:
    """Return the largest absolute value of a trained weight: NaN if one is."""
    trained = [p.detach() for p in model.parameters() if p.requires_grad]
    return float(torch.stack([gather(weight.abs().max()).float() for weight in trained]).max())


def _agreed(accelerator: Accelerator, stop: int | None) -> int | None:
    """Return the signal that a process was stopped by: all must end after the same step."""
    if accelerator.num_processes == 1:
        return stop
    number = torch.tensor([stop or 0], device=accelerator.device)
    return int(accelerator.gather(number).max()) or None


@contextmanager
def _training(dropouts: Sequence[nn.Module], step: int, process: int) -> Iterator[None]:
    """Turn dropout on for one step, its draws being a function of step and process alone."""
    if dropouts:
        torch.manual_seed(hash((step, process)))
    for module in dropouts:
        module.train()
    try:
        yield
    finally:
        for module in dropouts:
            module.eval()
