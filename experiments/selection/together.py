"""Write one policy of the networks of several trainings; their logits are averaged.

    python experiments/selection/together.py OUTPUT RUN...

``selectors=[OUTPUT]`` compares it, ``start_from=OUTPUT`` begins with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from refrag_rl.agents.loading import find_policy
from refrag_rl.errors import UserError
from refrag_rl.policies.storage import StoredPolicy, load_policy, save_policy
from refrag_rl.policies.together import together


def joined(runs: Sequence[Path]) -> StoredPolicy:
    """Return the runs' policies as one.

    Raises:
        UserError: A run has no policy, their policies have different shapes, or they were trained
            on different models.
    """
    found = {run: find_policy(run) for run in runs}
    if missing := [run for run, policy in found.items() if policy is None]:
        raise UserError(f"{missing[0]}: no finished training; give the run's folder")
    stored = [load_policy(policy) for policy in found.values() if policy is not None]
    if len({each.refrag for each in stored}) > 1:
        raise UserError("the runs were trained on different models; give runs of one")
    policy = together([each.policy for each in stored])
    trainings = [dict(each.training) for each in stored]
    return StoredPolicy(policy, stored[0].agent, {"together": trainings}, stored[0].refrag)


def main() -> None:
    """Read the arguments and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    given = parser.parse_args()
    save_policy(joined(given.runs), given.output)


if __name__ == "__main__":
    main()
