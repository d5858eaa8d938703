"""Make the policy of a run, or of several together, one of the package, with its card.

    python experiments/selection/ship.py RUN... --name default [--refrag tiny-k16]
        [--results experiments/selection/results.json --agent NAME] [--data DATA]

Writes ``refrag_rl/assets/policies/MODEL/NAME/``: the policy and ``README.md``. The policy must have
been trained on the model as it is now; figures are those of ``--agent`` in ``--results``.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from together import joined

from refrag_rl.agents.shipped import FOLDER
from refrag_rl.errors import UserError
from refrag_rl.modeling.checkpoint import load_refrag
from refrag_rl.modeling.fingerprint import fingerprint
from refrag_rl.policies.storage import StoredPolicy, save_policy
from refrag_rl.run_folder import METADATA_FILE


def ship(
    runs: Sequence[Path],
    name: str,
    refrag: str,
    *,
    results: Path | None = None,
    agent: str | None = None,
    data: str | None = None,
    assets: Path = FOLDER,
) -> Path:
    """Write the policy and its card; return their folder.

    Args:
        runs: Folders of trainings; of several, the policy has the networks of all.
        name: What ``policy:NAME`` will say.
        refrag: Checkpoint folder or embedded name of the model they were trained on.
        results: ``results.json``; ``None``: the card has no figures.
        agent: Whose figures.
        data: Folder that the trainings read, shown as ``DATA``.
        assets: Where to.

    Raises:
        UserError: A run has no policy, or it was trained on another model.
    """
    if missing := [run for run in runs if not (run / METADATA_FILE).exists()]:
        raise UserError(f"{missing[0]}: no finished training; give the run's folder")
    stored = joined(runs)
    weights = fingerprint(load_refrag(refrag).model)
    if stored.refrag != weights:
        raise UserError(
            f"{runs[0]}: trained on a model of weights {stored.refrag}, {refrag} has {weights}"
        )
    model = Path(refrag).name if Path(refrag).name != "model" else Path(refrag).parent.name
    figures = figures_of(results, agent)
    folder = assets / model / name
    histories = [runs_of(run) for run in runs]
    trainings = [
        {**training, "commit": own.get("commit"), "command": command_of(own, data)}
        for (*_, own), training in zip(histories, stored.training["together"], strict=True)
    ]
    stored = replace(stored, training={"refrag_name": model, "trainings": trainings})
    save_policy(stored, folder)
    text = card(name, model, stored, histories, figures, agent, data)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return folder


def runs_of(run: Path) -> list[dict[str, Any]]:
    """Return the metadata of a training, behind that of the run it started from, if any."""
    metadata = json.loads((run / METADATA_FILE).read_text(encoding="utf-8"))
    given = dict(each.split("=", 1) for each in metadata.get("arguments", []) if "=" in each)
    start = given.get("agent.warm_start")
    is_run = start is not None and (Path(start) / METADATA_FILE).is_file()
    return [*(runs_of(Path(start)) if is_run else []), metadata]


def command_of(metadata: dict[str, Any], data: str | None) -> str:
    """Return the training's command, without its output and with ``DATA`` for the folder.

    Of a key that was given twice, the last value counts.
    """
    given = {argument.partition("=")[0]: argument for argument in metadata.get("arguments", [])}
    arguments = [argument for key, argument in given.items() if key != "output"]
    command = shlex.join(["python", "-m", "refrag_rl.train", *arguments])
    return command.replace(data.rstrip("/"), "DATA") if data else command


def figures_of(results: Path | None, agent: str | None) -> list[list[str]]:
    """Return the rows of the card's table.

    Raises:
        UserError: ``results`` does not know the agent.
    """
    if results is None:
        return []
    rows = []
    for cell in json.loads(results.read_text(encoding="utf-8"))["cells"]:
        found = cell["policies"].get(agent)
        if found is not None:
            mean, low, high = found["to_heuristics"][cell["best_heuristic"]]["difference"]
            interval = "" if low is None else f" [{low:+.3f}, {high:+.3f}]"
            rate = f"{cell['rate']:.3g}"
            best = cell["best_heuristic"]
            rows.append([cell["domain"], cell["kind"], rate, best, f"{mean:+.3f}{interval}"])
    if not rows:
        raise UserError(f"{results}: no figures of {agent}; give --agent as run.sh names it")
    return rows


def listed(values: Iterable[Any]) -> str:
    """Return different values, with commas."""
    return ", ".join(dict.fromkeys(map(str, values)))


def card(
    name: str,
    model: str,
    stored: StoredPolicy,
    runs: list[list[dict[str, Any]]],
    figures: list[list[str]],
    agent: str | None,
    data: str | None,
) -> str:
    """Return the card's Markdown; ``runs`` are the metadata of each training, as ``runs_of``."""
    config = stored.policy.config
    commands = [command_of(each, data) for run in runs for each in run]
    of_each = ""
    if len(runs) > 1:
        of_each = f" in each of {len(runs)} trainings"
        commands = [re.sub(r"\bseed=\d+", "seed=SEED", command) for command in commands]
    seeds = listed(run[-1].get("seed") for run in runs)
    commits = listed(run[-1].get("commit") for run in runs)
    sets = listed(each.get("training_rewards") for each in stored.training["trainings"])
    reads = ", ".join(config.features) or "no features"
    of = f"chunk embeddings of the {config.chunk_embeddings}"
    embeddings = of if config.reads_embeddings else "no chunk embeddings"
    lines = [
        f"# policy:{name} for {model}",
        "",
        f"Selects chunks for `{model}` (weights `{stored.refrag}`); refused with other weights.",
        "",
        f"- agent: `{stored.agent}`, {sets} sets scored{of_each}",
        f"- reads: {embeddings}; {reads}; "
        f"prompt embedding: {config.prompt_token}; budget: {config.budget_token}",
        f"- logits: {config.logits}; features of neighbouring chunks: {config.neighbours}; "
        f"networks: {config.members}",
        f"- seed {seeds}, commit {commits}",
        "- trained on text of `docs` (docstrings of the dependencies, under their licences),",
        "  `books` (public domain) and `math` (the Stacks project, GFDL), as",
        "  `experiments/selection/corpus.py` chooses it",
        "",
        "```",
        *dict.fromkeys(commands),
        "```",
        "",
    ]
    if not figures:
        return "\n".join([*lines, "Not compared yet.", ""])
    head = ["domain", "windows", "rate", "best heuristic", "difference to it (nats per token)"]
    lines += [
        f"Held-out text. The mean over all policies of `{agent}` in",
        "`experiments/selection/README.md`, which says how many there are, how and where they were",
        "compared; this is one of them.",
        "",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *figures)]
    return "\n".join([*lines, ""])


def main() -> None:
    """Ship a policy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--name", default="default")
    parser.add_argument("--refrag", default="tiny-k16")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--agent")
    parser.add_argument("--data")
    options = parser.parse_args()
    folder = ship(
        options.runs,
        options.name,
        options.refrag,
        results=options.results,
        agent=options.agent,
        data=options.data,
    )
    print(folder)


if __name__ == "__main__":
    main()
