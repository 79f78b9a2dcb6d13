"""The run that offers trials, as its workers see it: run.json, and a heartbeat that a thread writes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import replace

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.language.study_spec import ResourcesSection
from tunectl.store.provenance import installed_versions
from tunectl.store.run_state import RunState, WorkerNeeds, remove_run_state, write_run_beat, write_run_state


class RunBeat:
    """Writes run.json, and then the heartbeat until it is closed; raises FolderError where run.json cannot be written.

    The thread writes the heartbeat alone: while the runner writes tables or plans trials, its workers must not end.
    """

    def __init__(self, study: StudyFolder, needs: WorkerNeeds, resources: ResourcesSection, *, reverse: bool) -> None:
        self._study = study
        versions = {name: version for name, version in installed_versions().items() if version}
        self._state = RunState(
            token=os.urandom(8).hex(),
            phase="at_work",
            needs=replace(needs, versions=versions),
            resources=resources,
            heartbeat_seconds=resources.heartbeat_seconds,
            reverse=reverse,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        write_run_state(study, self._state)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        count = 0
        while True:
            count += 1
            with contextlib.suppress(OSError, FolderError):  # the next one may be written
                write_run_beat(self._study, count)
            if self._over.wait(self._state.heartbeat_seconds):
                return

    def _stop(self) -> None:
        self._over.set()
        self._thread.join()

    def leave(self) -> None:
        """End; workers train what is offered without the run."""
        self._stop()
        write_run_state(self._study, replace(self._state, phase="left"))

    def end(self) -> None:
        """End; the run is over, and so workers end, too."""
        self._stop()
        remove_run_state(self._study)
