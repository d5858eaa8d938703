import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from refrag_rl.agents import shipped
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.comparison import build_selectors
from refrag_rl.corpora.contiguous import ContiguousWindows
from refrag_rl.corpora.documents import Document, split_of
from refrag_rl.corpora.recall import RecallWindows
from refrag_rl.corpora.retrieved import RetrievedWindows
from refrag_rl.corpora.tokenized import TokenizedCorpus
from refrag_rl.errors import UserError
from refrag_rl.modeling.checkpoint import load_refrag
from refrag_rl.modeling.fingerprint import fingerprint
from refrag_rl.policies.pointer import PointerConfig, PointerPolicy
from refrag_rl.policies.storage import load_policy
from refrag_rl.pretraining.tokenizer import train_tokenizer
from refrag_rl.reward import RewardModel
from tests.unit.corpora.conftest import make_documents

FOLDER = Path(__file__).resolve().parents[3] / "experiments" / "selection"
COUNT, SEARCHED = 60, 20


@pytest.fixture
def script(monkeypatch):
    """Return what imports a script of the folder."""
    monkeypatch.syspath_prepend(FOLDER)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def write(folder: Path, selectors: dict[str, np.ndarray]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "selector": name,
            "budget": 2,
            "compression_rate": 8.0,
            "window": f"w{max(place, 1)}",  # the first two are the same one, drawn twice
            "document": f"d{place // 3}",
            "domain": "docs",
            "log_perplexity": value,
        }
        for name, values in selectors.items()
        for place, value in enumerate(values)
    ]
    pd.DataFrame(rows).to_parquet(folder.with_suffix(".parquet"))


def validation(folder: Path, levels: dict[str, float]) -> None:
    """Write scores of agents on validation windows, two seeds each."""
    for name, level in levels.items():
        write(folder / name, {f"{name}-{i}": np.full(COUNT, level + i / 10) for i in range(2)})


@pytest.fixture
def cells(tmp_path):
    """Write a cell with room, in which the agent closes half of it, and one without."""
    rng = np.random.default_rng(0)
    for kind, room in (("strong", 0.4), ("contiguous", 0.0)):
        random = rng.normal(4, 0.5, COUNT)
        best = random - 0.2 + rng.normal(0, 0.01, COUNT)
        cell = tmp_path / "cells" / "docs" / kind
        write(cell / "heuristics", {"random": random, "successor": best})
        seeds = {f"grpo run-{i}": best - room / 2 + 0.001 * i for i in range(3)}
        write(cell / "grpo", seeds)
        bound = (best - room)[:SEARCHED]
        bounds = {"random": random[:SEARCHED], "oracle": bound - 0.1, "oracle_split_half": bound}
        write(cell / "oracle", bounds)
        variants = {"inputs_embeddings": 0.0, "inputs_lexical": -0.3, "budget_8": 0.05}
        for name, difference in variants.items():
            write(cell / name, {f"{name}-{i}": best + difference for i in range(2)})
    return tmp_path / "cells"


def test_room_leads_and_shares_of_cells(script, cells):
    results = script("results")
    rows = [results.measure(cell, ["grpo"]) for cell in script("scores").read_cells(cells)]
    results.adjust(rows)
    without, room = rows
    assert (without["kind"], room["kind"]) == ("contiguous", "strong")
    assert room["has_room"]
    assert not without["has_room"]
    assert room["best_heuristic"] == "successor"
    figures = room["policies"]["grpo"]
    test = figures["to_heuristics"]["successor"]
    assert test["difference"][0] == pytest.approx(-0.199)
    assert test["difference"][2] < 0
    assert test["p_value"] <= test["p_holm"] < 0.05
    # Of 0.6 from random to the corrected oracle: 0.2 of the heuristic and half of 0.4.
    assert figures["gap_closed_split_half"][0] == pytest.approx(0.399 / 0.6, abs=0.02)
    assert figures["gap_closed"][0] < figures["gap_closed_split_half"][0]
    assert without["policies"]["grpo"]["to_heuristics"]["successor"]["p_holm"] is None


def test_an_agent_is_chosen_on_validation_windows_whatever_the_cells_say(script, tmp_path):
    validation(tmp_path / "validation", {"behind": 3.0, "level": 2.01, "ahead": 2.0})
    results = script("results")
    agents = ["behind", "level", "ahead"]
    read = results.read_validation
    found = results.validated(read(tmp_path / "validation", [*agents, "absent"]))
    assert list(found) == agents
    assert found["ahead"]["level"][0] == pytest.approx(2.05)
    assert found["behind"]["to_lowest"][1] > 0
    assert found["level"]["to_lowest"][1] < 0 < found["level"]["to_lowest"][2]
    assert results.choose(found, agents) == "ahead"
    assert results.choose(found, ["absent", "behind", "level"]) == "level"
    assert results.choose({}, agents) is None
    frame = pd.read_parquet(tmp_path / "validation" / "ahead.parquet")
    frame[frame.window != "w7"].to_parquet(tmp_path / "validation" / "ahead.parquet")
    with pytest.raises(ValueError, match="other validation windows"):
        read(tmp_path / "validation", ["behind", "ahead"])


def test_variants_do_not_compete_in_cells_but_in_pairs(script, cells, tmp_path, monkeypatch):
    arguments = ["results.py", str(cells), str(tmp_path / "none"), str(tmp_path / "results.json")]
    monkeypatch.setattr(
        "sys.argv", [*arguments, "--agents", "grpo", "--candidates", "grpo", "--studied", "grpo"]
    )
    script("results").main()
    found = json.loads((tmp_path / "results.json").read_text())
    assert {name for row in found["cells"] for name in row["policies"]} == {"grpo"}
    inputs = [(row["kind"], row["policy"], row["difference"][0]) for row in found["inputs"]]
    assert inputs == [
        ("contiguous", "inputs_lexical", pytest.approx(-0.3)),
        ("contiguous", "grpo", pytest.approx(0.001)),
        ("strong", "inputs_lexical", pytest.approx(-0.3)),
        ("strong", "grpo", pytest.approx(-0.199)),
    ]
    budgets = {row["kind"]: row["difference"][0] for row in found["budgets"]}
    assert budgets["contiguous"] == pytest.approx(-0.049)
    assert budgets["strong"] == pytest.approx(-0.249)
    tables = script("tables")
    table = tables.inputs_table(found)
    assert "| `lexical` | -0.300 [" in table
    assert "| `default` | +0.001 [" in table
    assert "| docs | strong | 8 | -0.249 [" in tables.budgets_table(found)


def test_an_agent_that_goes_on_from_another_is_compared_run_by_run(script, cells):
    strong = cells / "docs" / "strong"
    grpo = pd.read_parquet(strong / "grpo.parquet")
    # Runs far apart, each 0.01 better than the one it went on from.
    run = grpo.selector.str[-1].astype(int)
    before = grpo.assign(log_perplexity=grpo.log_perplexity + run)
    before.to_parquet(strong / "before.parquet")
    after = before.assign(log_perplexity=before.log_perplexity - 0.01)
    after[after.groupby("selector").cumcount() < 30].to_parquet(strong / "after.parquet")
    results, tables = script("results"), script("tables")
    (cell,) = (c for c in script("scores").read_cells(cells) if c.kind == "strong")
    apart, by_run = (
        results.paired([cell], [("after", "before")], by_run=by_run)[0] for by_run in (False, True)
    )
    assert by_run["count"] == 30
    assert by_run["difference"] == pytest.approx([-0.01, -0.01, -0.01])
    assert apart["difference"][0] == pytest.approx(-0.01)
    assert apart["difference"][1] < -0.5
    rows = [{"by_run": False, **apart}, {"by_run": True, **by_run}]
    table = tables.pairs_table({"pairs": rows})
    assert "| `after` - `before` | 30 | -0.0100 | none | none |" in table
    better = "docs strong 8 -0.010 [-0.010, -0.010]"
    assert f"| `after` - `before`, run by run | 30 | -0.0100 | {better} | none |" in table
    fewer = replace(cell, policies={**cell.policies, "before": cell.policies["before"][:2]})
    with pytest.raises(ValueError, match="after has 3 runs, before 2"):
        results.paired([fewer], [("after", "before")], by_run=True)


def test_over_all_cells_selectors_are_compared_with_the_best_heuristic(script, cells):
    for kind in ("strong", "contiguous"):
        path = cells / "docs" / kind
        grpo = pd.read_parquet(path / "grpo.parquet")
        ahead = grpo.assign(log_perplexity=grpo.log_perplexity - 0.5)
        ahead.to_parquet(path / "ahead.parquet")
    (cells / "docs" / "strong" / "grpo.parquet").rename(cells / "docs" / "strong" / "once.parquet")
    agents = ["grpo", "ahead", "once"]
    results = script("results")
    found = script("scores").read_cells(cells)
    rows = [results.measure(cell, agents) for cell in found]
    lines = script("tables").overall_table({"cells": rows}).splitlines()[2:]
    # Level in one cell and 0.2 below the best heuristic in the other, and 0.5 more.
    assert lines[0] == "| ahead | -0.599 | -0.699 | -0.499 |"
    assert [line.split()[1] for line in lines] == ["ahead", "successor", "random"]
    level = results.improvements(found, "ahead", [*agents, "absent"])
    assert list(level) == ["best heuristic"]
    assert level["best heuristic"][0] == 1


def test_runs_of_agents_are_compared_on_the_windows_that_both_have(script, cells):
    for kind in ("strong", "contiguous"):
        path = cells / "docs" / kind
        grpo = pd.read_parquet(path / "grpo.parquet")
        place = grpo.groupby("selector").cumcount()
        # Better on the later windows, which the other agent does not have.
        long = grpo.assign(log_perplexity=grpo.log_perplexity - (place >= 30))
        long.to_parquet(path / "long.parquet")
        grpo[place < 30].to_parquet(path / "grpo.parquet")
    found = script("scores").read_cells(cells)
    level = script("results").improvements(found, "grpo", ["grpo", "long", "absent"])
    assert list(level) == ["best heuristic", "long"]
    assert level["long"][0] == pytest.approx(0.5)
    # Better in the cell with room, a little worse in the other.
    assert level["best heuristic"][0] == pytest.approx((1 + 1 / 6) / 2, abs=0.2)


def test_seeds_that_never_arrive_count_as_the_latest(script):
    rewards = script("curve_tables").rewards
    assert rewards([1000.0, None, 3000.0, 2000.0, 4000.0]) == "3,000 (4 of 5 seeds)"
    assert rewards([1000.0, None, None]) == "never (1 of 3 seeds)"
    assert rewards([1000.0, 2000.0]) == "1,500 (2 of 2 seeds)"
    assert rewards([None, None]) == rewards([]) == "never"


def test_policies_on_other_windows_are_not_compared(script, cells):
    path = cells / "docs" / "strong" / "grpo.parquet"
    frame = pd.read_parquet(path)
    frame[frame.window != "w7"].to_parquet(path)
    with pytest.raises(KeyError, match="w7"):
        script("scores").read_cells(cells)


def test_later_windows_of_a_cell_stand_in_further_files(script, cells):
    strong = cells / "docs" / "strong"
    whole = script("scores").read_cells(cells)[1]
    frame = pd.read_parquet(strong / "heuristics.parquet")
    place = frame.groupby(["selector", "budget"]).cumcount()
    for first, last, name in (
        (0, 25, "heuristics"),
        (25, 40, "heuristics.25"),
        (40, COUNT, "heuristics.40"),
    ):
        part = frame[(first <= place) & (place < last)]
        part.to_parquet(strong / f"{name}.parquet")
    joined = script("scores").read_cells(cells)[1]
    assert joined.windows == whole.windows
    assert (joined.heuristics["random"] == whole.heuristics["random"]).all()
    # What stands behind a gap is left out, and a policy may have fewer windows than heuristics.
    grpo = pd.read_parquet(strong / "grpo.parquet")
    first = grpo.groupby("selector").cumcount() < 30
    grpo[first].to_parquet(strong / "grpo.parquet")
    (cell,) = (c for c in script("scores").read_cells(cells) if c.kind == "strong")
    figures = script("results").measure(cell, ["grpo"])["policies"]["grpo"]
    assert figures["count"] == 30
    assert figures["to_heuristics"]["successor"]["difference"][0] == pytest.approx(-0.199)
    (strong / "heuristics.25.parquet").unlink()
    (cell,) = (c for c in script("scores").read_cells(cells) if c.kind == "strong")
    assert len(cell.windows) == cell.policies["grpo"].shape[1] == 25


def test_the_tables_hold_what_was_measured_and_say_what_was_not(
    script, cells, tmp_path, monkeypatch
):
    validation(tmp_path / "validation", {"grpo": 2.0})
    files = [cells, tmp_path / "validation", tmp_path / "results.json"]
    arguments = ["results.py", *map(str, files), "--agents", "grpo", "--candidates", "grpo"]
    monkeypatch.setattr("sys.argv", arguments)
    script("results").main()
    script("figure3").main(tmp_path)
    assert (tmp_path / "figure3.png").exists()
    monkeypatch.setattr("sys.argv", ["pages.py", str(tmp_path)])
    script("pages").main()
    text = (tmp_path / "README.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| docs | strong | 8 |"))
    assert "| successor |" in row
    assert row.count("| yes |") == 2
    assert "not better than every heuristic (interval): none" in text
    assert "Not measured yet." in text.split("<!-- table: table-13 -->")[1].split("<!--")[0]
    page = (tmp_path / "RL.md").read_text()
    assert "Not measured yet." in page.split("<!-- table: agents -->")[1].split("<!--")[0]


def test_curves_say_when_a_level_is_reached(script):
    curves = script("curves")
    steps = np.array([1000.0, 2000, 3000, 4000])
    slow, fast = (steps, np.array([-0.4, -0.2, 0.0, 0.2])), (steps, np.array([-0.4, 0.4, 0.4, 0.4]))
    assert curves.first_reaching(slow, 0.0) == 3000
    assert curves.first_reaching(slow, 0.3) is None
    assert curves.smooth(np.array([0.0, 3, 3, 3])).tolist() == [0, 1.5, 2, 3]
    found = {
        name: curves.figures({"0": curve, "1": curve}, {"0": slow, "1": slow})
        for name, curve in (("slow", slow), ("fast", fast))
    }
    assert found["slow"]["final_gain"] == pytest.approx(0.2)
    assert found["fast"]["lead_over_reference"][0] == pytest.approx(0.2)
    of_seeds = {"fast": {"0": fast, "1": fast}, "slow": {"1": slow, "2": slow}}
    efficiency = curves.compare_efficiency(of_seeds, "fast", "slow")
    assert efficiency["to_agents_level"] == {"fast": [2000], "slow": [None]}
    assert efficiency["to_references_level"] == {"fast": [2000], "slow": [4000]}
    of_mean = efficiency["of_mean"]
    assert of_mean["seeds"] == 1
    assert of_mean["to_references_level"] == {"fast": 2000, "slow": 4000}
    of_seeds = {"fast": {"0": slow, "1": fast}, "slow": {"0": slow, "1": slow}}
    of_mean = curves.compare_efficiency(of_seeds, "fast", "slow")["of_mean"]
    # The mean of the two is 0.3 at the end, 95 % of the way to which is 0.265.
    assert of_mean["seeds"] == 2
    assert of_mean["to_agents_level"] == {"fast": 4000, "slow": None}
    apart = curves.compare_efficiency({"fast": {"0": fast}, "slow": {"1": slow}}, "fast", "slow")
    assert apart["of_mean"]["to_agents_level"] == {"fast": None, "slow": None}
    recommend = script("curve_tables").recommendation
    assert "Recommended at this size: `fast`" in recommend({"agents": found, "longer": ["slow"]})
    # With more sets than the others it is shown, but not recommended.
    assert "Recommended at this size: `slow`" in recommend({"agents": found, "longer": ["fast"]})
    lead = curves.lead_over({"0": fast, "1": slow, "2": fast}, {"0": slow, "1": slow})
    assert lead[0] == pytest.approx(0.1)  # the mean of 0.2 and 0, seed by seed
    alike = {"fast=slow": lead}
    assert "`fast` less `slow` +0.100" in recommend({"agents": found, "alike": alike})
    assert curves.lead_over({"0": fast}, {"1": slow}) is None


def test_the_training_corpus_holds_some_of_each_split_and_cuts_long_documents(script):
    corpus = script("corpus")
    texts = {f"{domain}/{i}": "x" * 300_000 for i in range(400) for domain in ("docs", "math")}
    texts["docs/0"] = "y" * (corpus.OF_A_DOCUMENT + 1)
    documents = [Document(name, name.split("/")[0], text) for name, text in texts.items()]
    sampled = list(corpus.sample(documents))
    assert len({each.id for each in sampled}) == len(sampled)
    for split, characters in corpus.CHARACTERS.items():
        for domain in ("docs", "math"):
            sizes = [
                len(each.text)
                for each in sampled
                if split_of(each.id) == split and each.domain == domain
            ]
            assert sum(sizes) >= characters > sum(sizes) - sizes[-1]
            assert max(sizes) <= corpus.OF_A_DOCUMENT
    assert {each.id for each in corpus.sample(documents[::-1])} == {each.id for each in sampled}


def test_a_plan_grows_with_its_sizes(script):
    plan = script("plan")
    sizes = {name.replace("-", "_"): 4 for name in plan.SIZES} | {"eval_every": 2}
    sizes |= {"grpo_long_every": 2, "oracle_rates": [8, 4]}
    small = plan.plan(SimpleNamespace(**sizes))
    large = plan.plan(SimpleNamespace(**(sizes | {"oracle_count": 8, "swap_rounds": 4})))
    assert large["oracle"] > small["oracle"]
    assert large["train"] == small["train"]


def test_a_shipped_policy_has_a_card_and_is_used_by_its_model_only(
    script, tmp_path, tiny_checkpoint, wider_checkpoint, monkeypatch
):
    ship = script("ship").ship
    loaded = load_refrag(tiny_checkpoint)
    run, assets = tmp_path / "run", tmp_path / "assets"
    policy = PointerPolicy(PointerConfig(loaded.model.embedding_size, width=8))
    weights = fingerprint(loaded.model)
    PolicySelector(policy, "grpo", refrag=weights).save(run / "policy")
    start = tmp_path / "start"
    start.mkdir()
    (start / "metadata.json").write_text(json.dumps({"arguments": ["agent=ppo"]}))
    arguments = ["agent=grpo", "corpus.path=/here/books.txt", "output=there", "~report"]
    arguments.append(f"agent.warm_start={start}")
    metadata = {"seed": 3, "commit": "abc", "arguments": arguments}
    (run / "metadata.json").write_text(json.dumps(metadata))
    folder = ship([run], "default", str(tiny_checkpoint), data="/here/", assets=assets)
    card = (folder / "README.md").read_text()
    assert "```\npython -m refrag_rl.train agent=ppo\n" in card
    assert "python -m refrag_rl.train agent=grpo corpus.path=DATA/books.txt '~report'" in card
    assert weights in card
    assert "seed 3, commit abc" in card
    second = tmp_path / "second"
    shutil.copytree(run, second)
    for folder, seed in ((run, 3), (second, 4)):
        of_seed = {**metadata, "seed": seed, "arguments": ["agent=rloo", f"seed={seed}"]}
        (folder / "metadata.json").write_text(json.dumps(of_seed))
    both = ship([run, second], "both", str(tiny_checkpoint), assets=assets)
    assert load_policy(both).policy.config.members == 2
    card = (both / "README.md").read_text()
    assert "in each of 2 trainings" in card
    assert "seed 3, 4, commit abc" in card
    assert card.count("python -m refrag_rl.train agent=rloo seed=SEED") == 1
    with pytest.raises(UserError, match="nowhere: no finished training"):
        ship([run, Path("nowhere")], "default", str(tiny_checkpoint), assets=assets)
    monkeypatch.setattr(shipped, "FOLDER", assets)
    own = RewardModel(loaded.model, loaded.chunk_tokenizer)
    heuristics, (selector,) = build_selectors(["random", "policy:default"], own)
    assert [selector.name, heuristics[0].name] == ["policy:default", "random"]
    wider = load_refrag(wider_checkpoint)
    with pytest.raises(UserError, match="no such policy for the model"):
        build_selectors(["policy:default"], RewardModel(wider.model, wider.chunk_tokenizer))
    with pytest.raises(UserError, match="trained on a model of weights"):
        ship([run], "default", str(wider_checkpoint), assets=assets)


def test_trainings_of_one_model_become_one_policy(script, tmp_path):
    joined = script("together").joined
    runs = [tmp_path / name for name in ("first", "second", "other-model")]
    for run, members, weights in zip(runs, (1, 2, 1), ("here", "here", "elsewhere"), strict=True):
        policy = PointerPolicy(PointerConfig(8, width=8, members=members))
        PolicySelector(policy, "regression", refrag=weights).save(run / "policy")
    stored = joined(runs[:2])
    assert stored.policy.config.members == 3
    assert (stored.agent, stored.refrag) == ("regression", "here")
    with pytest.raises(UserError, match="different models"):
        joined(runs)
    with pytest.raises(UserError, match="nowhere: no finished training"):
        joined([runs[0], Path("nowhere")])


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (ContiguousWindows, {"context_length": 64, "prompt_length": 8}),
        (RecallWindows, {"context_length": 64, "passage_length": 32, "prompt_length": 4}),
        (RetrievedWindows, {"context_length": 64, "passage_length": 32}),
    ],
)
def test_the_text_of_an_output_is_found_by_its_windows_key(script, source, options):
    documents = [
        replace(document, id=f"a/{document.id}/b") for document in make_documents(4, words=300)
    ]
    tokenizer = train_tokenizer(documents, vocabulary_size=500, share=1.0, seed=0)
    corpus = TokenizedCorpus(documents, tokenizer)
    windows = source(corpus, chunk_size=8, output_length=16, count=8, **options)
    outputs = script("copies").Outputs({each.id: each for each in documents}, tokenizer)
    for index in range(8):
        assert outputs.of(windows[index].key) == windows[index].output_text
