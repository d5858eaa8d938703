"""The environment as a ``gymnasium.Env``: one episode at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from refrag_rl.envs.arguments import resolve_problem
from refrag_rl.envs.budget import BudgetSpec
from refrag_rl.envs.core import EpisodeBatch
from refrag_rl.envs.layout import observation_space
from refrag_rl.envs.options import BaselineName, RenderMode, RewardName, RewardTiming
from refrag_rl.envs.problem import ExpansionProblem


class SelectiveExpansionEnv(gymnasium.Env[dict[str, Any], np.int64]):
    """Expand the chunks of a compressed context that make the text that follows likely.

    ## Description
    REFRAG (Lin et al., arXiv 2509.01092, appendix A.1) lets a decoder read a context of ``L``
    chunks of ``k`` tokens each as ``L`` chunk embeddings, and leaves a few chunks expanded, as
    their ``k`` tokens. Which ones is the problem: an episode is one window of text (a prompt, a
    context, and the output that truly follows) and a budget of ``T'`` chunks; each action expands
    one chunk.

    ## Action Space
    ``Discrete(L)``: the chunk to expand, numbered in the order of the context. Allowed are the
    chunks that hold text and are not expanded yet: ``action_masks()``, ``info["action_mask"]``, and
    ``action_mask`` in the observation. A forbidden action spends a step of the budget, expands
    nothing, and sets ``info["forbidden_action"]``; with ``strict=True`` it raises ``ValueError``.

    ## Observation Space
    ``Dict``, with ``d`` the size of a chunk embedding and ``f`` the number of chunk features
    (``refrag_rl.observation.CHUNK_FEATURES`` lists and explains them):

    | key                | shape      | type    | meaning                                         |
    |--------------------|------------|---------|-------------------------------------------------|
    | `chunk_embeddings` | `(L * d,)` | float32 | encoder or projector output; padding: zeros     |
    | `prompt_embedding` | `(d,)`     | float32 | embedding of the prompt, zeros without a prompt |
    | `features`         | `(L * f,)` | float32 | features of each chunk, zeros in padding chunks |
    | `chunk_mask`       | `(L,)`     | int8    | 1 for chunks that hold text                     |
    | `expanded`         | `(L,)`     | int8    | 1 for chunks expanded so far                    |
    | `action_mask`      | `(L,)`     | int8    | 1 for chunks that may be expanded               |
    | `budget_left`      | `(1,)`     | float32 | steps left, in chunks                           |

    ``flat=False`` gives ``chunk_embeddings (L, d)`` and ``features (L, f)``; ``as_chunks`` turns
    either layout into that one. Nothing in the observation depends on the output tokens.

    ## Starting State
    A window drawn uniformly and its budget, drawn uniformly where it is a range; nothing expanded.
    ``reset(options={"window": index, "budget": budget})`` pins either or both.

    ## Rewards
    ``reward="neg_log_perplexity"``: minus the mean negative log-likelihood of the output tokens, in
    nats per token, given the mixed context; ``"neg_perplexity"``: minus its exponential. It comes
    at the last step (``reward_timing="terminal"``) or as what each step gained (``"per_step"``);
    the gains sum to the terminal reward less the reward with nothing expanded.
    ``reward_baseline="compressed"`` subtracts that constant from the terminal reward too;
    ``reward_baseline="successor"``, or another heuristic's name, subtracts what it would earn,
    ``"best_heuristic"`` what the best of them earns on the window.

    ## Episode End
    Terminated after as many steps as the budget says; never truncated.

    ## Information
    Always ``action_mask`` ``(L,)`` int8, ``window`` (index), ``window_key``, ``budget``; after a
    step ``forbidden_action``; at the end ``log_perplexity`` (nats per token), ``perplexity``,
    ``compression_rate`` (effective: ``k / (1 - p + k p)``), ``expanded`` ``(L,)`` bool and
    ``forbidden_actions``, how many there were.

    ## Arguments
    - ``problem``: an ``ExpansionProblem``. Without one, ``refrag_rl.default_problem``
      composes it from the remaining keyword arguments (``corpus``, ``windows``, ``refrag``,
      ``features``, ``chunk_embeddings``, ...). Features that it does not compute are zeros.
    - ``budget``: chunks (``6``), a share of the chunks (``0.2``), an effective compression rate
      (``"4x"``), or a range of two of these (``[2, 8]``). Default: the problem's.
    - ``reward``, ``reward_baseline``: see Rewards. Default: the problem's.
    - ``reward_timing``: ``terminal`` (default) or ``per_step``.
    - ``strict``: whether a forbidden action raises. Default: no.
    - ``flat``: the layout of the observation, see there. Default: flat.
    - ``render_mode``: ``ansi``, the window as text with the expanded chunks marked, or none.

    ## Version History
    - v0: first version.
    """

    # Gymnasium's checker asks for a frame rate of whatever can be rendered.
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 1}  # type: ignore[misc]

    def __init__(
        self,
        problem: ExpansionProblem | None = None,
        *,
        budget: BudgetSpec | None = None,
        reward: RewardName | None = None,
        reward_baseline: BaselineName | None = None,
        reward_timing: RewardTiming = "terminal",
        strict: bool = False,
        flat: bool = True,
        render_mode: RenderMode | None = None,
        **composition: Any,
    ) -> None:
        self.problem = resolve_problem(
            problem,
            budget=budget,
            reward=reward,
            reward_baseline=reward_baseline,
            composition=composition,
        )
        self._episodes = EpisodeBatch(
            self.problem,
            1,
            reward_timing=reward_timing,
            strict=strict,
            flat=flat,
            render_mode=render_mode,
        )
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(self.problem.num_chunks)
        self.observation_space = observation_space(
            self.problem.num_chunks, self.problem.embedding_size, flat=flat
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the draws of this and the following episodes.
            options: ``window`` (index) and ``budget`` pin what would be drawn.

        Raises:
            UserError: An option is unknown, or there is no such window or budget.
        """
        super().reset(seed=seed)
        self._episodes.reset([0], [self.np_random], [options])
        return self._observation(), self._episodes.infos()[0]

    def step(
        self, action: np.int64 | int
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Expand a chunk.

        Args:
            action: Its number, 0 to ``L - 1``.

        Raises:
            ValueError: It is no chunk's number, or forbidden and ``strict`` is set.
            gymnasium.error.ResetNeeded: The episode is over, or none was started.
        """
        rewards, terminated = self._episodes.step(np.asarray([action]))
        info = self._episodes.infos()[0]
        return self._observation(), float(rewards[0]), bool(terminated[0]), False, info

    def _observation(self) -> dict[str, Any]:
        # Copies, because a row of the batch is a view of it.
        return {key: value[0].copy() for key, value in self._episodes.observation().items()}

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the chunks that may be expanded, (L,) bool; the name is sb3-contrib's."""
        return self._episodes.action_masks()[0]

    def render(self) -> str | None:
        """Return the window as text (``render_mode="ansi"``), else ``None``."""
        return self._episodes.render(0) if self.render_mode == "ansi" else None
