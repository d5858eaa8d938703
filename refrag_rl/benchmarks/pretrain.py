"""``python -m refrag_rl.benchmark pretrain``: training tokens per second, the plain loop and ours.

Training steps of a decoder with random weights on one batch of random tokens:

1. ``plain_float32`` and ``plain``: the loop that one would write, a Hugging Face forward pass with
   ``labels`` and AdamW, in float32 and under bfloat16 autocast.
2. ``fused``: the loss of ``refrag_rl.pretrain``, whose cross-entropy is fused with the output
   layer, and its optimizer, under bfloat16 autocast.
3. ``kept_memory``: the same with ``allocator.py``, as ``refrag_rl.pretrain`` runs, which on a CPU
   also writes attention out (``pretraining/attention.py``); no variant here does.
4. ``compiled``: the same with the decoder's body compiled by ``torch.compile``.

The variants take turns in one process, and the medians count. The share of the machine's limit
(MFU) counts three forward passes for a step (a backward pass is two), whatever a variant really
computes. A CPU that has no bfloat16 measures all in float32, and the plain loop once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from refrag_rl.allocator import keep_large_blocks, return_large_blocks
from refrag_rl.benchmarks.machine import MatrixProduct, count_flops, describe_device
from refrag_rl.benchmarks.report import Column, finish
from refrag_rl.benchmarks.shapes import build_decoder
from refrag_rl.benchmarks.training_step import OurStep, PlainStep
from refrag_rl.benchmarks.turns import median_seconds
from refrag_rl.composition import choose_device
from refrag_rl.modeling.bfloat16 import Format, computes_in_bfloat16
from refrag_rl.modeling.compiling import compile_body, require_compiler
from refrag_rl.modeling.quiet import silence_kernel_advice
from refrag_rl.run_folder import choose_run_folder


class PretrainRow(TypedDict):
    """One variant of the training step.

    Attributes:
        variant: Its name.
        tokens_per_second: Positions that the decoder reads.
        ratio_to_plain: Tokens per second over those of ``plain``.
        mfu: Share of the machine's limit.
        dtype: Number format of matrix products.
        threads: Of the CPU.
        device: What all ran on.
        loss: Of the batch under the first weights, nats per token.
    """

    variant: str
    tokens_per_second: float
    ratio_to_plain: float
    mfu: float
    dtype: str
    threads: int
    device: str
    loss: float


@dataclass(frozen=True, slots=True)
class _Variant:
    step: PlainStep | OurStep
    dtype: Format
    keeps_memory: bool = False


_COLUMNS = (
    Column("variant", "variant", "{}"),
    Column("dtype", "dtype", "{}"),
    Column("tokens/s", "tokens_per_second", "{:.0f}"),
    Column("to plain", "ratio_to_plain", "{:.2f}x"),
    Column("MFU", "mfu", "{:.2f}"),
    Column("loss", "loss", "{:.4f}"),
)


def run(config: DictConfig) -> None:
    """Measure, print, and write ``benchmark.json``.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_pretrain.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    device = torch.device(choose_device("device", config.device.value))
    if config.compile:
        require_compiler("compile", device.type)
    folder = choose_run_folder(config, "benchmark")
    silence_kernel_advice()
    options = OmegaConf.to_container(config.decoder, resolve=True)
    assert isinstance(options, dict)
    rows = measure(
        {str(key): value for key, value in options.items()},
        batch=config.batch,
        length=config.length,
        with_float32=config.float32,
        with_compile=config.compile,
        repeats=config.repeats,
        device=device,
        seed=config.seed,
    )
    title = (
        f"training steps of {config.batch} x {config.length} tokens; {rows[0]['device']}, "
        f"{rows[0]['threads']} threads"
    )
    note = (
        "plain: Hugging Face forward with labels, AdamW; to plain: tokens per second over those of "
        "plain; MFU: share of the rate of a large matrix product in the same dtype; "
        "loss: of the first weights, nats per token."
    )
    if not config.compile:
        note += " torch.compile was not measured (compile=true)."
    finish(rows, _COLUMNS, folder, config, command="benchmark pretrain", title=title, note=note)


def measure(
    options: Mapping[str, Any],
    *,
    batch: int,
    length: int,
    with_float32: bool,
    with_compile: bool,
    repeats: int,
    device: torch.device,
    seed: int,
    side: int | None = None,
) -> list[PretrainRow]:
    """Measure all variants.

    Args:
        options: Of the decoder's configuration.
        batch: Sequences of a step.
        length: Tokens of a sequence, bos included.
        with_float32: Whether the plain loop is measured in float32, too, where it is not anyway.
        with_compile: Whether our loop is measured compiled, too.
        repeats: Measurements of each variant.
        device: Where all run.
        seed: Of weights and tokens.
        side: Of the matrices that MFU is measured against; ``None``: as the device needs.

    Returns:
        One row a variant. Where memory cannot be kept (not glibc, or a GPU), ``kept_memory`` is
        left out.

    Raises:
        UserError: The decoder cannot be made.
    """
    make = partial(build_decoder, options, seed, device)
    decoder = make()
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(decoder.config.vocab_size, (batch, length), generator=generator).to(device)
    ids[:, 0] = ids[0, 0]
    can_keep = device.type == "cpu" and return_large_blocks()
    fast: Format = "bfloat16" if computes_in_bfloat16(device.type) else "float32"
    variants: dict[str, _Variant] = {}
    if with_float32 and fast != "float32":
        variants["plain_float32"] = _Variant(PlainStep(decoder, ids, "float32"), "float32")
    variants["plain"] = _Variant(PlainStep(decoder, ids, fast), fast)
    ours = OurStep(decoder, ids, fast)
    variants["fused"] = _Variant(ours, fast)
    if can_keep:
        variants["kept_memory"] = _Variant(ours, fast, keeps_memory=True)
    if with_compile:
        compiled = make()
        compile_body(compiled.base_model)
        variants["compiled"] = _Variant(OurStep(compiled, ids, fast), fast, can_keep)
    # Before the first step, while all have the same weights.
    losses = {name: variant.step.loss().item() for name, variant in variants.items()}
    flops = 3 * count_flops(partial(_forward, decoder, ids))
    formats: Sequence[Format] = sorted({variant.dtype for variant in variants.values()})
    products = {dtype: MatrixProduct(dtype, device, side) for dtype in formats}
    calls: dict[str, Callable[[], object]] = {
        name: _with_memory(variant, can_keep) for name, variant in variants.items()
    }
    seconds = median_seconds({**calls, **products}, repeats, device)
    rows = []
    for name, variant in variants.items():
        limit = products[variant.dtype].flops / seconds[variant.dtype]
        rows.append(
            PretrainRow(
                variant=name,
                tokens_per_second=ids.numel() / seconds[name],
                ratio_to_plain=seconds["plain"] / seconds[name],
                mfu=flops / seconds[name] / limit,
                dtype=variant.dtype,
                threads=torch.get_num_threads(),
                device=describe_device(device),
                loss=losses[name],
            )
        )
    return rows


def _with_memory(variant: _Variant, can_choose: bool) -> Callable[[], object]:
    """Return the variant's step behind the choice of what becomes of freed memory."""

    def step() -> float:
        if can_choose:
            (keep_large_blocks if variant.keeps_memory else return_large_blocks)()
        return variant.step()

    return step


@torch.no_grad()
def _forward(decoder: torch.nn.Module, ids: Tensor) -> None:
    decoder(input_ids=ids)
