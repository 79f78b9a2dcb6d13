"""The worker of `tunectl worker`: claims offered trials, trains them by the local backend, and gives them back.

It writes into the folders of the trials that it has claimed, and nowhere else. What the end of a trial means is decided
by the run that offers it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from signal import SIGKILL
from typing import TypeVar

from tunectl.core.errors import EXIT_BAD_STUDY, EXIT_FOLDER, FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.free_memory import killed_for_memory
from tunectl.core.path_errors import path_errors, path_message
from tunectl.core.wording import counted
from tunectl.execution.backends.backend import Backend, BackendEvent, BackendReady, ProcessEnded
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.folder_errors import unwritten_message
from tunectl.execution.held_trials import HeldTrial
from tunectl.execution.offer_queue import OfferQueue
from tunectl.execution.offering_run import OfferingRun
from tunectl.execution.protocol import EXIT_UNWRITTEN
from tunectl.execution.run_code import check_same_code
from tunectl.execution.server_patience import ServerPatience
from tunectl.execution.shared_places import OWN_PLACES, Places
from tunectl.execution.worker_counts import WorkerCounts, failure_at_once, kind_of_end
from tunectl.execution.worker_ends import WorkerEnd, end_by_signal, end_of_time, is_time_short
from tunectl.execution.worker_options import WorkerOptions, WorkerReport
from tunectl.execution.worker_slots import WorkerSlots, chosen_slots
from tunectl.execution.worker_stops import WorkerStops
from tunectl.store import claimed_trials
from tunectl.store.claimed_trials import ClaimedTrial, Ending
from tunectl.store.heartbeats import LATE_SECONDS, PERIODS_TO_DEATH
from tunectl.store.offered_trials import offered_folder
from tunectl.store.own_links import lead_home
from tunectl.store.run_state import RunState

_Answer = TypeVar("_Answer")
_POLL_SECONDS = 0.1
_KILL_WAIT_SECONDS = 10.0
"""How long to wait for a killed trial to end: a process that waits for a dead file system cannot be killed."""

_LATE_PERIODS = 3 * PERIODS_TO_DEATH
"""How many periods of the heartbeat a file server may show the files of a claimed trial late: 90 s by default."""

_UNWRITTEN = "its worker could not write its files"


class TrialWorker:
    """Trains offered trials until it ends. All in one thread, the main thread.

    `say` gets a line for each trial that is claimed, and for each that has ended.
    """

    def __init__(
        self,
        study: StudyFolder,
        options: WorkerOptions,
        stops: WorkerStops,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
        make_backend: Callable[[], Backend] = LocalBackend,
        count_killed: Callable[[], int | None] = killed_for_memory,
    ) -> None:
        study = StudyFolder(study.path.absolute())  # the current folder becomes another one
        self._study, self._options, self._stops, self._say, self._clock = study, options, stops, say, clock
        self._make_backend = make_backend
        self._run = OfferingRun(study, clock, options.idle_seconds, say)
        self._queue = OfferQueue(study, random or Random(), clock)
        self._begun = clock()
        self._held: dict[int, HeldTrial] = {}
        self._places: Places = OWN_PLACES
        self._end: WorkerEnd | None = None
        self._has_looked = False
        self._patience = ServerPatience(say, clock)
        self._counts = WorkerCounts()
        self._count_killed = count_killed
        self._killed: dict[int, int | None] = {}  # what it gave when each trial was launched

    def work(self) -> WorkerReport:
        """Work until there is nothing to do, the time is over, or a stop was requested.

        Raises WorkloadError or UsageError where trials cannot be trained on this host; then none was claimed.
        """
        while True:
            state = self._wait_for_offers()
            if state is not None:
                self._train(state)
            if self._end is not None:
                return self._counts.report(self._end.why, self._end.exit_code)

    def _wait_for_offers(self) -> RunState | None:
        """The state of the run when trials are offered; None where the worker ends before."""
        while True:
            self._look()
            if self._end is not None:
                return None
            if self._has_offers():
                return self._run.state
            select.select([], [], [], _POLL_SECONDS)

    def _has_offers(self) -> bool | None:
        state = self._run.state
        if state is None or not self._run.may_offer:
            return False
        return self._patiently("offers", lambda: self._queue.has_any(reverse=state.reverse), otherwise=None)

    def _patiently(self, what: str, ask: Callable[[], _Answer], otherwise: _Answer) -> _Answer:
        """What a file server cannot answer is asked again: for minutes, and as long as this worker has trials.

        Of a folder that it has not read before, a worker says at once that it cannot.
        """
        try:
            answer = ask()
        except FolderError as error:
            if not (self._has_looked or self._held):
                raise
            self._patience.failed(what, error, is_needed=bool(self._held))
            return otherwise
        self._has_looked = True
        self._patience.worked(what)
        return answer

    def _look(self) -> None:
        """Look at the run, the stop requests and the time, and decide whether the worker ends."""
        self._patiently("run", self._run.look, otherwise=None)
        if self._end is not None:
            return
        if self._stops():
            self._end = end_by_signal(self._stops, self._options, self._run.state, self._clock())
        elif self._is_time_short():
            self._end = end_of_time(self._options)
        elif not self._held and self._run.why_nothing_comes(has_offers=self._has_offers() is not False):
            self._end = self._nothing_comes()
        if self._end is not None and self._end.why_released and self._held:
            self._say(f"{self._end.why}: {counted(len(self._held), 'trial')} may save, and then go on elsewhere")

    def _nothing_comes(self) -> WorkerEnd | None:
        """The end where nothing is offered, and nothing will be; what is known of that may be a second old.

        A run that begins again says that it is at work before it takes back what an earlier one has offered. So it is
        read after the list of offers.
        """
        self._queue.list_again()
        has_offers = self._has_offers()
        self._patiently("run", lambda: self._run.look(again=True), otherwise=None)
        if has_offers is not False:  # None: it cannot be found out now
            return None
        why = self._run.why_nothing_comes(has_offers=False)
        return WorkerEnd(why) if why else None

    def _is_time_short(self) -> bool:
        return is_time_short(self._options, self._run.state, self._begun, self._clock())

    def _train(self, state: RunState) -> None:
        """Train offered trials until the worker ends, or the run needs another workload or other slots."""
        folder = Path(state.needs.current_folder or ".")
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: is not there on this host; the run was started in this folder, and so are trials"
            )
        check_same_code(state.needs, self._say)
        backend = self._make_backend()
        # The fork server starts in the current folder, also one that replaces another one.
        with contextlib.chdir(folder):
            try:
                slots = self._slots(backend, state)
                backend.start(own_code=state.needs.own_code)
                backend.load(state.needs.workload, state.needs.arguments, state.needs.code)
                ready = backend.wait_ready(lambda: max(self._stops(), int(self._is_time_short())))
                if ready is not None:
                    self._say_ready(ready, slots)
                    self._go_on(backend, slots, state)
            finally:
                try:
                    backend.close()
                    self._places.close()
                finally:
                    self._leave()

    def _slots(self, backend: Backend, state: RunState) -> WorkerSlots:
        slots = chosen_slots(backend, state.resources, self._options, self._say, self._held)
        self._places = slots.places
        return slots

    def _say_ready(self, ready: BackendReady, slots: WorkerSlots) -> None:
        for line in ready.messages:
            self._say(line)
        devices = ", ".join(dict.fromkeys(slot.device.label for slot in slots.slots))
        self._say(f"{socket.gethostname()}: {counted(slots.most, 'trial')} at a time on {devices}")

    def _go_on(self, backend: Backend, slots: WorkerSlots, state: RunState) -> None:
        while True:
            self._look()
            is_reloading = self._run.differs(state)
            if self._end is None and not is_reloading:
                self._fill(backend, slots, state)
            self._watch(backend, slots, state.heartbeat_seconds, may_begin=self._end is None and not is_reloading)
            if (self._end is not None or is_reloading) and not self._held:
                return
            for event in backend.poll(_POLL_SECONDS):
                self._handle(event, slots)

    def _fill(self, backend: Backend, slots: WorkerSlots, state: RunState) -> None:
        """Launch as many trials as may be launched now. While a claimed one waits, no other one is claimed."""
        while self._end is None and self._launch_waiting(backend, slots, state.heartbeat_seconds):
            if not slots.has_free() or not self._has_offers():
                break
            slot = slots.take_free()
            if slot is None:
                break
            claimed = self._patiently("claim", self._claim, otherwise=None)
            if claimed is None:
                slots.places.give_back(slot)
                break
            held = self._held[claimed.trial] = HeldTrial(claimed, slot, self._clock())
            # A run that needs something else says so before it offers: this one may be its first offer.
            self._patiently("run", lambda: self._run.look(again=True), otherwise=None)
            if self._run.differs(state) or not self._run.may_offer:
                self._unclaim(held, slots)
                return
        running = sum(held.launched_at is not None for held in self._held.values())
        waits = running < len(self._held) or (slots.has_free() and bool(self._has_offers()))
        slots.places.end_round(jobs_left=waits, running=running)

    def _claim(self) -> ClaimedTrial | None:
        while (trial := self._queue.next(without=self._held)) is not None:
            with path_errors(offered_folder(self._study, trial).path, "replaced"):
                claimed = claimed_trials.claim_trial(self._study, trial)
            if claimed is not None:
                self._queue.claimed()
                return claimed
            self._queue.came_late()
        return None

    def _launch_waiting(self, backend: Backend, slots: WorkerSlots, period_seconds: float) -> bool:
        """Launch what was claimed; False where a claimed trial still waits."""
        for held in [held for held in self._held.values() if held.launched_at is None and not held.ending_to_give]:
            held.beat(self._clock(), period_seconds)
            if held.is_lost:
                self._drop(held, slots)
            elif not held.can_be_read():
                if self._clock() - held.claimed_at > max(LATE_SECONDS, _LATE_PERIODS * period_seconds):
                    files = held.claimed.folder
                    message = (
                        f"its {files.request.name} and {files.offer.name} cannot be read, or differ in the attempt"
                    )
                    self._give_back(held, held.given_back(message, lost=True), slots)
                else:
                    self._note(held, slots, waits=True)
            elif held.waits_for_files(self._clock(), self._say) or (held.is_alone and not slots.take_alone(held)):
                self._note(held, slots, waits=True)
            elif self._note(held, slots, waits=False):
                self._launch(held, backend, slots)
        return all(held.launched_at is not None for held in self._held.values())

    def _note(self, held: HeldTrial, slots: WorkerSlots, *, waits: bool) -> bool:
        """Write who has claimed the trial; False where that cannot be done, and it may not begin."""
        try:
            held.note(self._options.name, waits=waits)
        except FileNotFoundError:
            if claimed_trials.is_gone(held.claimed):
                self._drop(held, slots)
            return False
        except OSError as error:
            # Most likely the disk is full. The trial has not begun: others may have it.
            self._end = WorkerEnd(path_message(held.claimed.folder.claimant, "written", error), EXIT_FOLDER, _UNWRITTEN)
            return False
        return True

    def _launch(self, held: HeldTrial, backend: Backend, slots: WorkerSlots) -> None:
        if held.offer is None:
            raise RuntimeError("expected a trial whose offer was read")
        company = [other for other in slots.beside(held.slot) if other is not held]
        held.had_company = bool(company)
        for other in company:
            other.had_company = True
        lead_home(held.claimed.folder)  # as its worker died with links to where it was then
        held.launched_at = self._clock()
        self._killed[held.trial] = self._count_killed()
        backend.launch(held.trial, held.claimed.folder.path, held.slot, held.offer.attempt)
        self._say(f"trial {held.trial}: claimed, attempt {held.offer.attempt}, on {held.slot.device.label}")

    def _watch(self, backend: Backend, slots: WorkerSlots, period_seconds: float, *, may_begin: bool) -> None:
        """Write heartbeats, stop or kill what is to end, and give back what waits where nothing `may_begin`."""
        for held in list(self._held.values()):
            now = self._clock()
            held.beat(now, period_seconds)
            if held.ending_to_give is not None:
                self._give_back(held, held.ending_to_give, slots)
                continue
            if held.launched_at is None:
                if not may_begin or self._end is not None:
                    self._unclaim(held, slots)
                elif held.is_unwanted(now):
                    self._give_back(held, held.given_back(), slots)
                continue
            held.look(now, backend)
            if self._end is not None and self._end.why_released:
                held.stop(now, backend, "released")
                if self._stops() > 1:
                    held.kill(now, backend)
            if self._end is not None and held.kill_sent is not None and now - held.kill_sent > _KILL_WAIT_SECONDS:
                self._say(f"trial {held.trial}: its process cannot be killed; the run takes the trial back")
                self._forget(held, slots)

    def _handle(self, event: BackendEvent, slots: WorkerSlots) -> None:
        held = self._held.get(event.trial) if isinstance(event, ProcessEnded) else None
        if held is None or not isinstance(event, ProcessEnded):
            return
        self._look()  # it may have ended because this worker was asked to, a moment ago
        event = self._explained(event)
        if event.verdict == EXIT_UNWRITTEN and self._end is None:
            self._end = WorkerEnd(unwritten_message(held.claimed.folder, event.message), EXIT_FOLDER, _UNWRITTEN)
        why = "" if self._end is None else self._end.why_released
        has_company = not held.is_alone and slots.places.has_company(held.slot)
        ending = held.ending(event, why, has_company=has_company)
        self._give_back(held, ending if self._end is None else self._end.of_trial(ending), slots)

    def _explained(self, event: ProcessEnded) -> ProcessEnded:
        """The end of a process, with the likely reason where the system has killed some here for want of memory."""
        before, now = self._killed.pop(event.trial, None), self._count_killed()
        if event.signal != SIGKILL or event.message or before is None or now is None or now <= before:
            return event
        killed = f"since it began, the system has killed {now - before} of its job's processes for that"
        return replace(
            event, message=f"was killed by SIGKILL, most likely for want of memory (OUT_OF_MEMORY): {killed}"
        )

    def _give_back(self, held: HeldTrial, ending: Ending, slots: WorkerSlots) -> None:
        how, kind = held.how_it_ended(ending), kind_of_end(held, ending)
        failure = failure_at_once(held, ending, how)
        held.ending_to_give = ending
        try:
            with path_errors(held.claimed.folder.path, "replaced"):
                is_ours = not held.is_lost and claimed_trials.give_back(held.claimed, ending)
        except FolderError as error:
            self._given_later(held, error, slots)
            return
        if not is_ours:
            self._drop(held, slots)
            return
        self._say(f"trial {held.trial}: {how}")
        self._counts.add(kind, held.trial, failure)
        if self._counts.why_none_works and self._end is None:
            self._end = WorkerEnd(self._counts.why_none_works, EXIT_BAD_STUDY)
        self._forget(held, slots)

    def _given_later(self, held: HeldTrial, error: FolderError, slots: WorkerSlots) -> None:
        """Give a trial back at one of the next looks; its heartbeat goes on."""
        try:
            self._patience.failed(held.claimed.name, error)
        except FolderError as limit:
            self._say(str(limit))
            self._end = self._end or WorkerEnd("a trial cannot be given back", EXIT_FOLDER, "its worker ended")
            self._forget(held, slots)

    def _unclaim(self, held: HeldTrial, slots: WorkerSlots) -> None:
        with contextlib.suppress(OSError):
            claimed_trials.unclaim(held.claimed)
        self._forget(held, slots)

    def _drop(self, held: HeldTrial, slots: WorkerSlots) -> None:
        why = "since this worker was not seen to be alive; it has ended here"
        if held.ending_to_give is not None and held.ending_to_give.code == 0:
            why = "with what it had written, before this worker could give it back"
        self._say(f"trial {held.trial}: was taken over, {why}")
        self._counts.add("lost", held.trial, None)
        self._forget(held, slots)

    def _forget(self, held: HeldTrial, slots: WorkerSlots) -> None:
        del self._held[held.trial]
        slots.give_back(held)

    def _leave(self) -> None:
        """Give back what the worker has, now that its processes have ended: it ends by an error."""
        for held in self._held.values():
            with contextlib.suppress(OSError):
                if held.launched_at is None:
                    claimed_trials.unclaim(held.claimed)
                elif held.offer is not None and not held.is_lost:
                    ended = ProcessEnded(held.trial, None, None, self._clock() - held.launched_at, lost=True)
                    held.stop_cause = "released"
                    ending = held.ending(ended, "its worker ended by an error", has_company=False)
                    claimed_trials.give_back(held.claimed, held.ending_to_give or ending)
        self._held.clear()
