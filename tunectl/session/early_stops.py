"""`tunectl stop` of a run that has not begun to train: it is read while the run waits for what earlier workers left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.execution.runner_lock import own_mark
from tunectl.store import request_files
from tunectl.store.request_files import RequestAnswer


class EarlyStops:
    """The number of requests to stop: by signals, as `stops` gives it, and by `tunectl stop`. To be called again and
    again while nothing else is done. Other requests wait for the desk that the run opens when its trials begin.
    """

    def __init__(self, folder: StudyFolder, stops: Callable[[], int], say: Callable[[str], None]) -> None:
        self._folder, self._stops, self._say = folder, stops, say
        self._mark, self._asked = own_mark(), 0

    def __call__(self) -> int:
        """The number of requests; those of `tunectl stop` are answered."""
        for name in request_files.waiting(self._folder):
            request = request_files.read(self._folder, name)
            if request is not None and (request.action, request.to) == ("stop", self._mark):
                self._obey(name, request.number)
        return max(self._stops(), self._asked)

    def _obey(self, name: str, number: int) -> None:
        try:
            request_files.take(self._folder, name)
        except OSError:
            return  # it was withdrawn at this moment, or cannot be taken now
        self._asked = max(self._asked, number)
        self._say("asked to stop by `tunectl stop`")
        with contextlib.suppress(OSError, FolderError):  # the command that asked sees that the run ends
            request_files.answer(self._folder, name, RequestAnswer(True, "it stops"))
