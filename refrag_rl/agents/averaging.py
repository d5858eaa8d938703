"""Adam whose user acts with the average of its iterates.

From one update to the next a policy jumps about by as much as its learning rate is large; the
average of the weights that it passed through does not (Polyak and Juditsky, Acceleration of
Stochastic Approximation by Averaging, 1992). Here it is exponential: after step ``n`` the average
moves by ``1 - d`` of the way to the weights, ``d = min(decay, (1 + n) / (10 + n))``, so that it
soon forgets where it began.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from refrag_rl.agents.optimization import weights_of

_ITERATE = "iterate"
"""Of a parameter's state: the weights that are averaged. They are kept with the training as is all
of an optimizer's state."""


class AveragedAdam(torch.optim.Adam):
    """Adam that leaves averages in its parameters; it steps inside ``at_iterate`` only.

    Args:
        parameters: Trained in place.
        lr: Learning rate.
        decay: Of the average, at least 0 and below 1; 0: the average is the last iterate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, decay: float) -> None:
        super().__init__(parameters, lr=lr)
        self._decay = decay

    @contextmanager
    def at_iterate(self) -> Iterator[None]:
        """Put the weights that are averaged into the parameters, then the averages again."""
        weights = weights_of(self)
        averages = [weight.detach().clone() for weight in weights]
        for weight in weights:
            weight.data.copy_(self.state[weight].get(_ITERATE, weight))

        # Adam begins where a state is empty: parameters without a gradient keep none.
        def stepped() -> Iterator[tuple[Tensor, Tensor]]:
            return (pair for pair in zip(weights, averages, strict=True) if self.state[pair[0]])

        def average(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            for weight, mean in stepped():
                steps = float(self.state[weight]["step"])
                mean.lerp_(weight.detach(), 1 - min(self._decay, (1 + steps) / (10 + steps)))

        hook = self.register_step_post_hook(average)
        try:
            yield
        finally:
            hook.remove()
            for weight, mean in stepped():
                self.state[weight][_ITERATE] = weight.detach().clone()
                weight.data.copy_(mean)
