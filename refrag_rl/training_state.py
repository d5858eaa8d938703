"""The state of a running training: what a checkpoint holds, and how it is put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from refrag_rl.checkpoint_files import CheckpointFiles, Saved
from refrag_rl.errors import UserError, first_line
from refrag_rl.random_state import check_random_state, random_state, restore_random_state

_MOST = 2**62
"""Above any number of steps, tokens or seconds."""

KEEP = 2
"""Checkpoints that are kept where nothing else is said."""


CheckProgress = Callable[[Mapping[str, Any]], None]
"""Raises ``ValueError`` for a checkpoint's progress that no training can be at."""


def require_fields(progress: Mapping[str, Any], fields: Mapping[str, type]) -> None:
    """Check what a checkpoint's progress holds, before it is used.

    Args:
        progress: Of the checkpoint.
        fields: Type of each field that is needed; an integer is a float, too.

    Raises:
        ValueError: A field is missing, of another type, or a number that is none of its kind.
    """
    for name, kind in fields.items():
        kinds = (int, float) if kind is float else (kind,)
        value = progress.get(name)
        fits = isinstance(value, kinds) and not isinstance(value, bool)
        if not fits or (isinstance(value, int | float) and not 0 <= value < _MOST):
            raise ValueError(f"its {name} is {progress.get(name)!r}")


class Checkpoint:
    """The last states of a training: weights, optimizer and random states, how far it is.

    Args:
        folder: Where they lie; made when first saved to.
        writes: Whether this process writes; of several processes one does. All of them call
            ``save`` and ``load``: tensors in shards (FSDP) are gathered and cut by all together.
        keep: How many states are kept, at least 1.
        check: Of the progress; a state that it refuses counts as damaged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        writes: bool = True,
        keep: int = KEEP,
        check: CheckProgress = lambda _: None,
    ) -> None:
        self._folder = folder
        self._writes = writes
        self._check_progress = check
        self._files = CheckpointFiles(folder, keep, self._check)
        self._read: Saved | None = None

    def _check(self, saved: Saved) -> None:
        self._check_progress(saved.progress)
        check_random_state(_part(saved.tensors, "random."))

    def exists(self) -> bool:
        """Return whether there is a state to go on from.

        Raises:
            UserError: The folder holds files of another format.
        """
        return self._files.exist()

    def last_path(self) -> Path | None:
        """Return the file of the last state; ``None``: there is none."""
        return self._files.last_path()

    def progress(self) -> dict[str, Any]:
        """Return what ``save`` was given as progress last; a damaged state is passed over.

        Raises:
            UserError: There is no sound state.
        """
        return self._saved().progress

    def extra(self) -> dict[str, Tensor]:
        """Return what ``save`` was given as extra last.

        Raises:
            UserError: There is no sound state.
        """
        return _part(self._saved().tensors, "extra.")

    def save(
        self,
        model: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        progress: Mapping[str, Any],
        extra: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a state beside the last one, or none at all.

        Args:
            model: Its weights are written.
            optimizers: Their states are written; learning rates are the caller's affair.
            progress: What JSON can hold.
            extra: Further tensors, on the CPU.

        Raises:
            OSError: There is no room, or the like; the last state is as it was.
            SafetensorError: Likewise.
        """
        weights = _unshared(model.state_dict(), keep=self._writes)
        tensors = _optimizer_tensors(optimizers, keep=self._writes)
        if not self._writes:
            return
        parts = {
            "model.": weights,
            "optimizers.": tensors,
            "random.": random_state(),
            "extra.": extra or {},
        }
        everything = {
            prefix + name: t for prefix, part in parts.items() for name, t in part.items()
        }
        self._read = None
        self._files.write(everything, progress)

    def load(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
        """Put the last sound state into model, optimizers and the global random generators.

        Returns:
            Its progress.

        Raises:
            UserError: There is none, or it is of another model.
        """
        saved = self._saved()
        try:
            weights = _part(saved.tensors, "model.")
            own = model.state_dict()
            parts = {n: cut_like(w, own[n]) if n in own else w for n, w in weights.items()}
            missing, unexpected = model.load_state_dict(parts, strict=False)
            needed = set(missing) & set(_names(own))
            if unexpected or needed:
                raise KeyError(", ".join([*unexpected, *needed][:3]))
            _restore_optimizers(optimizers, _part(saved.tensors, "optimizers."))
            restore_random_state(_part(saved.tensors, "random."))
        except (ValueError, LookupError, RuntimeError, TypeError, AttributeError) as error:
            reason = first_line(error, 200)
            raise UserError(
                f"{saved.path} cannot be resumed from ({reason}). "
                "Give the folder of a run with the same settings, or start anew in another folder."
            ) from error
        self._read = None
        return saved.progress

    def _saved(self) -> Saved:
        """Return the last sound state; kept until it is loaded, so that it is read once."""
        if self._read is None:
            self._read = self._files.read(report=self._writes)
        return self._read


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def gather(tensor: Tensor) -> Tensor:
    """Return a tensor that lies in shards on several processes whole; others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return a whole tensor in shards like another's, if that is in shards."""
    if not isinstance(other, DTensor) or tensor.shape != other.shape:
        return tensor
    return distribute_tensor(
        tensor.to(other.device_mesh.device_type), other.device_mesh, other.placements
    )


def _names(state: dict[str, Tensor]) -> list[str]:
    """Return one name for each tensor: tied weights are written once, but for those in shards."""
    kept: dict[int | str, str] = {}
    for name, tensor in state.items():
        if isinstance(tensor, DTensor):
            kept[name] = name
        else:
            kept.setdefault(tensor.data_ptr() if tensor.numel() else id(tensor), name)
    return list(kept.values())


def _unshared(state: dict[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Gather the tensors one by one, each once, and return them if they are to be kept."""
    whole = ((name, gather(state[name])) for name in _names(state))
    return {name: tensor.cpu().contiguous() for name, tensor in whole if keep}


def _optimizer_tensors(optimizers: list[torch.optim.Optimizer], *, keep: bool) -> dict[str, Tensor]:
    tensors = {}
    for number, optimizer in enumerate(optimizers):
        for index, entries in optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                tensor = gather(torch.as_tensor(value))
                if keep:
                    tensors[f"{number}.{index}.{key}"] = tensor.cpu().clone().contiguous()
    return tensors


def _restore_optimizers(
    optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]
) -> None:
    parameters = [[p for group in o.param_groups for p in group["params"]] for o in optimizers]
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in tensors.items():
        number, index, key = name.split(".", 2)
        parameter = parameters[int(number)][int(index)]
        if tensor.ndim and tensor.shape != parameter.shape:
            raise ValueError(f"the optimizer's {name} has the shape {tuple(tensor.shape)}")
        part = cut_like(tensor, parameter)
        states[int(number)].setdefault(int(index), {})[key] = part
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
