"""The process that runs a study for `tunectl.run`; what it has to say are lines of JSON on its stdout.

It is a process of its own, started anew: the one that calls may be a notebook with threads, CUDA and an event loop,
from which no process can be forked safely; stop signals can only be handled in a main thread; and the runner must not
load torch, which the caller may have loaded.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunectl.core.errors import EXIT_INTERRUPTED, StudyError
from tunectl.core.parent_death import stop_with_parent
from tunectl.core.user_errors import user_error
from tunectl.execution.stop_signals import STOP_SIGNALS
from tunectl.session.backend_start import started_backend

if TYPE_CHECKING:
    from tunectl.commands.run import RunResult
    from tunectl.core.records import TrialOutcome
    from tunectl.session.run_progress import RunProgress


class _Channel:
    """Passes on what the runner has to say, as the watcher of a run, too.

    Progress is one line for each trial that ends, those that failed among the messages.
    """

    def __init__(self) -> None:
        # What anything else prints goes to stderr, and not among the lines for the caller.
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._failures: dict[tuple[str, str], int] = {}

    def send(self, kind: str, content: Any) -> None:
        """Send a line; where the caller has died, it is lost."""
        with suppress(OSError):
            self._out.write(json.dumps({kind: content}).encode("ascii") + b"\n")
            self._out.flush()

    def message(self, text: str) -> None:
        """Send a message of the runner."""
        self.send("message", text)

    def finished(self, outcome: TrialOutcome, progress: RunProgress) -> None:
        """Send the line of a trial that has ended."""
        from tunectl.session.progress_text import trial_line

        failed = outcome.state == "failed"
        key = (outcome.reason, outcome.message)
        first = self._failures.setdefault(key, outcome.plan.trial) if failed else None
        self.send("message" if failed else "progress", trial_line(outcome, progress, first))

    def progress(self, progress: RunProgress) -> None:
        """Send nothing: a line for each trial that ends is enough."""


def _run(asked: Mapping[str, Any], channel: _Channel) -> RunResult:
    study = Path(asked["study"])
    with started_backend(study, asked["backend"]) as backend:
        # The rest is imported while the backend loads, as by the command.
        from tunectl.commands.run import run_study
        from tunectl.session.training_trials import RunOptions

        options = RunOptions(
            folder=Path(asked["folder"]) if asked["folder"] is not None else None,
            slots=asked["slots"],
            reverse=asked["order"] == "reversed",
            retry_failed=asked["retry_failed"],
            command=tuple(asked["command"]),
            waits=not asked["no_wait"],
            backend=asked["backend"],
        )
        return run_study(study, options, channel, backend)


def _ended(report: RunResult) -> dict[str, Any]:
    left = ""
    if report.exit_code == EXIT_INTERRUPTED:
        trials = f"{report.unfinished} of {len(report.outcomes) + report.to_come} trials"
        left = f"left {trials} to workers" if report.is_left else f"interrupted with {trials} left"
    return {"folder": str(report.folder.path), "exit_code": report.exit_code, "left": left}


def _refused(error: Exception) -> dict[str, Any] | None:
    """What the caller raises in this process's place; None for a bug of tunectl."""
    known = user_error(error)
    if known is None:
        return None
    problems = [asdict(problem) for problem in error.problems] if isinstance(error, StudyError) else []
    return {"kind": type(error).__name__, "text": known.text, "exit_code": known.exit_code, "problems": problems}


def main() -> None:
    """Run the study that stdin asks for."""
    channel = _Channel()
    # In its own session these come only from the caller and its end: what nohup, or `&` in a shell, ignores is heeded.
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    asked = json.loads(sys.stdin.readline())
    stop_with_parent(asked["caller"])
    try:
        report = _run(asked, channel)
        if report.stopped:
            channel.message(f"warning: {report.stopped}")
        channel.send("ended", _ended(report))
    except Exception as error:
        refused = _refused(error)
        if refused is None:
            raise
        channel.send("refused", refused)


if __name__ == "__main__":
    main()
