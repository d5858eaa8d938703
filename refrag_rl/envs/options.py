"""The environment's options that are one of a few words."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from refrag_rl.errors import UserError

RewardName: TypeAlias = Literal["neg_log_perplexity", "neg_perplexity"]
BaselineName: TypeAlias = Literal[
    "none",
    "compressed",
    "perplexity_desc",
    "perplexity_asc",
    "recency",
    "lead",
    "similarity",
    "lexical",
    "passage_rank",
    "successor",
    "best_heuristic",
]
RewardTiming: TypeAlias = Literal["terminal", "per_step"]
RenderMode: TypeAlias = Literal["ansi"]


def check_choice(option: str, value: object, choices: Any) -> None:
    """Raise unless an option has one of the values of a ``Literal``.

    Args:
        option: Its name, for the message.
        value: What was given.
        choices: The ``Literal``.

    Raises:
        UserError: The value is none of them.
    """
    if value not in get_args(choices):
        raise UserError(
            f"Unknown {option}: {value!r}.\nChoose one of: {', '.join(get_args(choices))}."
        )
