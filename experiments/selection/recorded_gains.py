"""Gains that runs of ``agent=regression`` kept, and what a policy sees of their windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from refrag_rl.agents.gain_history import GainHistory
from refrag_rl.agents.gains import Gains, join_gains
from refrag_rl.checkpoint_files import CheckpointFiles
from refrag_rl.composition import build_problem, build_refrag, load_documents
from refrag_rl.corpora.mixed import KINDS
from refrag_rl.envs import ExpansionProblem
from refrag_rl.errors import UserError
from refrag_rl.observation import Inputs
from refrag_rl.run_folder import CONFIG_FILE
from refrag_rl.saved_runs import read_config
from refrag_rl.schema import RefragSection
from refrag_rl.training import CHECKPOINT_FOLDER, training_windows

AT_ONCE = 50
"""Windows observed in one call."""


class Measured(NamedTuple):
    """The gains of one window that was drawn once.

    Attributes:
        gains: Measured beside one set.
        kind: As the tables name it.
        domain: Of its text.
        document: That its prompt and output are of.
    """

    gains: Gains
    kind: str
    domain: str
    document: str


class Recorded:
    """Gains of windows, and what a policy sees of those windows.

    It stands in for a problem whose window ``i`` is row ``i``.

    Args:
        rows: The gains.
        observation: Of each row; see ``ExpansionProblem.observe``.
    """

    def __init__(self, rows: Sequence[Measured], observation: Mapping[str, NDArray[Any]]) -> None:
        self.rows = list(rows)
        self._observation = dict(observation)

    @property
    def kinds(self) -> list[str]:
        """All kinds of windows, each once."""
        return sorted({row.kind for row in self.rows})

    @property
    def domains(self) -> list[str]:
        """All domains, each once."""
        return sorted({row.domain for row in self.rows})

    def observe(
        self, indices: NDArray[np.int64], budgets: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return the observations of rows; see ``ExpansionProblem.observe``."""
        rows = {name: values[indices] for name, values in self._observation.items()}
        return rows | {"budget_left": budgets[:, None].astype(np.float32)}

    def gains(self, rows: NDArray[np.int64]) -> Gains:
        """Return the gains of rows, which are their windows."""
        return join_gains([self.rows[row].gains for row in rows])._replace(indices=rows)


def recorded_in(runs: Sequence[Path]) -> Recorded:
    """Return what the last checkpoints of runs hold.

    Raises:
        UserError: One holds no gains.
    """
    rows: list[Measured] = []
    observations: list[Mapping[str, NDArray[Any]]] = []
    for run in runs:
        config = OmegaConf.create(read_config(run / CONFIG_FILE))
        assert isinstance(config, DictConfig)
        saved = CheckpointFiles(run / CHECKPOINT_FOLDER, config.keep).read()
        history = GainHistory.from_json(saved.progress.get("kept", {}).get("gains", []))
        if not len(history):
            raise UserError(f"{run}: its checkpoint holds no gains; give runs with agent.replay=9")
        problem = problem_of(config)
        measured = list(history)
        for start in range(0, len(measured), AT_ONCE):
            part = measured[start : start + AT_ONCE]
            indices = join_gains(part).indices
            observations.append(cast(Mapping[str, Any], problem.observe(indices)))
            for gains, index in zip(part, indices.tolist(), strict=True):
                kind = part_of(config.windows, index)
                window = problem.window(index)
                rows.append(Measured(gains, kind, window.domain, window.document_id))
    return Recorded(
        rows,
        {name: np.concatenate([each[name] for each in observations]) for name in observations[0]},
    )


def problem_of(config: DictConfig) -> ExpansionProblem:
    """Return the windows a run was trained on, with its embeddings and the default features."""
    # A run may be from before a key of the section was there.
    section = cast(DictConfig, OmegaConf.merge(OmegaConf.structured(RefragSection), config.refrag))
    refrag = build_refrag(section)
    windows = training_windows(config, load_documents(config.corpus), refrag)
    return build_problem(
        windows, refrag, inputs=Inputs(chunk_embeddings=config.env.chunk_embeddings)
    )


def part_of(windows: DictConfig, index: int) -> str:
    """Return the kind of a window, as the tables name it."""
    if "parts" in windows:
        part = windows.parts[index % len(windows.parts)]
        kind = str(part.kind)
    else:
        part = windows
        _, _, target = windows._target_.rpartition(".")
        kind = next(name for name, source in KINDS.items() if source.__name__ == target)
    if kind == "retrieved":
        return str(part.get("retriever", "strong"))
    prompt = part.get("prompt_length", 0)
    return f"q = {prompt}" if kind == "contiguous" and prompt else kind
