"""The optimizer that leaves averages of its iterates in the parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from refrag_rl.agents.averaging import AveragedAdam
from refrag_rl.agents.regression import Regression
from refrag_rl.errors import UserError

LR = 0.1


def weight() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, -2.0]))


def loss_of(parameter: Tensor) -> Tensor:
    return (parameter - 3).square().sum()


def step(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> None:
    optimizer.zero_grad()
    loss_of(parameter).backward()
    optimizer.step()


def iterates(count: int) -> list[Tensor]:
    """Return the weights after each step of Adam as torch has it."""
    parameter = weight()
    optimizer = torch.optim.Adam([parameter], lr=LR)
    found = []
    for _ in range(count):
        step(optimizer, parameter)
        found.append(parameter.detach().clone())
    return found


def test_parameters_hold_the_average_as_it_is_defined_and_steps_go_on_from_the_iterate():
    parameter = weight()
    optimizer = AveragedAdam([parameter], lr=LR, decay=0.5)
    expected = parameter.detach().clone()
    for number, iterate in enumerate(iterates(20), start=1):
        with optimizer.at_iterate():
            step(optimizer, parameter)
            torch.testing.assert_close(parameter.detach(), iterate)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * iterate
        torch.testing.assert_close(parameter.detach(), expected)


def test_several_steps_in_one_go_are_those_one_by_one():
    parameter = weight()
    optimizer = AveragedAdam([parameter], lr=LR, decay=0.9)
    with optimizer.at_iterate():
        for _ in range(5):
            step(optimizer, parameter)
    other = weight()
    optimizer = AveragedAdam([other], lr=LR, decay=0.9)
    for _ in range(5):
        with optimizer.at_iterate():
            step(optimizer, other)
    torch.testing.assert_close(parameter, other, rtol=0, atol=0)


def test_without_a_decay_it_is_adam():
    parameter = weight()
    optimizer = AveragedAdam([parameter], lr=LR, decay=0.0)
    for iterate in iterates(5):
        with optimizer.at_iterate():
            step(optimizer, parameter)
        torch.testing.assert_close(parameter.detach(), iterate, rtol=0, atol=0)


def test_parameters_without_a_gradient_stay_and_may_have_one_later():
    parameter, idle = weight(), weight()
    optimizer = AveragedAdam([parameter, idle], lr=LR, decay=0.9)
    with optimizer.at_iterate():
        step(optimizer, parameter)
    torch.testing.assert_close(idle, weight(), rtol=0, atol=0)
    with optimizer.at_iterate():
        step(optimizer, idle)
    assert not torch.equal(idle, weight())


def test_the_averages_are_back_after_an_error():
    parameter = weight()
    optimizer = AveragedAdam([parameter], lr=LR, decay=0.9)
    with optimizer.at_iterate():
        step(optimizer, parameter)
    before = parameter.detach().clone()
    with pytest.raises(ValueError, match="stop"), optimizer.at_iterate():
        raise ValueError("stop")
    torch.testing.assert_close(parameter.detach(), before, rtol=0, atol=0)


@pytest.mark.parametrize("decay", [1.0, -0.1, "half"])
def test_decays_out_of_range_are_refused(decay):
    with pytest.raises(UserError, match="averaging"):
        Regression(averaging=decay)
