from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from refrag_rl import comparison
from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.comparison import build_columns
from refrag_rl.corpora.windows import WindowSource
from refrag_rl.default_problem import default_problem
from refrag_rl.envs.problem import ExpansionProblem
from refrag_rl.errors import UserError
from refrag_rl.evaluation.compare import Comparator
from refrag_rl.evaluation.interfaces import REFERENCES, Row
from refrag_rl.evaluation.multiplicity import holm
from refrag_rl.evaluation.report import write_window_scores
from refrag_rl.evaluation.windows import JoinedWindows, LaterWindows
from refrag_rl.observation import Observation
from tests.planted import PlantedWindows

COUNT = 16


@pytest.fixture(scope="module")
def problem(tiny_checkpoint: Path, tiny_corpus: Path) -> ExpansionProblem:
    sizes = ("context_length=64", "passage_length=16", "output_length=16", "prompt_length=8")
    return default_problem(
        corpus="files",
        refrag=str(tiny_checkpoint),
        split="all",
        count=COUNT,
        overrides=(f"corpus.path={tiny_corpus}", *(f"windows.{size}" for size in sizes)),
    )


class Fixed:
    """Expands the same places everywhere; counts how often it is asked."""

    def __init__(self, name: str, places: list[int]) -> None:
        self.name = name
        self.places = places
        self.calls = 0

    def select(
        self, observation: Observation, budget: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        self.calls += 1
        expanded = np.zeros(observation["chunk_mask"].shape, dtype=bool)
        for row, chunks in enumerate(budget):
            expanded[row, self.places[: int(chunks)]] = True
        return expanded


def comparator(
    problem: ExpansionProblem, heuristics: list, rates: tuple = (4, 2), first: int = 0
) -> Comparator:
    columns = build_columns(rates, [], chunk_size=problem.chunk_size, num_chunks=problem.num_chunks)
    return Comparator(
        problem, problem.reward_model, heuristics, columns, first=first, resamples=200
    )


class FixedBound:
    """Bounds a fixed distance below what random selection and full expansion give."""

    names = ("oracle", "oracle_split_half")

    def __init__(self, problem: ExpansionProblem) -> None:
        self.problem = problem
        self.calls = 0

    def log_perplexity(self, indices, budgets):  # type: ignore[no-untyped-def]
        self.calls += 1
        nothing = np.zeros((len(indices), self.problem.num_chunks), dtype=bool)
        level = self.problem.log_perplexity(indices, nothing).astype(np.float64)
        return {"oracle": level - 1.0, "oracle_split_half": level - 0.5}


def by_cell(rows: list[Row]) -> dict[tuple[str, str, int | None], Row]:
    return {(row["selector"], row["domain"], row["budget"]): row for row in rows}


def scores(problem: ExpansionProblem, expanded: NDArray[np.bool_]) -> NDArray[np.float32]:
    return problem.log_perplexity(np.arange(COUNT), expanded)


def test_references_are_the_ends_of_the_scale(problem: ExpansionProblem) -> None:
    rows = by_cell(comparator(problem, [HEURISTICS["random"]()]).compare())
    chunks = problem.num_chunks
    nothing = np.zeros((COUNT, chunks), dtype=bool)
    full, compressed = rows["full_context", "all", chunks], rows["compressed", "all", 0]
    assert full["log_perplexity"] == pytest.approx(scores(problem, ~nothing).mean(), abs=1e-5)
    assert compressed["log_perplexity"] == pytest.approx(scores(problem, nothing).mean(), abs=1e-5)
    assert (full["compression_rate"], compressed["compression_rate"]) == (1, problem.chunk_size)
    assert rows["no_context", "all", None]["compression_rate"] is None
    windows = [problem.window(index) for index in range(COUNT)]
    last = problem.reward_model.log_perplexity_of_last_tokens(windows, chunks)
    assert rows["last_tokens", "all", None]["log_perplexity"] == pytest.approx(last.mean())
    assert all(
        row["delta_to_best_heuristic"] is None
        for row in rows.values()
        if row["selector"] in REFERENCES
    )


def test_a_full_context_that_the_decoder_cannot_read_is_no_reference() -> None:
    windows = PlantedWindows(count=2)
    text = len(windows[0].prompt_ids) + len(windows[0].output_ids)
    needed = 1 + windows.num_chunks * windows.chunk_size + text
    for limit, expected in ((needed, REFERENCES), (None, REFERENCES), (needed - 1, REFERENCES[:3])):
        model = SimpleNamespace(max_decoder_positions=limit)
        refrag: Any = SimpleNamespace(reward_model=SimpleNamespace(model=model))
        assert comparison._references(windows, refrag) == expected


def test_selectors_have_the_same_rows_without_references(problem: ExpansionProblem) -> None:
    columns = build_columns([4], [], chunk_size=problem.chunk_size, num_chunks=problem.num_chunks)
    policy, heuristics = Fixed("policy", [2, 0, 6]), [Fixed("first", [0, 1, 2])]
    rows = {}
    for references in (REFERENCES, REFERENCES[:-1], ()):
        compared = Comparator(
            problem, problem.reward_model, heuristics, columns, references=references
        )
        told: list[str] = []
        expected = compared.reports(1)
        rows[len(references)] = compared.compare([policy], told.append)
        assert len(told) == expected
    selections = [row for row in rows[4] if row["selector"] not in REFERENCES]
    assert rows[0] == selections
    assert rows[3] == [row for row in rows[4] if row["selector"] != "full_context"]
    assert len(rows[0]) < len(rows[3]) < len(rows[4])


def test_differences_are_paired_and_to_the_heuristic_of_the_lowest_mean(
    problem: ExpansionProblem,
) -> None:
    heuristics = [Fixed("first", [0, 1, 2]), Fixed("last", [7, 6, 5]), Fixed("mid", [3, 4, 5])]
    policy = Fixed("policy", [2, 0, 6])
    rows = by_cell(comparator(problem, heuristics).compare([policy]))
    for budget in (1, 3):
        budgets = np.full(COUNT, budget)
        observation = problem.observe(np.arange(COUNT), budgets)
        rng = np.random.default_rng(0)
        means = {
            selector.name: float(scores(problem, selector.select(observation, budgets, rng)).mean())
            for selector in [*heuristics, policy]
        }
        best = min(("first", "last", "mid"), key=means.__getitem__)
        for name, mean in means.items():
            row = rows[name, "all", budget]
            assert row["log_perplexity"] == pytest.approx(mean, abs=1e-6)
            assert row["delta_to_best_heuristic"] == pytest.approx(mean - means[best], abs=1e-6)
        top = rows[best, "all", budget]
        ends = (top["delta_to_best_heuristic"], top["delta_ci_low"], top["delta_ci_high"])
        assert ends == (0.0, 0.0, 0.0)


def test_the_interval_of_a_difference_is_narrower_than_of_a_level(
    problem: ExpansionProblem,
) -> None:
    heuristics = [Fixed("first", [0, 1, 2]), Fixed("last", [7, 6, 5])]
    rows = comparator(problem, heuristics).compare()
    wide = [row for row in rows if row["delta_to_best_heuristic"]]
    assert wide
    for row in wide:
        assert row["delta_ci_high"] - row["delta_ci_low"] < row["ci_high"] - row["ci_low"]  # type: ignore[operator]


def test_heuristics_are_scored_once_and_progress_is_told_as_promised(
    problem: ExpansionProblem,
) -> None:
    heuristic, policy = Fixed("first", [0, 1, 2]), Fixed("policy", [1, 2, 3])
    compared = comparator(problem, [heuristic])
    for expected in (1, 2):
        told: list[str] = []
        promised = compared.reports(1)
        compared.compare([policy], told.append)
        assert len(told) == promised
        assert heuristic.calls == 2
        assert policy.calls == 2 * expected


def test_random_picks_do_not_depend_on_who_else_is_compared(problem: ExpansionProblem) -> None:
    alone = by_cell(comparator(problem, [HEURISTICS["random"]()]).compare())
    heuristics = [HEURISTICS["recency"](), HEURISTICS["random"]()]
    together = by_cell(comparator(problem, heuristics).compare([Fixed("policy", [1, 2, 3])]))
    for budget in (1, 3):
        first, second = alone["random", "all", budget], together["random", "all", budget]
        assert first["log_perplexity"] == second["log_perplexity"]


def test_random_picks_anew_in_each_part_of_a_comparison(problem: ExpansionProblem) -> None:
    random = HEURISTICS["random"]()
    picks = [comparator(problem, [], first=first).picks(random, 1, 9) for first in (0, 9, 9)]
    assert np.array_equal(picks[1], picks[2])
    assert not np.array_equal(picks[0], picks[1])


def test_domains_have_rows_of_their_own_and_one_together(problem: ExpansionProblem) -> None:
    rows = comparator(problem, [HEURISTICS["lead"]()]).compare()
    counts = {row["domain"]: row["count"] for row in rows}
    assert list(counts) == ["notes", "tales", "all"]
    assert counts["notes"] + counts["tales"] == counts["all"] == COUNT
    lead = {row["domain"]: row for row in rows if row["budget"] == 3}
    mean = sum(lead[d]["log_perplexity"] * counts[d] for d in ("notes", "tales")) / COUNT
    assert lead["all"]["log_perplexity"] == pytest.approx(mean)


def test_a_selector_that_breaks_its_budget_is_named(problem: ExpansionProblem) -> None:
    with pytest.raises(UserError, match=r"selector greedy expanded 0 chunks where the budget is"):
        comparator(problem, []).compare([Fixed("greedy", [])])


@pytest.mark.parametrize("given", [None, np.zeros(8, np.bool_), np.zeros((1, 8), np.int64)])
def test_a_selector_that_returns_no_sets_is_named(problem: ExpansionProblem, given: Any) -> None:
    selector = Fixed("greedy", [])
    selector.select = lambda *_: given  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"selector greedy returned .* bool of shape"):
        comparator(problem, []).compare([selector])


def test_two_selectors_of_one_name_are_refused(problem: ExpansionProblem) -> None:
    with pytest.raises(ValueError, match="same name"):
        comparator(problem, [Fixed("same", [0, 1, 2])]).compare([Fixed("same", [1, 2, 3])])


def test_without_heuristics_there_is_no_difference(problem: ExpansionProblem) -> None:
    rows = comparator(problem, []).compare([Fixed("policy", [1, 2, 3])])
    assert {row["delta_to_best_heuristic"] for row in rows} == {None}


def test_joined_windows_are_those_of_each_source_in_turn(problem: ExpansionProblem) -> None:
    source: WindowSource = problem.windows
    joined = JoinedWindows([source, source])
    assert len(joined) == 2 * COUNT
    keys = [joined[index].key for index in range(len(joined))]
    assert keys == 2 * [source[index].key for index in range(COUNT)]
    with pytest.raises(IndexError):
        joined[2 * COUNT]


def test_later_windows_are_those_of_the_source_behind_the_first(problem: ExpansionProblem) -> None:
    source: WindowSource = problem.windows
    later = LaterWindows(source, 3)
    assert (later.kind, later.num_chunks) == (source.kind, source.num_chunks)
    keys = [later[index].key for index in range(len(later))]
    assert keys == [source[index].key for index in range(3, COUNT)]
    for index in (-1, len(later)):
        with pytest.raises(IndexError):
            later[index]
    with pytest.raises(UserError, match="none is left"):
        LaterWindows(source, COUNT)


def test_columns_hold_each_number_of_chunks_once() -> None:
    columns = build_columns([8, 4, 2], [6, 5], chunk_size=16, num_chunks=32)
    assert [column.chunks for column in columns] == [2, 6, 15, 5]
    rates = [column.compression_rate for column in columns]
    assert rates == pytest.approx([8, 4, 2, 16 / (1 - 5 / 32 + 16 * 5 / 32)])
    assert columns[0].chunks_of(np.array([32, 16, 3])).tolist() == [2, 1, 1]


def test_selectors_close_shares_of_the_gap_between_random_and_the_oracle(
    problem: ExpansionProblem,
) -> None:
    bound = FixedBound(problem)
    columns = build_columns((4,), [], chunk_size=8, num_chunks=problem.num_chunks)
    compared = Comparator(
        problem,
        problem.reward_model,
        [HEURISTICS["random"](), Fixed("first", [0, 1, 2])],
        columns,
        oracle=bound,
        resamples=200,
    )
    told: list[str] = []
    promised = compared.reports(1)
    rows = by_cell(compared.compare([Fixed("policy", [2, 0, 6])], told.append))
    assert len(told) == promised
    levels = {name: row["log_perplexity"] for (name, domain, b), row in rows.items() if b == 1}
    for domain in ("notes", "tales", "all"):
        cell = {name: row for (name, d, b), row in rows.items() if (d, b) == (domain, 1)}
        random, oracle = (cell[name]["log_perplexity"] for name in ("random", "oracle"))
        for name, row in cell.items():
            share = (random - row["log_perplexity"]) / (random - oracle)
            assert row["gap_closed"] == pytest.approx(share, abs=1e-6), name
            assert row["sees_output"] == name.startswith("oracle")
        assert cell["random"]["gap_closed_split_half"] == pytest.approx(0)
        assert cell["oracle_split_half"]["gap_closed_split_half"] == pytest.approx(1)
        assert cell["oracle"]["gap_closed_split_half"] > 1  # type: ignore[operator]
        # The bound is no heuristic: the best heuristic is one of the two others.
        best = min(cell["random"]["log_perplexity"], cell["first"]["log_perplexity"])
        assert cell["policy"]["delta_to_best_heuristic"] == pytest.approx(
            cell["policy"]["log_perplexity"] - best, abs=1e-6
        )
    assert levels["oracle"] < levels["oracle_split_half"]
    calls = bound.calls
    compared.compare([Fixed("policy", [2, 0, 6])])
    assert bound.calls == calls


def test_without_random_or_without_an_oracle_there_is_no_gap(
    problem: ExpansionProblem,
) -> None:
    columns = build_columns((4,), [], chunk_size=8, num_chunks=problem.num_chunks)
    heuristics = [Fixed("first", [0, 1, 2])]
    compared = Comparator(
        problem, problem.reward_model, heuristics, columns, oracle=FixedBound(problem)
    )
    assert by_cell(compared.compare())["first", "all", 1]["gap_closed"] is None
    random = [HEURISTICS["random"]()]
    assert by_cell(comparator(problem, random).compare())["random", "all", 1]["gap_closed"] is None


def test_p_values_are_adjusted_over_the_cells_of_a_selector(problem: ExpansionProblem) -> None:
    heuristics = [Fixed("first", [0, 1, 2]), Fixed("last", [7, 6, 5])]
    rows = comparator(problem, heuristics).compare([Fixed("policy", [1, 2, 3])])
    for name in ("first", "last", "policy"):
        cells = [row for row in rows if row["selector"] == name]
        assert len(cells) == 6
        adjusted = holm([row["delta_p_value"] for row in cells])  # type: ignore[misc]
        assert [row["delta_p_holm"] for row in cells] == adjusted.tolist()
    assert {row["delta_p_holm"] for row in rows if row["selector"] in REFERENCES} == {None}


def test_the_scores_of_single_windows_give_the_rows(
    problem: ExpansionProblem, tmp_path: Path
) -> None:
    compared = comparator(problem, [HEURISTICS["recency"]()])
    rows = by_cell(compared.compare([Fixed("policy", [2, 0, 6])]))
    write_window_scores(tmp_path, compared.window_scores())
    frame = pd.read_parquet(tmp_path / "window_scores.parquet")
    assert len(frame) == 2 * 2 * COUNT
    assert set(frame["document"]) == {problem.window(index).document_id for index in range(COUNT)}
    for (name, domain, budget), part in frame.groupby(["selector", "domain", "budget"]):
        row = rows[name, domain, budget]
        assert len(part) == part["window"].nunique() == row["count"]
        assert part["log_perplexity"].mean() == pytest.approx(row["log_perplexity"], abs=1e-6)
