"""The state of a running training on disk: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from refrag_rl.errors import UserError


class Checkpoint:
    """The newest state of a training: weights, optimizer states, and how far it is.

    Args:
        folder: Where it lies; made when first saved to. ``.new`` and ``.old`` beside it are in use
            while it is saved.
        writes: Whether this process writes; of several processes one does. All of them call
            ``save`` and ``load``: tensors in shards (FSDP) are gathered and cut by all together.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self._folder = folder
        self._writes = writes
        self._old = folder.with_name(folder.name + ".old")

    def exists(self) -> bool:
        """Return whether there is a state to go on from."""
        return (self._newest() / "progress.json").is_file()

    def progress(self) -> dict[str, Any]:
        """Return what ``save`` was given as progress last.

        Raises:
            OSError: There is no state.
            ValueError: It is damaged.
        """
        return dict(json.loads((self._newest() / "progress.json").read_text(encoding="utf-8")))

    def save(
        self,
        model: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        progress: dict[str, Any],
    ) -> None:
        """Write weights, optimizer states and progress, then put them in the place of the last."""
        weights = _unshared(model.state_dict(), keep=self._writes)
        tensors = _optimizer_tensors(optimizers, keep=self._writes)
        if not self._writes:
            return
        fresh = self._folder.with_name(self._folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(weights, fresh / "model.safetensors")
        save_file(tensors, fresh / "optimizers.safetensors")
        (fresh / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
        for path in fresh.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if self._folder.exists():
            shutil.rmtree(self._old, ignore_errors=True)
            self._folder.rename(self._old)
        fresh.rename(self._folder)
        shutil.rmtree(self._old, ignore_errors=True)

    def load(self, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
        """Put the saved state into the model and the optimizers and return the progress.

        Raises:
            UserError: A file is missing, damaged or of another model.
        """
        try:
            weights = load_file(self._newest() / "model.safetensors")
            tensors = load_file(self._newest() / "optimizers.safetensors")
            progress = self.progress()
            own = model.state_dict()
            parts = {n: cut_like(w, own[n]) if n in own else w for n, w in weights.items()}
            missing, unexpected = model.load_state_dict(parts, strict=False)
            needed = set(missing) & set(_names(own))
            if unexpected or needed:
                raise KeyError(", ".join([*unexpected, *needed][:3]))
            _restore_optimizers(optimizers, tensors)
        except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"{self._folder} cannot be resumed from ({reason}). "
                "Give the folder of a run with the same settings, or start anew in another folder."
            ) from error
        return progress

    def _newest(self) -> Path:
        """Return the folder, or the one before it if a save ended between its two renames."""
        return self._folder if self._folder.exists() else self._old


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
        part = cut_like(tensor, parameters[int(number)][int(index)])
        states[int(number)].setdefault(int(index), {})[key] = part
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
