"""The named shapes: commented, and of the sizes that their names promise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import refrag_rl.conf

FILES = sorted((Path(refrag_rl.conf.__file__).parent / "model").glob("*.yaml"))
MILLIONS = {
    "llama-2-7b-shape": (6738, 355),
    "llama-3.2-1b-shape": (1236, 355),
    "small-shape": (23, 2),
    "tiny-shape": (0, 0),
}


def parameters(auto_class: type, options: dict[str, object]) -> int:
    config = AutoConfig.for_model(**options)
    with torch.device("meta"):
        model: nn.Module = auto_class.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shape_has_the_parameters_of_its_name(path: Path) -> None:
    shape = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(shape, dict)
    assert shape["name"] == path.stem
    decoder = parameters(AutoModelForCausalLM, shape["decoder"])
    encoder = parameters(AutoModel, shape["encoder"])
    assert (round(decoder / 1e6), round(encoder / 1e6)) == MILLIONS[path.stem]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_has_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert all(" # " in line for line in lines[1:])
