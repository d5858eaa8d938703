"""``python -m refrag_rl.evaluate``: compare heuristics and trained policies on any corpus.

``--help`` shows the settings, ``refrag_rl/conf/evaluate.yaml`` explains them.
"""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from refrag_rl.commands import run_command
from refrag_rl.errors import StoppedError, UserError


def evaluate(config: DictConfig) -> None:
    """Compare, print the table, and write the files.

    Args:
        config: As composed from ``refrag_rl/conf/evaluate.yaml``.

    Raises:
        UserError: The config asks for something that does not exist or does not fit.
    """
    # Here, not above: --help and mistakes in the config shall not wait for the import of torch.
    from refrag_rl.allocator import keep_large_blocks
    from refrag_rl.comparison import build_columns, build_comparator, build_selectors
    from refrag_rl.composition import build_refrag, evaluation_split
    from refrag_rl.evaluation.report import write_comparison, write_window_scores
    from refrag_rl.evaluation.tables import comparison_tables
    from refrag_rl.loading import load_windows
    from refrag_rl.page.run_report import RunReport
    from refrag_rl.progress import ProgressReport
    from refrag_rl.run_folder import (
        choose_run_folder,
        create_run_folder,
        leaving_no_trace_of_a_mistake,
        shown,
    )

    keep_large_blocks()
    console = Console(highlight=False)
    quiet_if_asked = Console(highlight=False, quiet=not config.verbose)
    folder = choose_run_folder(config, "evaluate")
    split = evaluation_split(config.corpus, learns=False)
    with quiet_if_asked.status("loading model and corpus"):
        refrag = build_refrag(config.refrag)
        heuristics, policies = build_selectors(list(config.selectors), refrag.reward_model)
        windows = load_windows(config, split, refrag, each_domain=True, first=config.first)
    columns = build_columns(
        list(config.rates),
        list(config.budgets),
        chunk_size=windows.chunk_size,
        num_chunks=windows.num_chunks,
    )
    comparator = build_comparator(
        windows,
        refrag,
        heuristics,
        columns,
        config.seed,
        config.oracle,
        first=config.first,
        references=config.references,
    )
    create_run_folder(folder, config, command="evaluate")
    total = comparator.reports(len(policies))
    with (
        leaving_no_trace_of_a_mistake(folder, errors=(UserError, KeyboardInterrupt, StoppedError)),
        ProgressReport(quiet_if_asked, "comparison", "selections") as progress,
    ):
        rows = comparator.compare(policies, lambda _: progress.step(total))
    highlighted = [policy.name for policy in policies]
    write_window_scores(folder, comparator.window_scores())
    write_comparison(folder, rows, highlighted)
    for table in comparison_tables(rows, highlighted):
        console.print()
        console.print(table)
    # After all else: a page that fails must not cost the comparison.
    report = RunReport(refrag.tokenizer, config.report.windows)
    report.write(folder, comparator, policies, rows, quiet_if_asked, highlighted=highlighted)
    console.print(f"\nresults: {shown(folder)}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    run_command(evaluate, "evaluate")
