"""``python -m refrag_rl.benchmark latency``: what REFRAG saves at use, against context length.

1. A decoder and an encoder of a named shape, with random weights, answer requests of random tokens:
   times depend on shapes alone.
2. Methods: the full context; chunks of each size, their embeddings cached (computed beforehand) or
   not; each of them with a policy that expands chunks down to an effective compression rate.
3. TTFT, TTIT and throughput are as in ``generation``; what they hold of a request is in
   ``reading``. Their accelerations are over the full context of the same length, as in Figure 2 of
   arXiv 2509.01092.
4. What the policy reads is computed in the request, and in its times, but for what depends on a
   chunk alone where chunk embeddings are cached (``policy_inputs``); each row says what was
   computed, and what the selection took in all.
5. With ``cuda_graphs`` each prefill is captured in the warm-up and replayed (``prefill``).
6. At each length the methods take turns, after a warm-up, and the medians count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from refrag_rl.benchmarks.generation import Answer, answer
from refrag_rl.benchmarks.latency_figure import latency_figure
from refrag_rl.benchmarks.latency_rows import LatencyRow, latency_rows
from refrag_rl.benchmarks.machine import describe_device
from refrag_rl.benchmarks.methods import Method, list_methods
from refrag_rl.benchmarks.prefill import CapturedPrefill, EagerPrefill
from refrag_rl.benchmarks.reading import Reader
from refrag_rl.benchmarks.report import Column, finish, write_rows
from refrag_rl.benchmarks.requests import SPECIAL_TOKENS, Request
from refrag_rl.benchmarks.shapes import build_shape
from refrag_rl.composition import choose_device
from refrag_rl.errors import UserError
from refrag_rl.modeling import RefragForCausalLM
from refrag_rl.modeling.bfloat16 import Format, number_format
from refrag_rl.modeling.quiet import silence_kernel_advice
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.run_folder import choose_run_folder, describe_circumstances

FIGURE_FILE = "benchmark.png"


_COLUMNS = (
    Column("context", "context_length", "{}"),
    Column("method", "method", "{}"),
    Column("reads", "positions", "{}"),
    Column("TTFT", "ttft_seconds", "{:.1f}", scale=1e3),
    Column("picks", "selection_seconds", "{:.1f}", scale=1e3),
    Column("TTIT", "ttit_seconds", "{:.2f}", scale=1e3),
    Column("tok/s", "tokens_per_second", "{:.1f}"),
    Column("KV MiB", "kv_cache_bytes", "{:.1f}", scale=2**-20),
    Column("faster", "ttft_acceleration", "{:.1f}x"),
)


def run(config: DictConfig) -> None:
    """Measure, print, and write ``benchmark.json`` and ``benchmark.png``.

    Args:
        config: As composed from ``refrag_rl/conf/benchmark_latency.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit, or needs more
            memory than the GPU has.
    """
    _check(config)
    folder = choose_run_folder(config, "benchmark")
    device = torch.device(choose_device("device", config.device.value))
    if config.cuda_graphs and (device.type != "cuda" or not config.warmup):
        raise UserError(
            f"cuda_graphs=true: it needs a GPU and a warm-up of 1 or more to capture in; here are "
            f"device={device.type} and warmup={config.warmup}; give cuda_graphs=false"
        )
    dtype = number_format(config.dtype.value, device.type)
    silence_kernel_advice()
    shape = OmegaConf.to_container(config.model, resolve=True)
    assert isinstance(shape, dict)
    model = build_shape(
        shape["decoder"],
        shape["encoder"],
        max(config.chunk_sizes),
        seed=config.seed,
        device=device,
        dtype=getattr(torch, dtype),
    )
    policy = _policy(config.policy, model, config.seed)
    rows: list[LatencyRow] = []
    for of_length in measure(
        model,
        policy,
        list_methods(config.chunk_sizes, config.policy_rates),
        lengths=config.lengths,
        prompt_length=config.prompt_length,
        output_length=config.output_length,
        encoder_tokens=config.encoder_tokens,
        warmup=config.warmup,
        repeats=config.repeats,
        cuda_graphs=config.cuda_graphs,
        seed=config.seed,
        name=config.model.name,
        dtype=dtype,
    ):
        rows += of_length
        write_rows(rows, folder, config, command="benchmark latency")
    title = f"{config.model.name}, {dtype}; {_hardware(device)}"
    note = (
        f"one request at a time: prompt of {config.prompt_length} tokens, {config.output_length} "
        f"tokens generated; medians of {config.repeats}, times in ms. reads: positions of the "
        "prefill; TTFT: time to the first token; TTIT: time per further token; faster: TTFT of the "
        "full context over this one's; cached: chunk embeddings, and what else depends on a chunk "
        "alone, computed beforehand."
    )
    if config.policy_rates:
        rate = f"{config.policy_rates[0]:g}"
        note += (
            f" {rate}x: a policy expands chunks, down to rate {rate}; picks: of TTFT, computing "
            "what it reads besides chunk embeddings, its pass and its picks."
        )
    finish(rows, _COLUMNS, folder, config, command="benchmark latency", title=title, note=note)
    latency_figure(rows, title).savefig(folder / FIGURE_FILE)


def _check(config: DictConfig) -> None:
    """Raise ``UserError`` where numbers of the config do not fit each other."""
    for key, least in (("prompt_length", 0), ("output_length", 2)):
        if config[key] < least:
            raise UserError(f"{key}={config[key]}: give {least} or more")
    for key in ("lengths", "chunk_sizes"):
        values = list(config[key])
        if not values or min(values) < 1 or len(set(values)) < len(values):
            raise UserError(f"{key}={values}: give different whole numbers of 1 or more")
    for length in config.lengths:
        for size in config.chunk_sizes:
            if length % size:
                raise UserError(
                    f"lengths: {length} is no multiple of the chunk size {size}; "
                    "give multiples of every chunk size"
                )
    largest = max(config.chunk_sizes)
    for rate in config.policy_rates:
        if not 1 < rate < largest:
            raise UserError(
                f"policy_rates: {rate:g} is out of range; give rates above 1 and below the largest "
                f"chunk size, {largest}"
            )


def _policy(section: DictConfig, model: RefragForCausalLM, seed: int) -> PointerPolicy:
    """Return a policy of random weights that reads what the section says.

    Raises:
        UserError: A value is out of its range.
    """
    plain = OmegaConf.to_container(section, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    options: dict[str, Any] = {str(name): value for name, value in plain.items()}
    reads_projected = options["chunk_embeddings"] == "projector"
    width = model.decoder.config.hidden_size if reads_projected else model.embedding_size
    config = PointerConfig.from_mapping({**options, "embedding_size": width})
    torch.manual_seed(seed)
    return PointerPolicy(config).to(model.device).eval()


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return describe_device(device)
    return f"{describe_circumstances()['cpu']}, {torch.get_num_threads()} threads"


def measure(
    model: RefragForCausalLM,
    policy: PointerPolicy,
    methods: Sequence[Method],
    *,
    lengths: Sequence[int],
    prompt_length: int,
    output_length: int,
    encoder_tokens: int,
    warmup: int,
    repeats: int,
    cuda_graphs: bool = False,
    seed: int,
    name: str,
    dtype: Format,
) -> Iterator[list[LatencyRow]]:
    """Measure all methods at all context lengths, one after the other.

    Args:
        model: On the device where it is to run.
        policy: On the same device.
        methods: The full context first.
        lengths: ``s``, tokens.
        prompt_length: Tokens beside the context.
        output_length: Tokens generated, 2 or more.
        encoder_tokens: Tokens that the encoder reads at once, at most.
        warmup: Requests before the measured ones.
        repeats: Measured requests.
        cuda_graphs: Whether prefills are captured in the warm-up and replayed.
        seed: Of the tokens.
        name: Of the model, stands in the rows.
        dtype: Of the model, stands in the rows.

    Yields:
        The rows of a length, one a method.

    Raises:
        UserError: The model cannot read as much, or the GPU's memory is too small.
    """
    sizes = [method.chunk_size for method in methods if method.chunk_size is not None]
    _require_positions(model, max(lengths) + prompt_length + output_length + 1, max(sizes))
    for length in lengths:
        try:
            readers = {
                method: _reader(model, policy, method, length, prompt_length, encoder_tokens, seed)
                for method in methods
            }
            answers = _answers(model, readers, output_length, warmup, repeats, cuda_graphs)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"a context of {length} tokens needs more memory than the GPU has; give shorter "
                "lengths, a smaller model or a smaller encoder_tokens"
            ) from error
        device = describe_device(model.device)
        yield list(latency_rows(length, answers, name=name, dtype=dtype, device=device))


def _require_positions(model: RefragForCausalLM, longest: int, chunk_size: int) -> None:
    limit = model.max_decoder_positions
    if limit is not None and longest > limit:
        raise UserError(
            f"{longest} positions are more than the decoder's {limit}: give shorter lengths, or a "
            "larger model.decoder.max_position_embeddings"
        )
    limit = model.max_encoder_tokens
    if limit is not None and chunk_size + SPECIAL_TOKENS > limit:
        raise UserError(
            f"chunk_sizes: the encoder reads {limit} tokens at once, a chunk of {chunk_size} has "
            f"{chunk_size + SPECIAL_TOKENS} with those around it; give {limit - SPECIAL_TOKENS} or "
            "less"
        )


def _reader(
    model: RefragForCausalLM,
    policy: PointerPolicy,
    method: Method,
    length: int,
    prompt_length: int,
    encoder_tokens: int,
    seed: int,
) -> Reader:
    request = Request.draw(
        model,
        length=length,
        prompt_length=prompt_length,
        chunk_size=method.chunk_size,
        seed=seed,
    )
    return Reader(model, policy, method, request, encoder_tokens)


def _answers(
    model: RefragForCausalLM,
    readers: dict[Method, Reader],
    output_length: int,
    warmup: int,
    repeats: int,
    cuda_graphs: bool,
) -> dict[Method, list[Answer]]:
    """Return the measured answers of each method, in turns."""
    answers: dict[Method, list[Answer]] = {method: [] for method in readers}
    prefill = CapturedPrefill if cuda_graphs else EagerPrefill
    calls = {
        method: partial(answer, model.decoder, prefill(model.decoder), reader, output_length)
        for method, reader in readers.items()
    }
    for turn in range(warmup + repeats):
        for method, call in calls.items():
            given = call()
            if turn >= warmup:
                answers[method].append(given)
    return answers
