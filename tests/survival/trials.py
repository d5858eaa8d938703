"""Kills trainings, resumes them and compares what they come to; prints a line of JSON for each.

Run as ``python -m tests.survival.trials FOLDER``. Each chain begins a training, kills it, resumes
it, kills it again, and in the end lets it finish; then it must have come to what an uninterrupted
training came to: final metrics, weights, and curves without a point too many.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import paragraphs, save_tiny_checkpoint
from tests.survival.forks import Hook, fork_command, import_everything, run, wait

RANDOM_KILLS = 20
"""At random moments after the run's folder was made, in chains of at most four."""

SAVING_CHAINS = 6
SAVING_KILLS = 4
"""In a chain; the points of the writing are gone through one after another over all chains."""

STOPS = ((40, signal.SIGINT), (75, signal.SIGTERM), (150, signal.SIGINT))
"""At which point of the curves; an update adds about a dozen."""

COMMON = (
    "windows=contiguous",
    "windows.context_length=64",
    "windows.prompt_length=8",
    "windows.output_length=16",
    "evaluation.rates=[2]",
    "evaluation.heuristics=[recency]",
    "evaluation.count=2",
    "evaluation.validation_count=2",
    "evaluation.eval_every=24",
    "train_count=8",
    "env.num_envs=2",
    "budget=[2,4]",
    "agent.policy.width=16",
    "agent.policy.heads=2",
)
AGENTS = {
    "grpo": ("agent.windows_per_update=2", "agent.group_size=2", "agent.total_rewards=96"),
    "ppo": ("agent.episodes_per_update=4", "agent.total_rewards=64"),
}
PRETRAINING = (
    "data.docs=false",
    "tokenizer.vocabulary_size=300",
    "model.chunk_size=8",
    "model.decoder.hidden_size=32",
    "model.decoder.intermediate_size=32",
    "model.decoder.num_hidden_layers=2",
    "model.decoder.layer_types=[conv,full_attention]",
    "model.decoder.num_attention_heads=2",
    "model.decoder.num_key_value_heads=2",
    "model.encoder.hidden_size=32",
    "model.encoder.intermediate_size=32",
    "model.encoder.num_hidden_layers=1",
    "model.encoder.num_attention_heads=2",
    "language_modelling=null",
    "reconstruction.steps=8",
    "reconstruction.batch_tokens=200",
    "reconstruction.max_chunks=4",
    "continual.steps=8",
    "continual.batch_tokens=200",
    "continual.parts=[{kind: contiguous, weight: 1, windows: {context_length: 64,"
    " output_length: 16}}]",
    "log_every=3",
    "validate_every=4",
    "validation_windows=2",
)

Curves = dict[str, list[tuple[object, ...]]]


@dataclass
class Training:
    """A training with its own settings.

    Attributes:
        name: Of its folders.
        arguments: Of the command, without ``output``.
        folder: Holds the runs.
        hook: Called in each child first.
    """

    name: str
    arguments: tuple[str, ...]
    folder: Path
    hook: Hook = field(default=lambda: None)
    command = "train"
    same_files = ("comparison.json", "policy/policy.json", "policy/policy.safetensors")
    begun_file = "metadata.json"
    last_file = "comparison.png"

    def __post_init__(self) -> None:
        self.log = self.folder / f"{self.name}.log"
        self.whole = self.folder / f"{self.name}-whole"
        started = time.monotonic()
        code = run(self.begin(self.whole), self.log, self.hook)
        assert code == 0, self.log.read_text()
        self.seconds = time.monotonic() - started

    def begin(self, output: Path) -> tuple[str, ...]:
        """Return the command that begins the run."""
        return (self.command, *self.arguments, f"output={output}")

    def go_on(self, output: Path) -> tuple[str, ...]:
        """Return the command that goes on with the run, or begins it where it had not begun."""
        if not (output / self.begun_file).exists():
            return self.begin(output)
        return ("train", f"resume={output}")

    def finish(self, output: Path, killed: Sequence[int], how: str) -> dict[str, object]:
        """Resume a run to its end and say what differs from the uninterrupted one.

        Args:
            output: The run's folder.
            killed: Number of the last checkpoint at each kill.
            how: It was killed.
        """
        code = run(self.go_on(output), self.log, self.hook)
        different = [
            name
            for name in self.same_files
            if code or (output / name).read_bytes() != (self.whole / name).read_bytes()
        ]
        if code == 0 and curves(output) != curves(self.whole):
            different.append("curves")
        return {
            "training": self.name,
            "how": how,
            "killed": list(killed),
            "code": code,
            "different": different,
            "log": self.log.read_text() if code else "",
        }


class Pretraining(Training):
    """A pre-training: the same command goes on."""

    command = "pretrain"
    same_files = ("metrics.json", "model/model.safetensors")
    begun_file = "config.yaml"
    last_file = "model/README.md"

    def go_on(self, output: Path) -> tuple[str, ...]:
        """Return the command that goes on with the run."""
        return self.begin(output)


def curves(folder: Path) -> Curves:
    """Return every point of a run's curves but those that are times.

    Figures, texts and hyperparameters are compared byte by byte.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    points: Curves = {}
    for path in folder.rglob("events.out.tfevents.*"):
        # Event by event: an accumulator would hide points that are written twice.
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.tag.startswith("time/") and "per_second" not in value.tag:
                    tensor = value.tensor
                    shown = tensor.float_val or tensor.string_val
                    points.setdefault(value.tag, []).append((event.step, *shown))
    return {tag: sorted(own) for tag, own in points.items()}


def last_checkpoint(output: Path) -> int:
    """Return the number of a run's last checkpoint, 0 where there is none."""
    return max((int(path.stem) for path in output.glob("*/0*.safetensors")), default=0)


def kill_at_random(child: int, begun: Path, seconds: float, rng: random.Random) -> bool:
    """Kill a child at a random moment after its run began; return whether it was in time."""
    while not begun.exists():
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.005)
    time.sleep(rng.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    return wait(child) == -signal.SIGKILL


def random_kills(training: Training, chain: int, kills: int = 4) -> dict[str, Any]:
    """Kill a run at random moments."""
    rng = random.Random(chain)
    output = training.folder / f"{training.name}-random-{chain}"
    killed: list[int] = []
    while len(killed) < kills and not (output / training.last_file).exists():
        child = fork_command(training.go_on(output), training.log)
        if kill_at_random(child, output / training.begun_file, training.seconds / 2, rng):
            killed.append(last_checkpoint(output))
    return training.finish(output, killed, "at random moments")


def saving_kills(training: Training, chain: int, kills: int) -> dict[str, object]:
    """Kill a run at successive points of its saves."""
    from tests.survival.killing import KilledWhileSaving

    output = training.folder / f"{training.name}-saving-{chain}"
    killed: list[int] = []
    for point in range(chain * kills, chain * kills + kills):
        code = run(training.go_on(output), training.log, KilledWhileSaving(point))
        killed += [last_checkpoint(output)] if code == -signal.SIGKILL else []
    return training.finish(output, killed, "while it saved")


def stopped(training: Training, number: signal.Signals, point: int) -> dict[str, object]:
    """Stop a run by a signal in the midst of a step, between two regular saves."""
    output = training.folder / f"{training.name}-stopped-{point}"

    def hook() -> None:
        training.hook()
        signal_at_point(number, point)

    code = run(training.begin(output), training.log, hook)
    said = training.log.read_text()
    row = training.finish(output, [last_checkpoint(output)], number.name)
    return {**row, "stop_code": code, "said": said}


def signal_at_point(number: signal.Signals, point: int) -> None:
    """Make this process send itself a signal when it adds the n-th point to its curves."""
    from refrag_rl.event_files import ResumableWriter

    add_scalar, seen = ResumableWriter.add_scalar, [0]

    def watched(*args: Any) -> None:
        seen[0] += 1
        if seen[0] == point:
            os.kill(os.getpid(), number)
        add_scalar(*args)

    ResumableWriter.add_scalar = watched


def let_scores_depend_on_company() -> None:
    """Make a score depend on how many are computed with it, by more than the last digits.

    So it does in large models; in the tiny one of these tests it may not.
    """
    from refrag_rl.reward import RewardModel

    score = RewardModel._score_selections

    def watched(model: RewardModel, selections: list[Any]) -> list[float]:
        return [value + 0.01 * len(selections) for value in score(model, selections)]

    RewardModel._score_selections = watched  # type: ignore[method-assign]


def trials(folder: Path) -> Iterator[dict[str, object]]:
    """Run all trials and yield what each came to."""
    in_child(lambda: save_model_and_text(folder))
    paths = (f"refrag.path={folder / 'refrag'}", "corpus=files", f"corpus.path={folder}/text.jsonl")
    often = {
        name: Training(name, (f"agent={name}", *own, *paths, *COMMON, "save_every=4"), folder)
        for name, own in AGENTS.items()
    }
    chain, killed = 0, 0
    while killed < RANDOM_KILLS:
        row = random_kills(often["ppo" if chain % 2 else "grpo"], chain)
        chain, killed = chain + 1, killed + len(row["killed"])
        yield row
    for chain in range(SAVING_CHAINS):
        yield saving_kills(often["grpo"], chain, SAVING_KILLS)
    own = ("agent=grpo", *AGENTS["grpo"], *paths, *COMMON, "save_every=40", "keep=1")
    seldom = Training("seldom", own, folder, let_scores_depend_on_company)
    data = (f"data.files=[{folder}/long.jsonl]", f"data.validation_files=[{folder}/held.jsonl]")
    pretraining = Pretraining("pretraining", (*PRETRAINING, *data, "save_every=1"), folder)
    yield random_kills(pretraining, 0)
    yield saving_kills(pretraining, 3, SAVING_KILLS)
    for point, number in STOPS:
        yield stopped(seldom, number, point)
    never = Pretraining("never", (*PRETRAINING, *data, "save_every=1000"), folder)
    # In the validation after step 4: the curve of the loss has a point every 3 steps.
    yield stopped(never, signal.SIGTERM, 6)


def in_child(task: Callable[[], object]) -> None:
    """Run a function in a child: this process shall not compute."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            task()
            code = 0
        finally:
            os._exit(code)
    assert wait(child) == 0


def save_model_and_text(folder: Path) -> None:
    """Write a tiny random REFRAG and a small corpus."""
    save_tiny_checkpoint(folder / "refrag")
    for name, count, words in (("text", 60, 120), ("long", 4, 1500), ("held", 2, 1500)):
        rows = (
            {"id": f"{name}-{n}", "domain": "notes", "text": paragraphs(words + n, words)}
            for n in range(count)
        )
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main(folder: str) -> None:
    """Print a line for each trial."""
    import_everything()
    for row in trials(Path(folder)):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
