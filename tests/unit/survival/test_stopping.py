"""Signals: the step is finished first, a second Ctrl-C does not wait, an ignored one is ignored."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from refrag_rl.errors import StoppedError
from refrag_rl.stopping import received, stopping_after_the_step, stopping_at_once


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_is_finished(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    steps = []

    def train() -> None:
        with stopping_after_the_step():
            for step in range(3):
                if step == 1:
                    send(number)
                steps.append(step)
                if received():
                    raise StoppedError(number)

    with pytest.raises(StoppedError) as stopped:
        train()
    assert steps == [0, 1]
    assert stopped.value.signal == number
    assert "stopping after this step" in capfd.readouterr().err
    assert received() is None


def test_a_second_ctrl_c_does_not_wait() -> None:
    def train() -> None:
        with stopping_after_the_step():
            send(signal.SIGINT)
            # As a launcher of several processes sends it after a Ctrl-C.
            send(signal.SIGTERM)
            assert received() == signal.SIGINT
            send(signal.SIGINT)
            raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        train()
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_what_never_asked_is_stopped_at_its_end() -> None:
    with pytest.raises(StoppedError), stopping_after_the_step():
        send(signal.SIGTERM)


def test_sigterm_outside_of_steps_stops_at_once() -> None:
    def load() -> None:
        with stopping_at_once():
            send(signal.SIGTERM)
            raise AssertionError

    with pytest.raises(StoppedError) as stopped:
        load()
    assert stopped.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping_after_the_step():
        send(signal.SIGINT)
        assert received() is None


def test_one_of_several_processes_waits_for_the_step_however_often_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    def train() -> None:
        with stopping_after_the_step():
            # From the terminal, and again from the launcher.
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
                send(number)

    with pytest.raises(StoppedError) as stopped:
        train()
    assert stopped.value.signal == signal.SIGINT
    assert "Ctrl-C again" not in capfd.readouterr().err


def test_sigterm_changes_nothing_at_the_end_of_a_process_that_was_stopped() -> None:
    with stopping_at_once():
        with pytest.raises(StoppedError), stopping_after_the_step():
            send(signal.SIGINT)
        send(signal.SIGTERM)
    with pytest.raises(StoppedError), stopping_at_once():
        send(signal.SIGTERM)
