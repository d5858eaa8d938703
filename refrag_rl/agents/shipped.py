"""Trained policies inside the package: ``assets/policies/<model>/<name>/``, each with its card.

``policy:NAME`` means the one of that name for the model that is loaded. It is found by the
fingerprint of the model's weights, not by the model's name: a policy for an earlier checkpoint is
never used with a later one.
"""

from __future__ import annotations

from pathlib import Path

from refrag_rl.errors import UserError
from refrag_rl.policies.storage import CONFIG_FILE, read_description

PREFIX = "policy:"
FOLDER = Path(__file__).resolve().parents[1] / "assets" / "policies"


def is_shipped_name(name: str) -> bool:
    """Return whether a user's word means a policy inside the package."""
    return name.startswith(PREFIX)


def find_shipped(name: str, refrag: str, folder: Path | None = None) -> Path:
    """Return the folder of the policy that ``policy:NAME`` means.

    Args:
        name: ``policy:NAME``.
        refrag: Fingerprint of the model that is loaded.
        folder: Where to look; ``None``: in the package.

    Raises:
        UserError: There is none of that name for this model.
    """
    where = FOLDER if folder is None else folder
    described = {
        path.parent: read_description(path).get("refrag")
        for path in sorted(where.glob(f"*/*/{CONFIG_FILE}"))
    }
    wanted = name.removeprefix(PREFIX)
    for path, trained_on in described.items():
        if path.name == wanted and trained_on == refrag:
            return path
    of_this = [PREFIX + path.name for path, trained_on in described.items() if trained_on == refrag]
    others = [f"{path.parent.name}/{path.name}" for path in described]
    raise UserError(
        f"{name}: the package has no such policy for the model that is loaded (weights {refrag})\n"
        f"for this model: {', '.join(of_this) or 'none'}; in all: {', '.join(others) or 'none'}; "
        "train one with refrag_rl.train"
    )
