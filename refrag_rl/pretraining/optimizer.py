"""Optimizers and learning rates of pre-training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedModel

OptimizerName = Literal["adamw", "muon"]


def build_optimizers(
    modules: Iterable[nn.Module],
    *,
    name: OptimizerName,
    learning_rate: float,
    muon_learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> list[torch.optim.Optimizer]:
    """Make the optimizers for the parameters that require a gradient.

    ``muon`` gives the weight matrices of the layers to Muon (Jordan et al. 2024,
    ``torch.optim.Muon``) and all else (embeddings, output layers, norms, biases, convolutions) to
    AdamW. Weight decay is for matrices only.

    Args:
        modules: Their parameters, each once however often it is shared.
        name: ``adamw`` (the paper) or ``muon``.
        learning_rate: Peak of AdamW.
        muon_learning_rate: Peak of Muon.
        weight_decay: Of both.
        betas: Of AdamW.
    """
    embeddings, matrices, output_layers, others = [], [], [], []
    seen: set[int] = set()
    for module in modules:
        tables = {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}
        outputs = {id(layer.weight) for layer in _output_layers(module)}
        for parameter in module.parameters():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if id(parameter) in tables:
                embeddings.append(parameter)
            elif id(parameter) in outputs:
                output_layers.append(parameter)
            elif parameter.ndim == 2:
                matrices.append(parameter)
            else:
                others.append(parameter)
    by_adamw = matrices if name == "adamw" else []
    groups = [
        {"params": [*embeddings, *by_adamw, *output_layers], "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas)
    ]
    if name == "muon" and matrices:
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=muon_learning_rate,
                weight_decay=weight_decay,
                momentum=0.95,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers


def _output_layers(module: nn.Module) -> Iterator[nn.Linear]:
    """Yield the layers that turn last states into logits."""
    for child in module.modules():
        layer = child.get_output_embeddings() if isinstance(child, PreTrainedModel) else None
        if isinstance(layer, nn.Linear):
            yield layer


def learning_rate_factor(step: int, total: int, *, warmup: float, final: float) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a cosine (paper, B.2).

    Args:
        step: From 0.
        total: Steps of the stage.
        warmup: Share of the steps that warm up; 0.04 in the paper.
        final: Share of the peak that the cosine ends at.
    """
    warmup_steps = max(1, round(warmup * total))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total - warmup_steps)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
