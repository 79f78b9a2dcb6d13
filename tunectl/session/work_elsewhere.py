"""The trials of a run that workers train: what is begun in the study folder, and how the command may leave them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from tunectl.core.errors import StoppedError, UsageError
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.user_code import FoundCode
from tunectl.execution.backends.backend import Backend
from tunectl.execution.backends.offering import OfferingBackend
from tunectl.execution.engines import ENGINES, can_be_left, check_engine, reach_engine
from tunectl.execution.run_control import RunControl
from tunectl.execution.stop_signals import StopRequests
from tunectl.language.study_spec import ResourcesSection
from tunectl.session.backend_start import NOTHING_TO_DETACH
from tunectl.session.left_offers import take_back_from_dead
from tunectl.session.open_study import OpenStudy
from tunectl.session.outcome_index import has_ended
from tunectl.session.study_code import own_files
from tunectl.store.provenance import file_sha256
from tunectl.store.study_folder import check_place

Ask = Callable[[str], bool]
"""Asks the user a question on the terminal, and gives whether the answer is yes."""


_ENDS_WITH_COMMAND = (
    "--detach: expected workers that go on without this command; a local Ray ends with it (start one by "
    "`ray start --head`, or give its address in resources.ray.address)"
)


def check_backend(
    backend: Backend, resources: ResourcesSection, *, detach: bool = False, place: Path | None = None
) -> None:
    """Raise UsageError where trials cannot be trained by this backend, or none would train what `detach` leaves.

    The library of an engine is missing, or its program, or its workers end with the command. Where no study folder is
    at `place` yet, the engine must answer, too, so that none is made in vain: else TunectlError is raised.
    """
    is_offering = isinstance(backend, OfferingBackend)
    if detach and not is_offering:
        raise UsageError(NOTHING_TO_DETACH)
    if is_offering and backend.name in ENGINES:
        check_engine(backend.name, resources)
        if detach and not can_be_left(backend.name, resources):
            raise UsageError(_ENDS_WITH_COMMAND)
        if place is not None and not check_place(place):
            reach_engine(backend.name, resources)


def begin_work(
    study: OpenStudy,
    trials: Collection[int],
    backend: Backend,
    say: Callable[[str], None],
    *,
    files: Mapping[str, str] | None = None,
    reverse: bool = False,
    stop_requested: Callable[[], int] = lambda: 0,
) -> Mapping[int, int] | None:
    """Begin to run these trials in the folder; gives the attempts of those that workers have already.

    None where a stop was requested before it was known which these are: then nothing may be launched.

    Trials that are to run on this machine are taken back from workers that have died. `files` are those of the user's
    code with their hashes (see `code_files`). Raises FolderError where workers are at work on trials that are to run
    here, or the folder cannot be written.
    """
    if not isinstance(backend, OfferingBackend):
        period = study.spec.resources.heartbeat_seconds
        try:
            take_back_from_dead(study.folder, say, period, stop_requested=stop_requested)
        except StoppedError as error:
            say(str(error))
            return None
        return {}
    ended = {item.plan.trial for item in study.outcomes if has_ended(item) or item.state == "failed"}
    study.at_end.callback(backend.finish)
    files = files or {}
    wanted = set(trials) - ended
    at_work = backend.begin(
        *(study.folder, wanted, say),
        fingerprint=_fingerprint(files),
        files=files,
        program=study.spec.program,
        reverse=reverse,
        stop_requested=stop_requested,
    )
    if study.control.leaves and not backend.can_be_left:
        raise UsageError(_ENDS_WITH_COMMAND)
    return at_work


def leave_work(study: OpenStudy, backend: Backend) -> None:
    """Let workers go on with what they have, where the run leaves them."""
    if study.control.leaves and isinstance(backend, OfferingBackend):
        backend.leave(asks_for_workers=True)


def code_files(source: str | None, code: Collection[FoundCode]) -> dict[str, str]:
    """The file of the workload, and those of other code that the study names, with their SHA-256 in hexadecimal."""
    files = [*([Path(source)] if source else []), *own_files(code)]
    return {str(file): file_sha256(file) or "" for file in files}


def _fingerprint(files: Mapping[str, str]) -> str:
    hashes = [f"{file}:{sha256}" for file, sha256 in files.items()]
    return hashlib.sha256("\n".join(hashes).encode("utf-8", "surrogateescape")).hexdigest()


class StopOrLeave:
    """What a stop request means for a run whose trials workers train: to leave them at work, or to stop them.

    Calling it gives the number of requests to stop the trials. `tunectl stop` stops them. A signal to end the command
    (SIGTERM, the end of the terminal) leaves them at work, and so does Ctrl-C where there is no terminal; on a terminal
    the first Ctrl-C only says so, and the second one asks. Trials that cannot go on without this command are stopped by
    each request.
    """

    def __init__(
        self,
        study: OpenStudy,
        backend: Backend,
        stops: StopRequests,
        ask: Ask | None,
        say: Callable[[str], None],
    ) -> None:
        self._stops, self._ask, self._say = stops, ask, say
        self._control: RunControl = study.control
        self._can_leave = isinstance(backend, OfferingBackend) and backend.can_be_left
        self._jobs = "cancel the jobs" if backend.name in ENGINES else "end the trials"
        self._stop = tunectl_command("stop", study.folder.path)
        self._said = False
        self._interrupts_before = 0
        self._is_stopped = False

    def __call__(self) -> int:
        """The number of requests to stop the trials."""
        if not self._can_leave:
            return self._stops()
        if self._is_stopped:
            return 1 + max(0, self._stops.interrupts - self._interrupts_before)
        if self._stops.asked:
            return self._stops.asked
        if self._control.leaves or not self._stops():
            return 0
        if self._ask is None or self._stops.must_end:
            self._leave()
        elif self._stops.interrupts == 1 and not self._said:
            self._said = True
            self._stops.pass_over_interrupt()  # the run goes on, also with trials that it plans later
            self._say("the workers go on without this command; press Ctrl-C again to leave it, or to end them")
        elif self._stops.interrupts > 1:
            self._interrupts_before = self._stops.interrupts
            question = f"{self._jobs}? The trials save first; otherwise they go on without this command"
            self._is_stopped = self._ask(question)
            if not self._is_stopped:
                self._leave()
        return int(self._is_stopped)

    def _leave(self) -> None:
        self._control.leaves = True
        self._say(f"leaving the trials to their workers; `{self._stop}` ends them")
