"""A window as text, with the expanded chunks marked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refrag_rl.corpora.windows import Window
from refrag_rl.printable import printable

EXPANDED = "[+]"
COMPRESSED = "[ ]"


def render_window(window: Window, expanded: NDArray[np.bool_], budget: int) -> str:
    """Return the text of a window: passages, chunks, prompt and output, one line each.

    Args:
        window: The window.
        expanded: (L,) bool, the chunks expanded so far.
        budget: Chunks that the episode may expand.
    """
    lines = [
        f"window {printable(window.key)}: {int(expanded.sum())} of {budget} chunks expanded "
        f"({EXPANDED} expanded, {COMPRESSED} compressed)"
    ]
    prompt = f"prompt  {printable(window.prompt_text)}" if window.prompt_ids.size else "no prompt"
    if window.prompt_position == "before":
        lines.append(prompt)
    shown_passage = None
    for index in np.flatnonzero(window.chunk_mask):
        if window.passage[index] != shown_passage:
            shown_passage = window.passage[index]
            lines.append(
                f"passage {shown_passage}, retrieval score {window.passage_scores[index]:.3g}"
            )
        mark = EXPANDED if expanded[index] else COMPRESSED
        lines.append(f"{mark} {index:3d}  {printable(window.chunk_texts[index])}")
    if window.prompt_position == "after":
        lines.append(prompt)
    lines.append(f"output  {printable(window.output_text)}")
    return "\n".join(lines)
