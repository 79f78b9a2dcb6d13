"""SIGINT, SIGTERM and SIGHUP of the runner are counted while trials run."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tunectl.execution.stop_signals import STOP_SIGNALS, counted_stop_signals


def test_both_signals_count_and_nothing_is_raised():
    with counted_stop_signals() as received:
        assert received() == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert received() == 1
        os.kill(os.getpid(), signal.SIGTERM)
        assert received() == 2


def test_a_terminal_that_closes_is_one_request_however_often_it_is_said():
    # The kernel and the shell both send SIGHUP.
    with counted_stop_signals() as received:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        assert received() == 1
        os.kill(os.getpid(), signal.SIGTERM)
        assert received() == 1
        os.kill(os.getpid(), signal.SIGTERM)
        assert received() == 2


def test_the_old_handlers_come_back_also_after_an_exception():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(KeyError), counted_stop_signals():
        raise KeyError
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_stays_ignored(number):
    # A background job of a shell without job control, and nohup.
    old = signal.signal(number, signal.SIG_IGN)
    try:
        with counted_stop_signals() as received:
            os.kill(os.getpid(), number)
            assert received() == 0
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, old)


def test_it_works_in_the_main_thread_alone():
    raised = []

    def use():
        try:
            with counted_stop_signals():
                pass
        except ValueError as error:
            raised.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_tunectl_stop_is_one_request_with_a_signal_before_it_and_a_signal_after_it_is_another():
    with counted_stop_signals() as received:
        os.kill(os.getpid(), signal.SIGINT)
        received.ask(1)
        assert received() == 1
        os.kill(os.getpid(), signal.SIGINT)
        assert received() == 2
    with counted_stop_signals() as received:
        received.ask(1)
        received.ask(1)
        assert received() == 1
        os.kill(os.getpid(), signal.SIGINT)
        assert received() == 2
    with counted_stop_signals() as received:
        received.ask(2)
        assert received() == 2
