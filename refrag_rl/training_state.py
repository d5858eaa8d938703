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

from refrag_rl.errors import UserError


class Checkpoint:
    """The newest state of a training: weights, optimizer states, and how far it is.

    Args:
        folder: Where it lies; made when first saved to. ``.new`` and ``.old`` beside it are in use
            while it is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        fresh = self._folder.with_name(self._folder.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        save_file(_unshared(model.state_dict()), fresh / "model.safetensors")
        save_file(_optimizer_tensors(optimizers), fresh / "optimizers.safetensors")
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
            missing, unexpected = model.load_state_dict(weights, strict=False)
            own = _unshared(model.state_dict())
            if unexpected or set(missing) & set(own):
                raise KeyError(", ".join([*unexpected, *(set(missing) & set(own))][:3]))
            _restore_optimizers(optimizers, tensors)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0][:200]
            raise UserError(
                f"{self._folder} cannot be resumed from ({reason}). "
                "Give the folder of a run with the same settings, or start anew in another folder."
            ) from error
        return progress

    def _newest(self) -> Path:
        """Return the folder, or the one before it if a save ended between its two renames."""
        return self._folder if self._folder.exists() else self._old


def _unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep one name for each tensor: tied weights are written once."""
    kept: dict[int, str] = {}
    for name, tensor in state.items():
        kept.setdefault(tensor.data_ptr() if tensor.numel() else id(tensor), name)
    return {name: state[name].contiguous() for name in kept.values()}


def _optimizer_tensors(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    tensors = {}
    for number, optimizer in enumerate(optimizers):
        for index, entries in optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                tensors[f"{number}.{index}.{key}"] = torch.as_tensor(value).clone().contiguous()
    return tensors


def _restore_optimizers(
    optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]
) -> None:
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in tensors.items():
        number, index, key = name.split(".", 2)
        states[int(number)].setdefault(int(index), {})[key] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
