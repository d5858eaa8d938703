"""What TensorBoard shows besides curves."""

from __future__ import annotations

from markdown import markdown

from refrag_rl.board import as_code_block, final_figures, settings
from refrag_rl.evaluation.interfaces import Row
from tests.unit.evaluation.test_outputs import row


def test_a_document_cannot_leave_the_code_block() -> None:
    hostile = "```\n<script>alert(1)</script>\n# heading\n\n    [link](http://x) **bold**\n</pre>"
    shown = markdown(
        as_code_block(f"first line\n{hostile}"), extensions=["markdown.extensions.fenced_code"]
    )
    assert shown.startswith("<pre><code>")
    assert shown.endswith("</code></pre>")
    inside = shown.removeprefix("<pre><code>").removesuffix("</code></pre>")
    assert "<" not in inside


def test_settings_are_flat_and_hold_what_matters() -> None:
    config = {
        "output": "runs/x",
        "seed": 3,
        "budget": ["8x", "2x"],
        "agent": {"learning_rate": 1e-3, "policy": {"width": 8}, "output": None},
    }
    assert settings(config) == {
        "seed": 3,
        "budget": "['8x', '2x']",
        "agent.learning_rate": 1e-3,
        "agent.policy.width": 8,
        "agent.output": "None",
    }


def test_final_figures_are_the_agents_own() -> None:
    rows: list[Row] = [
        row("ppo", "docs", 8.0, 2, log_perplexity=3.5),
        row("random", "docs", 8.0, 2),
        row("ppo", "docs", 4.0, 6, log_perplexity=3.25, delta_to_best_heuristic=None),
        row("no_context", "docs", None, None),
    ]
    assert final_figures(rows, "ppo") == {
        "final/docs/8/log_perplexity": 3.5,
        "final/docs/8/delta_to_best_heuristic": -0.0123,
        "final/docs/4/log_perplexity": 3.25,
    }
