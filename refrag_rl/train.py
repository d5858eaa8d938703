"""``python -m refrag_rl.train agent=ppo``: train an agent, then compare it with the heuristics.

With a heuristic as the agent nothing is trained. ``resume=RUN_FOLDER`` goes on with a run that was
stopped. ``--help`` shows the settings, ``refrag_rl/conf``
explains them.
"""

from __future__ import annotations

import shlex

from omegaconf import DictConfig
from rich.console import Console

from refrag_rl.commands import run_command


def train(config: DictConfig) -> None:
    """Train, compare, and write the run's folder.

    Args:
        config: As composed from ``refrag_rl/conf/train.yaml``.

    Raises:
        FullDiskError: There is no room left; the last checkpoint is intact.
        NotFiniteError: A reward, a gradient or a weight is NaN or infinite.
        StoppedError: Ctrl-C or SIGTERM; the state is kept.
        UserError: The config asks for something that does not exist or does not fit.
    """
    # Here, not above: --help and mistakes in the config shall not wait for the import of torch.
    from refrag_rl.agents.loading import POLICY_FOLDER
    from refrag_rl.allocator import keep_large_blocks
    from refrag_rl.going_on import saying_how_to_go_on
    from refrag_rl.resuming import finished_tables, resumed_run
    from refrag_rl.run_folder import leaving_no_trace_of_a_mistake, shown
    from refrag_rl.run_lock import hold
    from refrag_rl.training import prepare

    keep_large_blocks()
    console = Console(highlight=False)
    folder, quiet = None, not config.verbose
    if config.resume is not None:
        folder, config = resumed_run(config.resume)
        tables = finished_tables(folder)
        for table in tables:
            console.print()
            console.print(table)
        if tables:
            console.print(f"\nrun: {shown(folder)} is finished", soft_wrap=True, markup=False)
            return
        hold(folder)
    quiet_if_asked = Console(highlight=False, quiet=quiet or not config.verbose)
    with quiet_if_asked.status("loading model and corpus"):
        run = prepare(config, folder)
    go_on = f"python -m refrag_rl.train {shlex.quote(f'resume={shown(run.folder)}')}"

    def begun() -> bool:
        has_policy = (run.folder / POLICY_FOLDER).exists()
        return folder is not None or has_policy or run.checkpoint.last_path() is not None

    with (
        saying_how_to_go_on(go_on, run.checkpoint.last_path),
        leaving_no_trace_of_a_mistake(run.folder, begun),
    ):
        run.learn(quiet_if_asked)
        run.compare(console, quiet_if_asked)
    console.print(f"\nrun: {shown(run.folder)}", soft_wrap=True, markup=False)
    if run.learns:
        line = f"curves: tensorboard --logdir {shown(run.folder)}"
        console.print(line, soft_wrap=True, markup=False)


if __name__ == "__main__":
    run_command(train, "train")
