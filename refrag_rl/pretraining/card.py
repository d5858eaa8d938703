"""The model card of a pre-trained checkpoint: how it was made, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LICENCES = {
    "docs": "docstrings of the installed dependencies, under the licences of their projects "
    "(BSD, Apache-2.0, MIT, PSF and the like)",
}
"""What is known of the text that is on every machine; of other files only their users know."""


def model_card(
    *,
    name: str,
    config_yaml: str,
    command: str,
    circumstances: Mapping[str, Any],
    tokens: Mapping[str, int],
    parameters: Mapping[str, int],
    figures: Mapping[str, float],
    documents: Sequence[str],
    validation_windows: int,
    validation_context: int,
) -> str:
    """Return the card in Markdown.

    Args:
        name: Of the checkpoint.
        config_yaml: The whole recipe.
        command: That made it.
        circumstances: Versions, commit, hardware.
        tokens: Decoder positions that each stage was trained on.
        parameters: Of encoder, projector and decoder.
        figures: Held-out losses, nats per token, as ``validation.Validation`` names them.
        documents: One line about each source of text.
        validation_windows: Windows of each kind and domain behind ``figures``.
        validation_context: ``s``, tokens of their contexts.
    """
    lines = [
        f"# {name}",
        "",
        "A small frozen REFRAG (arXiv 2509.01092) for learning and comparing selection policies. "
        "It completes text of the kinds below, for research, and is good for nothing else.",
        "",
        "## How it was made",
        "",
        "```",
        command,
        "```",
        "",
        *(f"- {key}: {value}" for key, value in circumstances.items()),
        *(f"- parameters of the {part}: {count:,}" for part, count in parameters.items()),
        *(
            f"- stage {stage}: {count / 1e6:.2f} million decoder positions"
            for stage, count in tokens.items()
        ),
        "",
        "## Data",
        "",
        *(f"- {line}" for line in documents),
        "",
        "## Held-out losses",
        "",
        f"Mean negative log-likelihood of the output, nats per token, on {validation_windows} "
        "windows of each kind and domain, of the validation documents "
        f"(`s = {validation_context}`, else the defaults of `windows=...`). `full`: all context as "
        "tokens. `compressed`: all context as chunk embeddings. `random`: a fifth of the chunks as "
        "tokens.",
        "",
        *_table(figures),
        "",
        "## Recipe",
        "",
        "```yaml",
        config_yaml.rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _table(figures: Mapping[str, float]) -> list[str]:
    readings = ("no_context", "compressed", "random", "full")
    rows: dict[str, dict[str, float]] = {}
    rest = {}
    for name, value in figures.items():
        windows, _, reading = name.partition("/")
        if reading in readings:
            rows.setdefault(windows, {})[reading] = value
        else:
            rest[name] = value
    lines = [f"| windows | {' | '.join(readings)} |", "|---|" + "---|" * len(readings)]
    for windows, values in rows.items():
        cells = (f"{values[r]:.3f}" if r in values else "" for r in readings)
        lines.append(f"| {windows} | {' | '.join(cells)} |")
    lines += ["", *(f"- {name}: {value:.3f} nats per token" for name, value in rest.items())]
    return lines
