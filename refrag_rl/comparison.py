"""What a command compares, and at which budgets: from names to selectors and columns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from glob import glob, has_magic
from os.path import expanduser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.agents.loading import find_policy, load_selector
from refrag_rl.agents.oracle import Oracle
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.agents.selector import Selector
from refrag_rl.agents.shipped import find_shipped, is_shipped_name
from refrag_rl.composition import OTHER_ROWS, FrozenRefrag, build_problem
from refrag_rl.configs import suggestion
from refrag_rl.corpora.windows import WindowSource
from refrag_rl.envs.budget import Budget, BudgetSpec, compression_rate
from refrag_rl.errors import UserError
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import REFERENCES, Column
from refrag_rl.reward import RewardModel

logger = logging.getLogger(__name__)


def build_heuristics(names: Sequence[str]) -> list[Selector]:
    """Return the heuristics of these names; all for none.

    Raises:
        UserError: There is no such heuristic.
    """
    for name in names:
        if name not in HEURISTICS:
            raise UserError(
                f"there is no heuristic {name}{suggestion(name, HEURISTICS)}\n"
                f"choices: {', '.join(HEURISTICS)}"
            )
    return [HEURISTICS[name]() for name in dict.fromkeys(names or HEURISTICS)]


def build_selectors(
    names: Sequence[str], reward_model: RewardModel
) -> tuple[list[Selector], list[Selector]]:
    """Return heuristics and trained policies, by name and by folder.

    Args:
        names: Names of heuristics, run folders, policy folders, patterns of such folders as
            ``sweep/*``, ``policy:NAME`` for a policy that comes with the package; none: all
            heuristics.
        reward_model: What policies must have been trained on.

    Returns:
        The heuristics, and the policies. Policies of one agent are told apart by their folders.

    Raises:
        UserError: One is none of these, or a policy was trained on another model.
    """
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"selectors={names}: {name} is no name; give a flat list of names")
    unique = list(dict.fromkeys(each for name in names for each in _matches(name)))
    if not unique:
        return build_heuristics([]), []
    named = [name for name in unique if name in HEURISTICS]
    heuristics = build_heuristics(named) if named else []
    folders = [name for name in unique if name not in HEURISTICS]
    policies = [_load_policy(name, reward_model) for name in folders]
    given = [policy.name for policy in policies]
    taken = (*HEURISTICS, *OTHER_ROWS)
    for policy, folder in zip(policies, folders, strict=True):
        if given.count(policy.name) > 1 or policy.name in taken:
            policy.name = f"{policy.name} {folder}"
    return heuristics, policies


def _matches(name: str) -> list[str]:
    """Return the folders with a policy that a pattern matches; what is no pattern, as it is."""
    if not has_magic(name) or Path(name).expanduser().exists():
        return [name]
    # By length first, so that 10 stands after 9.
    found = sorted(glob(expanduser(name)), key=lambda path: (len(path), path))
    policies = [path for path in found if find_policy(path) is not None]
    if not policies:
        raise UserError(
            f"selectors: {name} matches no folder with a policy; give run folders or policy folders"
        )
    return policies


def _load_policy(name: str, reward_model: RewardModel) -> Selector:
    if not is_shipped_name(name):
        selector = load_selector(name)
    else:
        folder = find_shipped(name, reward_model.fingerprint)
        selector = PolicySelector.load(folder, name=name)
    if isinstance(selector, PolicySelector):
        is_projected = selector.inputs.chunk_embeddings == "projector"
        size = reward_model.projected_size if is_projected else reward_model.embedding_size
        selector.require_model(size, reward_model.fingerprint)
    return selector


def build_columns(
    rates: Sequence[float],
    budgets: Sequence[int],
    *,
    chunk_size: int,
    num_chunks: int,
    section: str = "",
) -> list[Column]:
    """Return the budgets to compare at: rates first, each number of chunks once.

    Args:
        rates: Effective compression rates.
        budgets: Numbers of chunks.
        chunk_size: ``k``, in tokens.
        num_chunks: ``L``, chunks of a window.
        section: Of the config that holds ``rates`` and ``budgets``, with its dot; for errors.

    Raises:
        UserError: There are none, or one is out of range.
    """
    columns: dict[int, Column] = {}
    specs: list[BudgetSpec] = [*(f"{rate:g}x" for rate in rates), *budgets]
    for spec in specs:
        try:
            budget = Budget.parse(spec, chunk_size=chunk_size, num_chunks=num_chunks)
        except UserError as error:
            key = "rates" if isinstance(spec, str) else "budgets"
            raise UserError(f"{section}{key}: {error}") from error
        column = _column(budget, chunk_size, num_chunks)
        is_known = columns.setdefault(column.chunks, column) is not column
        if is_known and isinstance(spec, str):
            logger.warning(
                "rate %s expands %d chunks, as one before it does: it has no column of its own",
                spec.removesuffix("x"),
                column.chunks,
            )
    if not columns:
        raise UserError(
            f"there is nothing to compare at; give {section}rates=[8,4,2] or {section}budgets=[5]"
        )
    return list(columns.values())


def _column(budget: Budget, chunk_size: int, num_chunks: int) -> Column:
    def chunks_of(num_valid: NDArray[np.int64]) -> NDArray[np.int64]:
        # The two ends of the budget are the same, so that nothing is drawn from the generator.
        return budget.chunks(num_valid, np.random.default_rng(0))

    chunks = int(chunks_of(np.array([num_chunks]))[0])
    if isinstance(budget.spec, str):
        return Column(float(budget.spec.removesuffix("x")), chunks, chunks_of)
    return Column(compression_rate(chunks / num_chunks, chunk_size), chunks, chunks_of)


def build_comparator(
    windows: WindowSource,
    refrag: FrozenRefrag,
    heuristics: Sequence[Selector],
    columns: Sequence[Column],
    seed: int,
    swap_rounds: int | None = None,
    *,
    first: int = 0,
    references: bool = True,
) -> Comparator:
    """Return what compares selectors on these windows.

    Args:
        windows: To select in.
        refrag: Scores the selections.
        heuristics: What the others are compared with.
        columns: Budgets.
        seed: Of random selectors and intervals.
        swap_rounds: Of the oracle; ``None``: no oracle.
        first: Windows that were left out before these, where a comparison is made in parts.
        references: Whether full context, no context and so on are scored, too.

    Raises:
        UserError: ``swap_rounds`` is below 0.
    """
    problem = build_problem(windows, refrag)
    oracle = None if swap_rounds is None else Oracle(problem, swap_rounds)
    return Comparator(
        problem,
        refrag.reward_model,
        heuristics,
        columns,
        oracle=oracle,
        references=_references(windows, refrag) if references else (),
        seed=seed,
        first=first,
    )


def _references(windows: WindowSource, refrag: FrozenRefrag) -> tuple[str, ...]:
    """Return the reference rows: without the full context where the decoder cannot read it."""
    limit = refrag.reward_model.model.max_decoder_positions
    length = windows[0].positions(windows.num_chunks)
    if limit is None or length <= limit:
        return REFERENCES
    logger.warning(
        "full_context is not compared: it has %d tokens, and the decoder reads %d", length, limit
    )
    return tuple(name for name in REFERENCES if name != "full_context")
