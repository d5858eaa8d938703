"""Scores that are NaN or infinite are errors; nothing takes their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.errors import NotFiniteError


def require_finite(what: str, values: NDArray[Any], windows: Sequence[Window]) -> None:
    """Raise if a value is not finite.

    Args:
        what: What the values are, for the message.
        values: (B, ...).
        windows: ``B`` windows that the values belong to.

    Raises:
        NotFiniteError: Names the first window with such a value.
    """
    if np.isfinite(values).all():
        return
    for window, own in zip(windows, values, strict=True):
        wrong = own[~np.isfinite(own)]
        if wrong.size:
            raise NotFiniteError(
                f"{what} is {wrong[0]} in window {window.key} (document {window.document_id})",
                [window.key],
            )
