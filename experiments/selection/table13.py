"""The paper's Table 13: chunks of 16 with a policy at rate 8 against chunks of 8, nothing expanded.

    python experiments/selection/table13.py --data DATA --output FILE RUN...

Both read the same contiguous text at the same rate; RUN are the policy's training seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refrag_rl.agents.loading import find_policy
from refrag_rl.agents.policy_selector import PolicySelector
from refrag_rl.default_problem import default_problem
from refrag_rl.envs import ExpansionProblem
from refrag_rl.errors import UserError
from refrag_rl.evaluation.statistics import bootstrap_mean
from refrag_rl.evaluation.training_seeds import interquartile_mean, interquartile_test

RATE = 8


def problem_of(refrag: str, domain: str, options: argparse.Namespace) -> ExpansionProblem:
    """Return the held-out contiguous windows of a domain with a model."""
    is_docs = domain == "docs"
    path = options.data / domain / "validation.jsonl.gz"
    return default_problem(
        corpus="docs" if is_docs else "files",
        windows="contiguous",
        refrag=refrag,
        split="test" if is_docs else "all",
        count=options.count,
        seed=0,
        overrides=[] if is_docs else [f"corpus.path={path}"],
    )


def with_policy(problem: ExpansionProblem, policy: PolicySelector) -> NDArray[np.float64]:
    """Return the log-perplexity of each window with the policy's chunks expanded, (N,)."""
    policy.require_model(problem.variant(inputs=policy.inputs).embedding_size, problem.refrag)
    indices = np.arange(len(problem))
    budget = problem.parse_budget(f"{RATE}x")
    rng = np.random.default_rng(0)
    budgets = budget.chunks(problem.chunk_masks(indices).sum(axis=1), rng)
    expanded = policy.select(problem.observe(indices, budgets, policy.inputs), budgets, rng)
    return problem.log_perplexity(indices, expanded).astype(np.float64)


def row_of(domain: str, policies: list[PolicySelector], options: argparse.Namespace) -> Any:
    """Return the figures of a domain.

    Raises:
        UserError: The two models cut other text.
    """
    problem = problem_of(options.refrag, domain, options)
    learned = np.stack([with_policy(problem, policy) for policy in policies])
    outputs = [problem.window(i).output_ids.tolist() for i in range(len(problem))]
    documents = [problem.window(i).document_id for i in range(len(problem))]
    other = problem_of(options.refrag_k8, domain, options)
    if other.chunk_size != RATE:
        raise UserError(f"--refrag-k8 has chunks of {other.chunk_size} tokens; give one of {RATE}")
    if outputs != [other.window(i).output_ids.tolist() for i in range(len(other))]:
        raise UserError("the two checkpoints cut other windows: give two of one tokenizer")
    plain = other.compressed_log_perplexity(np.arange(len(other))).astype(np.float64)
    level, small = interquartile_mean(learned, documents), bootstrap_mean(plain, documents)
    difference, p_value = interquartile_test(learned - plain, documents)
    return {
        "domain": domain,
        "count": len(documents),
        "documents": len(set(documents)),
        "seeds": len(policies),
        "policy": [level.mean, level.low, level.high],
        "small_chunks": [small.mean, small.low, small.high],
        "difference": [difference.mean, difference.low, difference.high],
        "p_value": p_value,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--refrag", default="tiny-k16")
    parser.add_argument("--refrag-k8", default="tiny-k8")
    parser.add_argument("--domains", nargs="+", default=["docs", "books", "math", "wiki"])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    policies = []
    for run in options.runs:
        folder = find_policy(run)
        if folder is None:
            raise UserError(f"{run}: there is no policy in it")
        policies.append(PolicySelector.load(folder))
    rows = [row_of(domain, policies, options) for domain in options.domains]
    options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
