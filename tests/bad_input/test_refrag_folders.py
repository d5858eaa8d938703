"""Checkpoint folders of REFRAG that are damaged, or lead elsewhere, are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.bad_input.checking import check_refused
from tests.bad_input.damage import (
    NO_JSON,
    NO_SAFETENSORS,
    Damage,
    content,
    edited,
    first,
    pickled,
    put,
    saved_by_torch,
    tensors,
    without,
)
from tests.cli.running import InProcess

CODE = "import pathlib\npathlib.Path('executed').mkdir()\nclass Evil: pass\n"
AUTO = {
    "AutoConfig": "evil.Evil",
    "AutoModel": "evil.Evil",
    "AutoModelForCausalLM": "evil.Evil",
    "AutoTokenizer": ["evil.Evil", "evil.Evil"],
}

CONFIGS: dict[str, Damage] = {
    **NO_JSON,
    "other-type": put("model_type", "llama"),
    "type-list": put("model_type", ["refrag"]),
    "chunk-0": put("chunk_size", 0),
    "chunk-text": put("chunk_size", "8"),
    "chunk-half": put("chunk_size", 8.5),
    "chunk-null": put("chunk_size", None),
    "chunk-huge": put("chunk_size", 10**12),
    "pooling": put("encoder_pooling", "last"),
    "pooling-number": put("encoder_pooling", 5),
    "projector": put("projector_hidden_size", -3),
    "projector-other": put("projector_hidden_size", 17),
    "projector-huge": put("projector_hidden_size", 10**15),
    "bos": put("bos_token_id", 100_000),
    "bos-negative": put("bos_token_id", -1),
    "bos-null": put("bos_token_id", None),
    "cls": put("cls_token_id", 100_000),
    "no-decoder": without("decoder"),
    "decoder-null": put("decoder", None),
    "decoder-list": put("decoder", []),
    "decoder-empty": put("decoder", {}),
    "decoder-unknown": put("decoder.model_type", "nothing"),
    "decoder-other": put("decoder.model_type", "gpt2"),
    "decoder-width": put("decoder.hidden_size", 24),
    "decoder-width-0": put("decoder.hidden_size", 0),
    "decoder-width-text": put("decoder.hidden_size", "16"),
    "decoder-heads": put("decoder.num_attention_heads", 3),
    "decoder-heads-0": put("decoder.num_attention_heads", 0),
    "decoder-layers": put("decoder.num_hidden_layers", 10**9),
    "decoder-layers-text": put("decoder.num_hidden_layers", "many"),
    "decoder-vocabulary": put("decoder.vocab_size", 10**15),
    "decoder-activation": put("decoder.hidden_act", "os.system"),
    "decoder-kernel": put("decoder.attn_implementation", "someone/kernel"),
    "decoder-kernel-2": put("decoder._attn_implementation", "someone/kernel:forward"),
    "encoder-empty": put("encoder", {}),
    "encoder-t5": put("encoder", {"model_type": "t5"}),
    "encoder-layers": put("encoder.num_hidden_layers", 3),
    "encoder-positions": put("encoder.max_position_embeddings", 4),
    "auto-map": put("auto_map", AUTO),
    "auto-map-decoder": put("decoder.auto_map", AUTO),
    "auto-map-type": put("decoder", {"model_type": "evil", "auto_map": AUTO}),
    "quantized": put("quantization_config", {"quant_method": "bitsandbytes"}),
    "weights-name": put("transformers_weights", "../other.safetensors"),
    "weights-pickle": put("transformers_weights", "pytorch_model.bin"),
    "nested": edited(lambda data: {"model_type": "refrag", "decoder": nested(900)}),
}

WEIGHTS: dict[str, Damage] = {
    **NO_SAFETENSORS,
    "none": tensors(lambda own: own.clear()),
    "one-less": tensors(lambda own: own.popitem()),
    "wider": first(lambda tensor: torch.cat([tensor, tensor])),
    "turned": first(lambda tensor: torch.zeros(tensor.shape[0] + 1, tensor.shape[1])),
    "flat": first(torch.flatten),
    "renamed": tensors(lambda own: own.update({"../weight": own.pop(min(own))})),
}

TOKENIZERS: dict[str, Damage] = {
    **{name: damage for name, damage in NO_JSON.items() if name != "removed"},
    "model": put("model.type", "Nothing"),
    "no-model": without("model"),
    "larger": edited(
        lambda data: data["model"]["vocab"].update({f"w{n}": n for n in range(300, 999)})
    ),
    "vocabulary": put("model.vocab", {"a": -1}),
    "merges": put("model.merges", ["a b c d"]),
}


def nested(depth: int) -> object:
    inner: object = {}
    for _ in range(depth):
        inner = {"a": inner}
    return inner


def use(in_process: InProcess, tmp_path: Path, tiny_corpus: Path) -> None:
    given = ("corpus=files", f"corpus.path={tiny_corpus}", "selectors=[recency]", "output=out")
    check_refused(in_process("evaluate", *given, "refrag.path=model"), tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.fixture
def model(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """Return a copy of the tiny model."""
    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    (tmp_path / "model" / "evil.py").write_text(CODE)
    return tmp_path / "model"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_damaged_config(
    in_process: InProcess, tmp_path: Path, tiny_corpus: Path, model: Path, name: str
) -> None:
    CONFIGS[name](model / "config.json")
    use(in_process, tmp_path, tiny_corpus)


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights(
    in_process: InProcess, tmp_path: Path, tiny_corpus: Path, model: Path, name: str
) -> None:
    WEIGHTS[name](model / "model.safetensors")
    use(in_process, tmp_path, tiny_corpus)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_damaged_tokenizer(
    in_process: InProcess, tmp_path: Path, tiny_corpus: Path, model: Path, name: str
) -> None:
    TOKENIZERS[name](model / "tokenizer.json")
    use(in_process, tmp_path, tiny_corpus)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "adapter_model.bin"])
@pytest.mark.parametrize("damage", [pickled, saved_by_torch])
def test_pickled_weights_are_not_read(
    in_process: InProcess,
    tmp_path: Path,
    tiny_corpus: Path,
    model: Path,
    file: str,
    damage: Damage,
) -> None:
    (model / "model.safetensors").rename(model / "model-other.safetensors")
    damage(model / file)
    use(in_process, tmp_path, tiny_corpus)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt"])
def test_it_is_said_how_pickled_weights_can_be_used(
    in_process: InProcess, tmp_path: Path, tiny_corpus: Path, model: Path, file: str
) -> None:
    (model / "model.safetensors").rename(model / file)
    given = ("corpus=files", f"corpus.path={tiny_corpus}", "selectors=[recency]", "output=out")
    outcome = in_process("evaluate", *given, "refrag.path=model")
    check_refused(outcome, tmp_path)
    assert f"{file} is a pickle" in outcome.err and "convert it to safetensors" in outcome.err


def test_an_adapter_leads_to_no_other_model(
    in_process: InProcess, tmp_path: Path, tiny_corpus: Path, model: Path
) -> None:
    shutil.copytree(model, tmp_path / "other")
    text = json.dumps({"base_model_name_or_path": "../other", "peft_type": "LORA"})
    (model / "adapter_config.json").write_text(text)
    pickled(model / "adapter_model.bin")
    use(in_process, tmp_path, tiny_corpus)


def test_a_tokenizer_that_names_code(
    in_process: InProcess, tmp_path: Path, tiny_corpus: Path, model: Path
) -> None:
    put("auto_map", {"AutoTokenizer": ["evil.Evil", "evil.Evil"]})(model / "tokenizer_config.json")
    put("tokenizer_class", "Evil")(model / "tokenizer_config.json")
    given = ("corpus=files", f"corpus.path={tiny_corpus}", "selectors=[recency]", "count=0")
    outcome = in_process("evaluate", *given, "refrag.path=model")
    assert outcome.code == 2
    assert not (tmp_path / "executed").exists()


INDEXES: dict[str, object] = {
    "outside": {"weight_map": {"a": "../other/model.safetensors"}, "metadata": {}},
    "absolute": {"weight_map": {"a": "/etc/passwd"}, "metadata": {}},
    "missing": {"weight_map": {"a": "model-1.safetensors"}, "metadata": {}},
    "pickle": {"weight_map": {"a": "pytorch_model.bin"}, "metadata": {}},
    "empty": {"weight_map": {}, "metadata": {}},
    "list": [],
    "no-map": {"metadata": {}},
    "map-list": {"weight_map": ["a"]},
    "numbers": {"weight_map": {"a": 5}},
    "no-metadata": {"weight_map": {"a": "model-other.safetensors"}},
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_of_shards_that_cannot_be_used(
    in_process: InProcess, tmp_path: Path, tiny_corpus: Path, model: Path, name: str
) -> None:
    shutil.copytree(model, tmp_path / "other")
    (model / "model.safetensors").rename(model / "model-other.safetensors")
    pickled(model / "pytorch_model.bin")
    (model / "model.safetensors.index.json").write_text(json.dumps(INDEXES[name]))
    use(in_process, tmp_path, tiny_corpus)


def test_a_sharded_checkpoint_is_read(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from refrag_rl.modeling.checkpoint import load_refrag

    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    whole = load_file(tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "model.safetensors").unlink()
    names = sorted(whole)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({n: whole[n] for n in own}, tmp_path / "model" / file, {"format": "pt"})
    index = {n: file for file, own in shards.items() for n in own}
    path = tmp_path / "model" / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": index}))
    weights = load_refrag(tmp_path / "model").model.state_dict()
    assert all(torch.equal(weights[n], whole[n]) for n in names)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("damage", [pickled, saved_by_torch])
def test_a_part_in_a_pickle_is_not_read_for_pretraining(
    in_process: InProcess, tmp_path: Path, model: Path, part: str, damage: Damage
) -> None:
    from tests.cli.test_pretrain import TINY

    (tmp_path / "text.txt").write_text("word " * 3000)
    folder = tmp_path / "part"
    folder.mkdir()
    config = {"model_type": "roberta", "hidden_size": 32, "auto_map": AUTO}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(CODE)
    shutil.copy(model / "tokenizer.json", folder)
    content(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))(
        folder / "tokenizer_config.json"
    )
    damage(folder / "pytorch_model.bin")
    plain = tuple(each for each in TINY if not each.startswith(f"model.{part}."))
    data = ("data.files=[text.txt]", "data.validation_files=[text.txt]")
    loaded = (
        f"model.{part}=part",
        "model.induction_start=false",
        "model.chunk_reading_start=false",
    )
    outcome = in_process("pretrain", *plain, *data, *loaded, "output=out")
    check_refused(outcome, tmp_path)
    assert "pytorch_model.bin is a pickle" in outcome.err
    assert "convert it to safetensors" in outcome.err
    assert not (tmp_path / "executed").exists()
