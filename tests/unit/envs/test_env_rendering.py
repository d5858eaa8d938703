from dataclasses import replace

import numpy as np

from refrag_rl.envs.rendering import render_window
from refrag_rl.printable import printable
from tests.toy_problem import toy_window


def test_each_chunk_has_its_line_and_only_the_expanded_ones_are_marked() -> None:
    expanded = np.array([0, 0, 1, 0, 0, 1], dtype=bool)
    lines = render_window(toy_window(0), expanded, 3).splitlines()
    chunks = [line for line in lines if "  chunk " in line]
    assert [line.startswith("[+]") for line in chunks] == expanded.tolist()
    assert "2 of 3" in lines[0]
    assert lines[-2:] == ["prompt  what follows?", "output  this follows"]


def test_prompt_before_the_context_stands_there() -> None:
    lines = render_window(toy_window(1), np.zeros(6, dtype=bool), 3).splitlines()
    assert lines[1] == "prompt  what follows?"
    assert sum("prompt" in line for line in lines) == 1


def test_padding_is_not_shown_and_a_missing_prompt_is_said() -> None:
    assert "chunk 4" not in render_window(toy_window(2), np.zeros(6, dtype=bool), 1)
    assert "no prompt" in render_window(toy_window(3), np.zeros(6, dtype=bool), 1)


def test_documents_cannot_steer_the_terminal() -> None:
    hostile = "a\x1b[2Jb\x07\r\nc\x9b1m\u202ed\ud800\u2028"
    window = toy_window(0)
    window = replace(
        window, key=hostile, chunk_texts=(hostile,) * 6, prompt_text=hostile, output_text=hostile
    )
    text = render_window(window, np.zeros(6, dtype=bool), 1)
    assert all(line.isprintable() for line in text.split("\n"))
    harmless = render_window(toy_window(0), np.zeros(6, dtype=bool), 1)
    assert text.count("\n") == harmless.count("\n")
    assert printable("\x1b[2J") == r"\x1b[2J"
    assert printable("Größe 漢字") == "Größe 漢字"
