"""YAML files that a user gives with ``--config-dir``, broken in some way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_input.checking import QUICK, check_refused
from tests.cli.running import InProcess

FILES: dict[str, bytes | Callable[[Path], object]] = {
    "empty": b"",
    "blank": b"\n \n",
    "word": b"word\n",
    "tabs": b"a:\n\tb: 1\n",
    "open-list": b"a: [1, 2\n",
    "open-quote": b'a: "b\n',
    "colon": b"a: b: c\n",
    "twice": b"a: 1\na: 2\n_target_: refrag_rl.agents.heuristics.Recency\n",
    "binary": bytes(range(256)),
    "utf16": "_target_: x".encode("utf-16"),
    "latin": "a: gr\u00fc\u00df".encode("latin-1"),
    "tag": b"!!python/object/apply:os.system ['touch executed']\n",
    "tag-value": b"_target_: !!python/name:os.system\n",
    "own-tag": b"_target_: !thing x\n",
    "alias": b"_target_: *nothing\n",
    "interpolation": b"_target_: ${nothing}\n",
    "environment": b"_target_: ${oc.env:NOTHING_OF_THAT_NAME}\n",
    "resolver": b"_target_: ${nothing:1}\n",
    "unknown-option": b"_target_: refrag_rl.agents.heuristics.Recency\nspeed: 3\n",
    "no-target": b"width: 3\n",
    "two-documents": b"a: 1\n---\nb: 2\n",
    "defaults": b"defaults:\n  - nothing\n_target_: x\n",
    "defaults-number": b"defaults: 5\n",
    "key-list": b"? [a, b]\n: 1\n",
    "null-key": b"null: 1\n",
    "folder": lambda path: path.mkdir(),
    "link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_agent_config(
    in_process: InProcess, tmp_path: Path, tiny: tuple[str, ...], name: str
) -> None:
    folder = tmp_path / "conf" / "agent"
    folder.mkdir(parents=True)
    content = FILES[name]
    if callable(content):
        content(folder / f"{name}.yaml")
    else:
        (folder / f"{name}.yaml").write_bytes(content)
    quick = [argument for argument in QUICK if not argument.startswith("agent.")]
    given = ("--config-dir", "conf", f"agent={name}", *tiny, *quick, "output=out")
    check_refused(in_process("train", *given), tmp_path)
    assert not (tmp_path / "executed").exists()
