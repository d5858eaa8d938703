"""The presets compose, fit the types, and hold the paper's numbers."""

from __future__ import annotations

from importlib import resources

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from refrag_rl.pretraining.mixture import batch_size
from refrag_rl.pretraining.settings import Optimizer, PretrainConfig
from refrag_rl.schema import register


def composed(*overrides: str) -> DictConfig:
    register()
    with initialize_config_module("refrag_rl.conf", version_base="1.3"):
        return compose("pretrain", overrides=[*overrides, "output=run"])


def test_default_is_the_embedded_model() -> None:
    assert composed() == composed("pretrain=tiny")
    config = OmegaConf.to_object(composed("continual.steps=7", "data.files=[a.txt]"))
    assert isinstance(config, PretrainConfig)
    assert config.continual.steps == 7 and config.data.files == ["a.txt"]
    assert config.language_modelling is not None
    assert config.language_modelling.optimizer is Optimizer.muon
    assert config.model.decoder["model_type"] == "lfm2"


def test_paper_has_the_numbers_of_the_paper() -> None:
    config = OmegaConf.to_object(
        composed("pretrain=paper", "data.files=[a]", "data.validation_files=[b]")
    )
    assert isinstance(config, PretrainConfig)
    assert "Llama-2-7b" in config.model.decoder and "roberta-large" in config.model.encoder
    assert config.model.chunk_size == 16 and config.bfloat16
    assert config.language_modelling is None
    stages = (config.reconstruction, config.continual)
    assert [stage.learning_rate for stage in stages] == [2e-4, 5e-5]
    for stage in stages:
        assert batch_size(stage).rows(4096) == 256
        assert stage.optimizer is Optimizer.adamw
        assert stage.warmup == 0.04 and stage.curriculum_stages == 9
        assert stage.final_learning_rate == 0.0
    assert config.reconstruction.max_chunks * config.model.chunk_size == 2048
    (part,) = config.continual.parts
    assert part.windows == {"context_length": 2048, "prompt_length": 0, "output_length": 2048}
    assert config.continual.expanded_fraction == [0.1, 0.1]
    assert config.continual.expanded_runs == 0.0
    tokens = config.continual.steps * 256 * (2048 + 2048)
    assert tokens == pytest.approx(4 * 20e9, rel=1e-4)


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_unknown_keys_are_refused_in_every_preset(preset: str) -> None:
    with pytest.raises(ConfigCompositionException, match="nosuch"):
        composed(f"pretrain={preset}", "continual.nosuch=1")


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_lines_of_presets_say_what_their_keys_mean(preset: str) -> None:
    text = resources.files("refrag_rl.conf").joinpath(f"pretrain/{preset}.yaml").read_text("utf-8")
    top = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    sections = {"data:", "model:"}
    assert all("#" in line or line.strip() in sections for line in top)


def test_configuration_for_shards_is_read_by_accelerate() -> None:
    file = resources.files("refrag_rl.conf").joinpath("accelerate/fsdp.yaml")
    with resources.as_file(file) as path:
        config = load_config_from_file(str(path))
    assert config.distributed_type == DistributedType.FSDP
    assert config.mixed_precision == "bf16"
    assert config.fsdp_config["fsdp_version"] == 2
    assert "LlamaDecoderLayer" in config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"]
