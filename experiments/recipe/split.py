"""Save the decoder of a checkpoint, with its tokenizer, as a Hugging Face folder.

python experiments/recipe/split.py REFRAG FOLDER

``model.decoder=FOLDER`` then starts a pre-training from it, with another encoder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from refrag_rl.modeling.checkpoint import load_refrag


def main(refrag: str, folder: Path) -> None:
    """Write the folder, whole or not at all."""
    loaded = load_refrag(refrag)
    unfinished = folder.with_name(folder.name + ".new")
    loaded.model.decoder.save_pretrained(unfinished)
    loaded.tokenizer.save_pretrained(unfinished)
    unfinished.rename(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
