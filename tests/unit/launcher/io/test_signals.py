"""Signals while a VM is up: nothing that was sent is ever lost."""

from __future__ import annotations

import select
import signal

import pytest

from launcher.io.signals import SignalTrap


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_the_start_and_is_put_back_to_what_it_was_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with SignalTrap(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_signal_whose_exception_python_dropped_still_reaches_the_supervisor() -> None:
    with SignalTrap() as trap:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        trap.collect()
        signal.raise_signal(signal.SIGTERM)
        assert select.select([trap.wakeup], [], [], 0)[0]
        assert trap.take() == [signal.SIGINT, signal.SIGTERM]
        assert not select.select([trap.wakeup], [], [], 0)[0]
        assert trap.take() == []
