"""What the end of a trial's process means."""

from __future__ import annotations

import signal

from tunectl.execution.backends import Ended
from tunectl.execution.endings import explain, was_stopped
from tunectl.execution.protocol import EXIT_BROKEN, EXIT_CRASHED, EXIT_STOPPED


def test_a_crash_that_the_worker_reports_is_no_fault_of_the_code():
    assert "no fault of its code" in explain(Ended(1, EXIT_CRASHED, None, 1.0))


def test_a_job_that_is_stopped_as_a_whole_takes_the_loader_processes_first_which_is_no_crash():
    assert was_stopped(Ended(1, EXIT_CRASHED, None, 1.0))
    assert was_stopped(Ended(1, EXIT_STOPPED, None, 1.0))
    assert was_stopped(Ended(1, None, signal.SIGKILL, 1.0))
    assert not was_stopped(Ended(1, EXIT_BROKEN, None, 1.0))
    assert not was_stopped(Ended(1, None, signal.SIGSEGV, 1.0))
