"""What the pages say of the program is what it is."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from refrag_rl import conf
from refrag_rl.agents.heuristics import HEURISTICS
from refrag_rl.default_problem import default_problem
from refrag_rl.envs.arguments import COMPOSED_FROM
from refrag_rl.envs.single import SelectiveExpansionEnv
from refrag_rl.evaluation.interfaces import REFERENCES
from refrag_rl.observation import CHUNK_FEATURES, Inputs, Observation
from tests.docs.blocks import PAGES, ROOT
from tests.toy_problem import toy_problem

DOCS = ROOT / "docs"


def text_of(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """Return the text below each heading of the second level."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_column(text: str) -> list[str]:
    """Return the words in code at the start of the rows of all tables."""
    return re.findall(r"^\| `([^`]+)`", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings], target


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []


def test_the_environment_has_a_page_in_gymnasiums_form() -> None:
    wanted = [
        "Description",
        "Action Space",
        "Observation Space",
        "Starting State",
        "Rewards",
        "Episode End",
        "Information",
        "Arguments",
        "Version History",
    ]
    page = sections(text_of("environment"))
    assert [name for name in page if name in wanted] == wanted
    docstring = sections(inspect.cleandoc(SelectiveExpansionEnv.__doc__ or ""))
    assert [name for name in docstring if name in wanted] == wanted


def test_the_environments_page_lists_what_there_is() -> None:
    page = sections(text_of("environment"))
    observation = first_column(page["Observation Space"])
    assert observation == [*Observation.__annotations__, *CHUNK_FEATURES]
    environment = SelectiveExpansionEnv(toy_problem(1))
    environment.reset(seed=0)
    *_, info = environment.step(int(environment.action_masks().argmax()))
    assert set(first_column(page["Information"])) == set(info)
    own = set(inspect.signature(SelectiveExpansionEnv).parameters) - {"composition"}
    composed = set(inspect.signature(default_problem).parameters) - {"options"}
    # The others are arguments of the environment itself.
    composed |= {field.name for field in fields(Inputs)}
    assert composed == set(COMPOSED_FROM)
    assert set(first_column(page["Arguments"])) == own | composed


def test_concepts_list_the_heuristics_and_the_references() -> None:
    page = sections(text_of("concepts"))["What is compared"]
    assert first_column(page) == list(HEURISTICS)
    assert [name for name in REFERENCES if f"`{name}`" not in page] == []


def test_every_learning_agent_has_a_section_with_an_equation_and_curves() -> None:
    files = (Path(conf.__file__).parent / "agent").glob("*.yaml")
    agents = {file.stem for file in files} - set(HEURISTICS)
    page = sections(text_of("agents"))
    assert set(first_column(text_of("agents"))) == agents
    named = {heading.lower(): text for heading, text in page.items()}
    for agent in agents:
        assert "```text\n" in named[agent]
        assert "Curves: " in named[agent]
        assert "epartures" in named[agent] or "Not in the paper" in named[agent]
