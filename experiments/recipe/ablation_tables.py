"""The tables of the ablations: Tables 11 and 12, and the encoders."""

from __future__ import annotations

from figures import Figures, below, count_of, share, signed, table, verdict

DOMAINS = ("docs", "books", "math", "wiki")
ALIGNED = {
    "curriculum": "9-stage curriculum",
    "shuffled": "as many of each size, in no order",
    "full_length": "full length only",
}
STAGE_2 = {
    "with_reconstruction": "after reconstruction",
    "without_reconstruction": "without it",
}
ENCODERS = {
    "tiny_encoder": "tiny RoBERTa, new",
    "minilm": "MiniLM, the same learning rates",
    "minilm_slow": "MiniLM, lower learning rates",
}
STAGE_2_ENCODERS = {"tiny_encoder-continual": "tiny RoBERTa", "minilm-continual": "MiniLM"}
CONTINUED = (*STAGE_2, *STAGE_2_ENCODERS)


def table_11(figures: Figures) -> str:
    """Return reconstruction with and without the curriculum."""
    content = _reconstruction(figures, ALIGNED, "curriculum")
    claims = [
        verdict(
            f"P{16 * chunks}: the curriculum below `{name}` (interval)",
            {
                domain: below(figures.difference(("curriculum", domain, chunks), other))
                for domain in DOMAINS
                if ("curriculum", domain, chunks) in figures and (other, domain, chunks) in figures
            },
        )
        for other, name in ALIGNED.items()
        if other != "curriculum" and other in figures.values(0)
        for chunks in (1, 32)
    ]
    return "\n\n".join([content, "\n".join(claims)]) if content else ""


def table_12(figures: Figures, context: Figures) -> str:
    """Return continual pre-training with and without reconstruction first."""
    content = _next_paragraph(figures, STAGE_2)
    if not content:
        return ""
    claims = [
        verdict(
            f"P{output} after {count_of(chunks)}: lower after reconstruction (interval)",
            {
                domain: below(
                    figures.difference(
                        ("with_reconstruction", domain, chunks, output), "without_reconstruction"
                    )
                )
                for domain in DOMAINS
                if all((run, domain, chunks, output) in figures for run in STAGE_2)
            },
        )
        for chunks in (1, 32)
        for output in (16, 512)
    ]
    return "\n\n".join([content, "\n".join(claims), _windows(context, STAGE_2)])


def minilm(reconstruction: Figures, next_paragraph: Figures) -> str:
    """Return the two encoders at equal tokens; nothing where MiniLM was not measured."""
    if "minilm" not in reconstruction.values(0):
        return ""
    parts = [
        _reconstruction(reconstruction, ENCODERS, "tiny_encoder"),
        _next_paragraph(next_paragraph, STAGE_2_ENCODERS),
    ]
    return "\n\n".join(part for part in parts if part)


def _reconstruction(figures: Figures, names: dict[str, str], first: str) -> str:
    """Return P16 and P512 of aligned runs, and the differences to the first."""
    lines = []
    for run in figures.values(0, names):
        for domain in DOMAINS:
            if (run, domain, 1) not in figures:
                continue
            trained = figures[run, domain, 1]["trained_positions"].get("reconstruction")
            line = [names[run], f"{trained / 1e6:.2f}M" if trained else "unknown", domain]
            for chunks in (1, 32):
                key = (run, domain, chunks)
                to_first = "" if run == first else f"; {signed(figures.difference(key, first))}"
                line.append(f"{figures.loss(key):.3f}{to_first}")
            lines.append(line)
    head = ["run", "positions trained on", "domain", "P16", "P512"]
    return table(head, lines) if lines else ""


def _next_paragraph(figures: Figures, names: dict[str, str]) -> str:
    """Return P16 and P512 after one chunk and after all of them, of continued runs."""
    runs = figures.values(0, names)
    if not runs:
        return ""
    lines = []
    for run in runs:
        for domain in DOMAINS:
            if (run, domain, 1, 16) not in figures:
                continue
            trained = figures[run, domain, 1, 16]["trained_positions"].get("continual")
            line = [names[run], f"{trained / 1e6:.2f}M" if trained else "unknown", domain]
            for chunks in (1, 32):
                for output in (16, 512):
                    key = (run, domain, chunks, output)
                    to_first = (
                        "" if run == runs[0] else f"; {signed(figures.difference(key, runs[0]))}"
                    )
                    line.append(f"{figures.loss(key):.3f}{to_first}")
            lines.append(line)
    head = ["run", "positions trained on", "domain"]
    head += [f"P{output}, {count_of(chunks)}" for chunks in (1, 32) for output in (16, 512)]
    return table(head, lines)


def _windows(context: Figures, names: dict[str, str]) -> str:
    """Return continued runs on windows with nothing expanded."""
    lines = []
    for run in context.values(0, names):
        for domain in DOMAINS:
            line = [names[run], domain]
            for kind in ("contiguous", "recall"):
                if (run, domain, kind, "p_0") in context:
                    key = (run, domain, kind, "p_0")
                    gain = signed(context.difference(key, "no_context"))
                    gap = context[key]["share_of_full_gain"]
                    closed = f"; {share(gap)}" if kind == "contiguous" else ""
                    line.append(f"{context.loss(key):.3f}; {gain}{closed}")
            if len(line) == 4:
                lines.append(line)
    head = ["run", "domain", "contiguous, nothing expanded; to no context; of the gap"]
    head.append("recall, nothing expanded; to no context")
    return table(head, lines) if lines else ""
