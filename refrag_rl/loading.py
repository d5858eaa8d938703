"""The model and the windows that a measurement runs on."""

from __future__ import annotations

from omegaconf import DictConfig

from refrag_rl.composition import (
    FrozenRefrag,
    build_refrag,
    build_windows,
    evaluation_split,
    load_documents,
)
from refrag_rl.corpora.windows import WindowSource


def load(config: DictConfig) -> tuple[FrozenRefrag, WindowSource]:
    """Return what ``refrag``, ``corpus``, ``windows``, ``count`` and ``seed`` of a config say.

    Raises:
        UserError: Something does not exist or does not fit.
    """
    split = evaluation_split(config.corpus, learns=False)
    refrag = build_refrag(config.refrag)
    windows = build_windows(
        config.windows,
        load_documents(config.corpus),
        split,
        refrag,
        count=config.count,
        seed=config.seed,
        each_domain=False,
    )
    return refrag, windows
