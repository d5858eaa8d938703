"""Who may import whom: the parts that can be used alone, and tested alone, stay so."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import refrag_rl

PACKAGE = Path(refrag_rl.__file__).parent
PARTS = ("corpora", "modeling", "policies", "envs", "agents", "evaluation")
FORBIDDEN = {
    "corpora": {"modeling", "policies", "envs", "agents", "evaluation"},
    "modeling": {"corpora", "policies", "envs", "agents", "evaluation"},
    "policies": {"corpora", "modeling", "envs", "agents", "evaluation"},
    "envs": {"modeling", "policies", "evaluation"},
    "agents": {"modeling", "evaluation"},
    "evaluation": {"modeling", "policies", "agents"},
}
"""Parts that the files of a part do not import, not even for types."""


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_does_not_know_those_that_it_need_not(part: str) -> None:
    for path in (PACKAGE / part).rglob("*.py"):
        known = {name.split(".")[1] for name in imported(path) if name.startswith("refrag_rl.")}
        assert not known & FORBIDDEN[part], path


def test_one_module_makes_what_a_config_names() -> None:
    paths = [p for p in PACKAGE.rglob("*.py") if "hydra.utils.instantiate" in set(imported(p))]
    assert [path.name for path in paths] == ["composition.py"]
