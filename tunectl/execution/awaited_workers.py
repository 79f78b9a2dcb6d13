"""Says that a run needs workers that others start, and says it again where none has come."""

from __future__ import annotations

from collections.abc import Callable

from tunectl.core.folders import StudyFolder
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.wording import counted

AGAIN_SECONDS = 30.0
"""How long no worker may have come before the command of one is said again."""


class AwaitedWorkers:
    """The workers of a run that starts none itself; says at once by which command they are started.

    `at_work` is how many trials workers have already, of a run that was left.
    """

    def __init__(
        self, study: StudyFolder, say: Callable[[str], None], clock: Callable[[], float], at_work: int = 0
    ) -> None:
        self._command = tunectl_command("worker", study.path.absolute())
        self._say, self._clock, self._begun = say, clock, clock()
        self._is_over = False
        if at_work:
            say(f"workers have {counted(at_work, 'trial')} already; `{self._command}` starts another worker")
        else:
            say(f"trials wait for workers: start some, on any host that sees this folder, by `{self._command}`")

    def look(self, *, offered: int, at_work: int) -> None:
        """Look at how many trials are offered, and how many workers have."""
        if self._is_over:
            return
        waited = self._clock() - self._begun
        if at_work:
            self._is_over = True
        elif offered and waited >= AGAIN_SECONDS:
            self._is_over = True
            self._say(
                f"no worker has taken a trial for {waited:.0f} s; run `{self._command}` on a host that sees this folder"
            )
