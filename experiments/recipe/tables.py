"""Write the tables of README.md, and of the embedded models' cards, from the JSON files beside it.

    python experiments/recipe/tables.py

Each table stands between ``<!-- table: NAME -->`` and ``<!-- end: NAME -->``; what stands there is
replaced, all else is left alone. Files of one kind of measurement (``context-*.json``,
``reconstruction-*.json``, ``next_paragraph-*.json``) are read together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

from ablation_tables import CONTINUED, minilm, table_11, table_12
from figures import (
    CONTEXT,
    NEXT_PARAGRAPH,
    RECONSTRUCTION,
    Figures,
    below,
    count_of,
    share,
    signed,
    table,
    verdict,
)

HERE = Path(__file__).parent
CARDS = HERE.parents[1] / "refrag_rl" / "assets"
EMBEDDED = ("tiny-k8", "tiny-k16", "tiny-k32")
DOMAINS = ("docs", "books", "math", "wiki")
TRAINED = ("docs", "books", "math")
ENDS = ("no_context", "p_1")
"""Readings that the gap lies between."""
SWEPT = ("p_0", "p_1/15", "p_1/5", "p_7/15", "p_1")


def main() -> None:
    """Fill the tables in."""
    context = Figures(HERE, "context", CONTEXT, "reading")
    reconstruction = Figures(HERE, "reconstruction", RECONSTRUCTION, "refrag")
    next_paragraph = Figures(HERE, "next_paragraph", NEXT_PARAGRAPH, "refrag")
    tables: dict[str, Callable[[], str]] = {
        "recall": lambda: recall(context),
        "retrieved": lambda: retrieved(context),
        "table-1": lambda: table_1(context, "contiguous"),
        "table-1-q64": lambda: table_1(context, "contiguous, q = 64"),
        "sweep": lambda: "\n\n".join(sweep(context, k) for k in ("contiguous", "retrieved")),
        "reconstruction": lambda: reconstructed(reconstruction),
        "table-11": lambda: table_11(reconstruction),
        "table-12": lambda: table_12(next_paragraph, context),
        "minilm": lambda: minilm(reconstruction, next_paragraph),
    }
    write(HERE / "README.md", tables)
    for refrag in EMBEDDED:
        own = partial(figures, context.of(refrag), reconstruction.of(refrag))
        write(CARDS / refrag / "README.md", {"figures": own})


def figures(context: Figures, reconstruction: Figures) -> str:
    """Return all figures of one checkpoint, for its card."""
    parts = {
        "Recall": recall(context),
        "Retrieved passages": retrieved(context),
        "Contiguous text, q = 0": table_1(context, "contiguous"),
        "Contiguous text, q = 64": table_1(context, "contiguous, q = 64"),
        "Random chunks expanded, contiguous text": sweep(context, "contiguous"),
        "Random chunks expanded, retrieved passages": sweep(context, "retrieved"),
        "Reconstruction": reconstructed(reconstruction),
    }
    return "\n\n".join(f"### {title}\n\n{part}" for title, part in parts.items() if part)


def write(path: Path, tables: dict[str, Callable[[], str]]) -> None:
    """Fill the tables of a page in."""
    text = path.read_text(encoding="utf-8")
    for name, make in tables.items():
        text = fill(text, name, make() or "Not measured yet.")
    path.write_text(text, encoding="utf-8")


def fill(text: str, name: str, content: str) -> str:
    """Return a text with what stands between a table's marks replaced.

    Raises:
        ValueError: The marks are missing, or there more than once.
    """
    first, last = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
    block = re.compile(re.escape(first) + ".*?" + re.escape(last), re.DOTALL)
    filled, count = block.subn(lambda _: f"{first}\n{content}\n{last}", text)
    if count != 1:
        raise ValueError(f"README.md: {count} times {first} ... {last}")
    return filled


def _checkpoints(context: Figures) -> list[str]:
    """Return the embedded checkpoints, and any others that are not runs of the ablations."""
    others = [name for name in context.values(0) if name not in (*EMBEDDED, *CONTINUED)]
    return [*context.values(0, EMBEDDED), *others]


def _domains(context: Figures, refrag: str, kind: str) -> list[str]:
    return [domain for domain in DOMAINS if (refrag, domain, kind, "p_0") in context]


def _size_of_cells(context: Figures, refrag: str, kind: str) -> str:
    cells = [
        (domain, context[refrag, domain, kind, "p_0"]) for domain in _domains(context, refrag, kind)
    ]
    return "; ".join(f"{d}: {row['count']} of {row['documents']} documents" for d, row in cells)


def recall(context: Figures) -> str:
    """Return the table of planted look-ups."""
    lines, claims = [], []
    for refrag in _checkpoints(context):
        low, planted, compressed = {}, {}, {}
        for domain in _domains(context, refrag, "recall"):
            cell = (refrag, domain, "recall")
            to_full = context.difference((*cell, "planted"), "p_1")
            to_none = context.difference((*cell, "p_0"), "no_context")
            readings = ("no_context", "p_0", "p_1", "planted")
            lines.append(
                [refrag, domain]
                + [f"{context.loss((*cell, reading)):.3f}" for reading in readings]
                + [signed(to_full), signed(to_none)]
            )
            low[domain] = context.loss((*cell, "p_1")) < 0.6
            planted[domain] = below(to_full)
            compressed[domain] = to_none[0] <= -0.5
        if low:
            claims += [
                verdict(f"{refrag}, full context below 0.6", low),
                verdict(f"{refrag}, planted chunks below full context (interval)", planted),
                verdict(f"{refrag}, nothing expanded 0.5 below no context", compressed),
            ]
    head = ["checkpoint", "domain", "no context", "nothing expanded", "full context"]
    head += ["planted expanded", "planted - full", "nothing expanded - no context"]
    return "\n\n".join([table(head, lines), "\n".join(claims)]) if lines else ""


def retrieved(context: Figures) -> str:
    """Return the table of retrieved passages."""
    lines, claims = [], []
    for refrag in _checkpoints(context):
        far, compressed = {}, {}
        for domain in _domains(context, refrag, "retrieved"):
            cell = (refrag, domain, "retrieved")
            full_to_none = context.difference((*cell, "p_1"), "no_context")
            to_none = context.difference((*cell, "p_0"), "no_context")
            readings = ("no_context", "p_0", "p_1")
            lines.append(
                [refrag, domain]
                + [f"{context.loss((*cell, reading)):.3f}" for reading in readings]
                + [signed(full_to_none), signed(to_none)]
            )
            far[domain] = full_to_none[0] <= -0.15
            compressed[domain] = below(to_none)
        if far:
            claims += [
                verdict(f"{refrag}, full context 0.15 below no context", far),
                verdict(f"{refrag}, nothing expanded below no context (interval)", compressed),
            ]
    head = ["checkpoint", "domain", "no context", "nothing expanded", "full context"]
    head += ["full - no context", "nothing expanded - no context"]
    return "\n\n".join([table(head, lines), "\n".join(claims)]) if lines else ""


def table_1(context: Figures, kind: str) -> str:
    """Return Table 1's rows with the share of the gap that each closes."""
    parts = []
    for refrag in _checkpoints(context):
        domains = _domains(context, refrag, kind)
        if not domains:
            continue
        first = context[refrag, domains[0], kind, "p_0"]
        k = first["chunk_size"]
        names = {
            "no_context": "no context",
            "last_tokens": f"last {first['num_chunks']} tokens",
            "p_0": f"REFRAG {k}, nothing expanded",
            "p_1": "full context",
        }
        lines = []
        for reading, name in names.items():
            line = [name]
            for domain in domains:
                row = context[refrag, domain, kind, reading]
                gained = "" if reading in ENDS else f"; {share(row['share_of_full_gain'])}"
                line.append(f"{row['log_perplexity']:.3f}{gained}")
            lines.append(line)
        to_last = {d: context.difference((refrag, d, kind, "p_0"), "last_tokens") for d in domains}
        lines.append(["REFRAG - last tokens", *(signed(to_last[domain]) for domain in domains)])
        closed = {
            domain: (context[refrag, domain, kind, "p_0"]["share_of_full_gain"] or [0.0])[0] >= 0.65
            for domain in domains
            if domain in TRAINED
        }
        beats = {d: below(interval) for d, interval in to_last.items() if d in TRAINED}
        parts.append(
            f"**{refrag}** ({_size_of_cells(context, refrag, kind)})\n\n"
            + table(["", *domains], lines)
            + "\n\n"
            + verdict("at least 0.65 of the gap, trained domains", closed)
            + "\n"
            + verdict("below the last tokens (interval), trained domains", beats)
        )
    return "\n\n".join(parts)


def sweep(context: Figures, kind: str) -> str:
    """Return log-perplexity by expanded fraction, and whether it falls strictly."""
    lines, claims = [], []
    for refrag in _checkpoints(context):
        falls, close = {}, {}
        for domain in _domains(context, refrag, kind):
            cell = (refrag, domain, kind)
            if (*cell, "p_1/15") not in context:
                continue
            values = [context.loss((*cell, reading)) for reading in SWEPT]
            falls[domain] = all(a > b for a, b in pairwise(values))
            line = [kind, refrag, domain, *(f"{value:.3f}" for value in values)]
            if (*cell, "base_decoder") in context:
                to_base = context.difference((*cell, "p_1"), "base_decoder")
                close[domain] = abs(to_base[0]) <= 0.02
                line.append(signed(to_base))
            else:
                line.append("not measured")
            lines.append(line)
        if falls:
            claims.append(verdict(f"{refrag}, {kind}: falls strictly with p", falls))
        if close:
            claims.append(verdict(f"{refrag}, {kind}: p = 1 within 0.02 of the base", close))
    head = ["windows", "checkpoint", "domain", "p = 0", "1/15", "1/5", "7/15", "1"]
    head.append("p = 1 - base decoder")
    return "\n\n".join([table(head, lines), "\n".join(claims)]) if lines else ""


def reconstructed(reconstruction: Figures) -> str:
    """Return reconstruction by length of the embedded checkpoints."""
    numbers = (1, 2, 4, 8, 32)
    lines = []
    for refrag in reconstruction.values(0, EMBEDDED):
        for domain in DOMAINS:
            if (refrag, domain, 1) in reconstruction:
                rows = [reconstruction[refrag, domain, chunks] for chunks in numbers]
                figures = [
                    f"{row['log_perplexity']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
                    for row in rows
                ]
                lines.append([refrag, domain, *figures])
    head = ["checkpoint", "domain", *map(count_of, numbers)]
    return table(head, lines) if lines else ""


if __name__ == "__main__":
    main()
