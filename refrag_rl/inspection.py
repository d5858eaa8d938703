"""A user's text as one window, and what selectors expand in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from refrag_rl.comparison import build_selectors
from refrag_rl.composition import FrozenRefrag, build_problem, build_refrag
from refrag_rl.corpora.documents import Document
from refrag_rl.corpora.sampling import Span, assemble, check_geometry
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.corpora.windows import Window
from refrag_rl.envs.budget import Budget, compression_rate
from refrag_rl.errors import UserError
from refrag_rl.evaluation.interfaces import Column, Selector
from refrag_rl.observation import inputs_of
from refrag_rl.page.plain import decoding
from refrag_rl.page.reading import ReaderData, read_windows

LARGEST_FILE = 64_000_000
"""Bytes of a text file; a window is some thousand."""


class TextWindow:
    """The end of a text as the only window of a ``WindowSource``.

    Args:
        name: Of the text.
        text: Itself.
        refrag: Gives tokenizer and chunk size.
        context_length: ``s``, tokens; a multiple of the chunk size.
        prompt_length: ``q``, tokens.
        output_length: ``o``, tokens; the end of the text.
        prompt_position: ``after`` the context or ``before`` it.

    Raises:
        UserError: A length is out of range, or the text is too short for them.
    """

    kind = "contiguous"

    def __init__(
        self,
        name: str,
        text: str,
        refrag: FrozenRefrag,
        *,
        context_length: int,
        prompt_length: int,
        output_length: int,
        prompt_position: Any,
    ) -> None:
        check_geometry(
            chunk_size=refrag.chunk_size,
            context_length=context_length,
            prompt_length=prompt_length,
            output_length=output_length,
            prompt_position=prompt_position,
        )
        document = TokenizedCorpus([Document(name, "text", text)], refrag.tokenizer)[0]
        needed = context_length + prompt_length + output_length
        if len(document) < needed:
            raise UserError(
                f"text={name} has {len(document)} tokens, {needed} are needed "
                f"({context_length} context, {prompt_length} prompt, {output_length} next "
                "paragraph);\ngive a longer text, or lower windows.context_length or "
                "windows.output_length"
            )
        self.chunk_size = refrag.chunk_size
        self.num_chunks = context_length // refrag.chunk_size
        stop = len(document)
        output_start = stop - output_length
        prompt_start = output_start - prompt_length
        self._window = assemble(
            key=f"text/{name}",
            passages=[Span(document, stop - needed, prompt_start)],
            prompt=Span(document, prompt_start, output_start),
            output=Span(document, output_start, stop),
            chunk_size=self.chunk_size,
            num_chunks=self.num_chunks,
            prompt_position=prompt_position,
        )

    def __len__(self) -> int:
        """Return 1."""
        return 1

    def __getitem__(self, index: int) -> Window:
        """Return the window; ``index`` is 0."""
        if index != 0:
            raise IndexError(f"window {index}: there is one")
        return self._window


def read_text_file(config: DictConfig) -> tuple[ReaderData, Path | None]:
    """Return what the reader shows of the text, and the file that the page goes to.

    Args:
        config: As composed from ``refrag_rl/conf/inspect.yaml``.

    Raises:
        UserError: A file, a policy, a budget or a length cannot be used.
    """
    page = _check_page(config.output)
    text = _read(Path(config.text).expanduser(), config.text)
    names = [str(name) for name in _as_list("policy", config.policy)]
    refrag = build_refrag(config.refrag)
    heuristics, policies = build_selectors(names, refrag.reward_model)
    selectors = [*policies, *heuristics]
    sizes: Any = OmegaConf.to_container(config.windows, enum_to_str=True)
    problem = build_problem(TextWindow(config.text, text, refrag, **sizes), refrag)
    columns = [
        _column(problem.parse_budget(spec), refrag.chunk_size, problem.num_chunks)
        for spec in _as_list("budget", config.budget)
    ]
    window = np.zeros(1, dtype=np.int64)

    def picks(selector: Selector, position: int) -> NDArray[np.bool_]:
        budgets = columns[position].chunks_of(np.array([problem.num_chunks]))
        rng = np.random.default_rng([config.seed, position])
        return selector.select(problem.observe(window, budgets, inputs_of(selector)), budgets, rng)

    data = read_windows(
        problem, window, selectors, columns, picks, decoding(refrag.tokenizer), seed=config.seed
    )
    return data, page


def _check_page(output: str | None) -> Path | None:
    """Return the file to write, or raise ``UserError`` if it cannot be."""
    if output is None:
        return None
    page = Path(output).expanduser()
    if page.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"output={output}: give the name of a file that ends in .html")
    if page.exists():
        raise UserError(f"output={output} exists; give the name of a new file")
    if not page.parent.is_dir() or not os.access(page.parent, os.W_OK | os.X_OK):
        raise UserError(f"output={output}: {page.parent} is no folder to write to")
    return page


def _read(path: Path, given: str) -> str:
    try:
        if path.is_dir():
            raise UserError(f"text={given} is a folder; give a text file")
        if not path.exists():
            raise UserError(f"text={given}: there is no such file")
        if not path.is_file():
            raise UserError(f"text={given} is no regular file; give a text file")
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(
                f"text={given} has {path.stat().st_size} bytes; give a file of at most "
                f"{LARGEST_FILE}, only the end of it is read"
            )
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"text={given} cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"text={given} is not text in UTF-8; give a text file") from error
    if "\0" in text:
        raise UserError(f"text={given} is not text, it holds a zero byte; give a text file")
    return text


def _as_list(key: str, value: Any) -> list[Any]:
    given = list(value) if OmegaConf.is_list(value) else [value]
    if not given or any(each is None or OmegaConf.is_config(each) for each in given):
        raise UserError(f"{key}={value}: give one, or a list of them")
    return given


def _column(budget: Budget, chunk_size: int, num_chunks: int) -> Column:
    def chunks_of(num_valid: NDArray[np.int64]) -> NDArray[np.int64]:
        # One budget, not a range: nothing is drawn from the generator.
        return budget.chunks(num_valid, np.random.default_rng(0))

    chunks = int(chunks_of(np.array([num_chunks]))[0])
    return Column(compression_rate(chunks / num_chunks, chunk_size), chunks, chunks_of)
