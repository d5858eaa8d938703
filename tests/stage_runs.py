"""A stage of pre-training on a tiny model, in this process or in several that are launched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.pretraining.batch import Batch
from refrag_rl.pretraining.batches import INDEFINITE, BatchSize, MixtureBatches, Part
from refrag_rl.pretraining.loss import mixed_loss
from refrag_rl.pretraining.optimizer import build_optimizers
from refrag_rl.pretraining.processes import build_accelerator
from refrag_rl.pretraining.trainer import StageSettings, run_stage
from tests.tiny_models import byte_level_tokenizer, tiny_refrag

ROOT = Path(__file__).resolve().parents[1]
STEPS = 9


def small_batches(**options: object) -> MixtureBatches:
    """Make batches of mixed windows; in some of them nothing, in some all is expanded."""
    rng = np.random.default_rng(0)
    text = " ".join(f"w{n}" for n in rng.integers(0, 30, 900))
    corpus = TokenizedCorpus([Document("d", "x", text)], byte_level_tokenizer())
    keys = {"chunk_size": 4, "context_length": 16, "count": INDEFINITE, "with_texts": False}
    source = ContiguousWindows(corpus, prompt_length=2, output_length=8, **keys)
    parts = [
        Part("mixed", source, 2.0, "mixed", 0.5),
        Part("all", source, 1.0, "all", 1.0),
        Part("copy", source, 1.0, "none", 0.0, reconstructs=True),
    ]
    return MixtureBatches(parts, **{"size": BatchSize(tokens=150), "seed": 0, **options})


def quiet(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Show nothing."""


class Losses:
    """Keeps the losses that a stage logs, nats per token."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        if "/loss/" in tag:
            self.values.append(scalar_value)

    def position(self) -> dict[str, int]:
        return {}


class StoppedError(Exception):
    """Stands for a kill."""


def build(model: RefragForCausalLM, name: str) -> list[torch.optim.Optimizer]:
    """Make optimizers; ``sgd`` is for steps that are in proportion to the gradient."""
    if name == "sgd":
        return [torch.optim.SGD(model.parameters(), lr=0.05)]
    return build_optimizers(
        [model],
        name=name,
        learning_rate=1e-2,
        muon_learning_rate=1e-2,
        weight_decay=0.01,
        betas=(0.9, 0.95),
    )


def train(
    folder: Path, *, optimizer: str, stop_at: int | None = None, accumulate: int = 1
) -> tuple[RefragForCausalLM, list[float]]:
    """Train a tiny model for some steps, and return it with the loss of each step."""
    batches = small_batches()

    def stopping(step: int, progress: float) -> Batch:
        if step == stop_at:
            raise StoppedError
        return batches(step, progress)

    model, losses = tiny_refrag("lfm2"), Losses()
    run_stage(
        model,
        build(model, optimizer),
        stopping,
        mixed_loss,
        accelerator=build_accelerator(bfloat16=False),
        settings=StageSettings(
            "s",
            STEPS,
            save_every=2,
            log_every=1,
            accumulate=accumulate,
            max_gradient_norm=1e6 if optimizer == "sgd" else 1.0,
        ),
        folder=folder / "state",
        writer=losses,
        show=quiet,
    )
    return model, losses.values


def start(module: str, *arguments: object, processes: int, folder: Path) -> subprocess.Popen[str]:
    """Start a module in several processes on the CPU, by accelerate's launcher.

    They are a process group of their own, as what is started in a terminal.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", str(processes), "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", "--main_process_port", "0", "-m", module]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    environment.pop("HYDRA_FULL_ERROR", None)
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def launch(module: str, *arguments: object, processes: int, folder: Path) -> None:
    """Run a module in several processes to their end."""
    process = start(module, *arguments, processes=processes, folder=folder)
    try:
        _, errors = process.communicate(timeout=1800)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, errors


def train_in_processes(
    folder: Path, *, optimizer: str, accumulate: int, processes: int
) -> tuple[dict[str, Tensor], list[float]]:
    """Do as ``train`` in several processes, and return the last weights and the losses."""
    folder.mkdir()
    launch("tests.stage_runs", optimizer, accumulate, processes=processes, folder=folder)
    return load_file(folder / "weights.safetensors"), json.loads((folder / "l.json").read_text())


def main(optimizer: str, accumulate: str) -> None:
    """Train in one of several processes and leave what it comes to in the current folder."""
    accelerator = build_accelerator(bfloat16=False)
    assert accelerator.num_processes > 1
    model, losses = train(Path("."), optimizer=optimizer, accumulate=int(accumulate))
    if not accelerator.is_main_process:
        return
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    save_file(weights, "weights.safetensors")
    Path("l.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(*sys.argv[1:])
