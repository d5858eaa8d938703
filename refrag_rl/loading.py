"""The model and the windows of a command that trains nothing: one split, ``count`` windows."""

from __future__ import annotations

from omegaconf import DictConfig

from refrag_rl.composition import (
    FrozenRefrag,
    build_refrag,
    build_windows,
    evaluation_split,
    load_documents,
)
from refrag_rl.corpora.documents import Split
from refrag_rl.corpora.windows import WindowSource


def load(config: DictConfig) -> tuple[FrozenRefrag, WindowSource]:
    """Return the model, and windows of all domains together; see ``load_windows``.

    Raises:
        UserError: Something does not exist or does not fit.
    """
    split = evaluation_split(config.corpus, learns=False)
    refrag = build_refrag(config.refrag)
    return refrag, load_windows(config, split, refrag, each_domain=False)


def load_windows(
    config: DictConfig, split: Split, refrag: FrozenRefrag, *, each_domain: bool, first: int = 0
) -> WindowSource:
    """Return the windows that ``corpus``, ``windows``, ``count`` and ``seed`` of a config say.

    Args:
        config: Of the command.
        split: From ``evaluation_split``, which is to be asked before anything is loaded.
        refrag: Gives tokenizer and chunk size.
        each_domain: Whether there are ``count`` windows of each domain, or of all together.
        first: Windows that are left out before those.

    Raises:
        UserError: Something does not exist or does not fit.
    """
    return build_windows(
        config.windows,
        load_documents(config.corpus),
        split,
        refrag,
        count=config.count,
        seed=config.seed,
        each_domain=each_domain,
        first=first,
    )
