"""The backend of trials beyond this machine: it offers them in the study folder, and workers take them.

It starts no process for a trial. `external` is this backend alone; for `slurm` and `ray` an engine starts the workers
(execution/worker_engine.py). The workload is loaded and probed on this machine, by the local backend.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunectl.core.errors import FolderError, StoppedError, TunectlError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.own_code_request import Program, Request
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import Scalar, WorkloadReference
from tunectl.execution.awaited_workers import AwaitedWorkers
from tunectl.execution.backends.backend import BackendEvent, BackendReady, ProcessEnded
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.backends.local_check import LocalCheck
from tunectl.execution.claim_watch import ClaimWatch
from tunectl.execution.devices import CPU
from tunectl.execution.engines import ENGINES, make_engine, time_limit
from tunectl.execution.picked_up_trials import attempts_at_work, earlier_period, wait_for_late, withdrawn_trials
from tunectl.execution.run_beat import RunBeat
from tunectl.execution.run_code import with_program
from tunectl.execution.server_patience import ServerPatience
from tunectl.execution.shared_places import OWN_PLACES, Places
from tunectl.execution.slots import Slot
from tunectl.execution.taking_back import finish_patiently, hearing
from tunectl.execution.worker_engine import WorkerOrder
from tunectl.execution.worker_supply import WorkerSupply
from tunectl.language.study_spec import ResourcesSection
from tunectl.store.claimed_trials import StopRequest, claimed_trials
from tunectl.store.heartbeats import LATE_SECONDS, PERIODS_TO_DEATH
from tunectl.store.lost_claims import finish_taking_back, has_own_result, may_show_late, shut_out, take_back, unfinished
from tunectl.store.offered_trials import (
    Offer,
    finish_offers,
    home_folder,
    make_places,
    offer_trial,
    offered_trials,
    remove_marks,
    trials_with_marks,
    withdraw_trial,
)
from tunectl.store.run_state import WorkerNeeds

if TYPE_CHECKING:
    from tunectl.execution.worker_engine import WorkerEngine

_LOOK_SECONDS = 0.05


class OfferingBackend:
    """Offers trials to workers. `local` loads and probes the workload on this machine."""

    def __init__(
        self, name: str, local: LocalBackend | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._here = LocalCheck(local or LocalBackend())
        self._clock = clock
        self._resources = ResourcesSection(backend=name)
        self._slots: int | None = None
        self._waits = True
        self._events: list[BackendEvent] = []
        self._study: StudyFolder | None = None
        self._watch: ClaimWatch | None = None
        self._beat: RunBeat | None = None
        self._supply: WorkerSupply | None = None
        self._awaited: AwaitedWorkers | None = None
        self._ended: set[int] = set()
        self._at_work: set[int] = set()
        self._shut_out_at: float | None = None
        self._unoffered: dict[int, Offer] = {}
        self._say: Callable[[str], None] = lambda _line: None
        self._patience = ServerPatience(self._tell, clock)

    @property
    def name(self) -> str:
        """The name by which a study chooses it."""
        return self._name

    def slots(self, resources: ResourcesSection, count: int | None = None) -> tuple[Slot, ...]:
        """Queues, as many as trials are expected to run at the same time: `count`, or one."""
        if count is not None and count < 1:
            raise UsageError(f"--slots: expected at least 1, got {count}")
        self._resources, self._slots = replace(resources, backend=self._name), count
        return tuple(Slot(index, CPU, {}, "cpu", is_queue=True) for index in range(count or 1))

    def places(
        self,
        resources: ResourcesSection,  # noqa: ARG002
        slots: Sequence[Slot],  # noqa: ARG002
        say: Callable[[str], None],
        *,
        waits: bool = True,
    ) -> Places:
        """OWN_PLACES: each worker shares its own devices with others, as `waits` says where an engine starts it."""
        self._say, self._waits = say, waits
        return OWN_PLACES

    # --- the workload, on this machine

    def start(self, *, own_code: bool = False) -> None:
        """Start a fork server on this machine, which tries the workload; see Backend."""
        self._here.start(own_code=own_code)

    def load(
        self, workload: WorkloadReference, arguments: Mapping[str, Scalar], code: Sequence[WorkloadReference] = ()
    ) -> None:
        """Let the fork server load the workload, and workers once trials are offered."""
        self._here.load(workload, arguments, code)

    def wait_ready(self, stop_requested: Callable[[], int] = lambda: 0) -> BackendReady | None:
        """Wait until the workload is loaded here; where only a GPU is missing for that, a message says so."""
        ready = self._here.wait_ready(self._resources, stop_requested)
        if ready is not None and ready not in self._events and self._watch is None:
            self._events.append(ready)
        return ready

    def probe(self, request: Request, slot: Slot, stop_requested: Callable[[], int] = lambda: 0) -> ProbedTrial | None:  # noqa: ARG002
        """Try the workload on a device of this machine; where only a GPU is missing for that, a note says so."""
        return self._here.probe(request, self._resources, stop_requested)

    def hold(self, fd: int) -> None:
        """Nothing: workers run on other machines. The fork server on this one writes no trial's folder."""

    # --- the study folder

    def begin(
        self,
        study: StudyFolder,
        wanted: Collection[int],
        say: Callable[[str], None],
        *,
        fingerprint: str = "",
        files: Mapping[str, str] | None = None,
        program: Program | None = None,
        reverse: bool = False,
        stop_requested: Callable[[], int] = lambda: 0,
    ) -> Mapping[int, int] | None:
        """Begin to offer trials in a study folder that this process has locked.

        Gives the attempts of those of the `wanted` trials that workers have, or have just given back: launching them
        only watches them. What an earlier run still offers is taken back. `fingerprint` is another text where the code
        to be loaded has changed, whose `files` are given with their hashes; `program` is that of a command. `reverse`
        lets the last trials be claimed first. A further call takes further trials. None where a stop was requested
        before it was known what workers have: nothing may be launched then.

        Raises FolderError where the folder cannot be written, UsageError where the engine's library is missing.
        """
        self._say = say
        self._here.close()  # the trials run elsewhere
        self._study = study
        if self._watch is None or self._beat is None:
            self._supply = self._make_supply(study)  # first: where it cannot be asked here, what was left goes on
            earlier = earlier_period(study)
            period = max(self._resources.heartbeat_seconds, earlier or 0.0)
            finish_offers(study)
            try:
                finish_patiently(study, say, self._clock, hearing(time.sleep, stop_requested))
            except StoppedError as error:
                say(str(error))
                self._close_engine()
                return None
            make_places(study)
            # First of all: workers that find no offers end where they see a run that is over, or was left.
            needs = self._here.needs or WorkerNeeds(WorkloadReference("", ""))
            needs = with_program(
                replace(needs, fingerprint=fingerprint, files={**needs.files, **(files or {})}), program
            )
            self._beat = RunBeat(study, needs, self._resources, reverse=reverse)
            unclear = set(wanted) - withdrawn_trials(study)
            if self._supply is None and self._awaited is None:
                self._awaited = AwaitedWorkers(study, self._tell, self._clock, len(claimed_trials(study)))
            self._watch = ClaimWatch(study, period, self._supply, self._tell, self._clock)
            if earlier is not None:
                seconds = max(LATE_SECONDS, PERIODS_TO_DEATH * earlier)
                if not wait_for_late(study, unclear, seconds, say, stop_requested, self._clock):
                    self.leave()  # not ended: the next run waits again
                    return None
            self._shut_out_ended(study, wanted)
        found = attempts_at_work(study, wanted)
        self._at_work |= found.keys()
        return found

    def _shut_out_ended(self, study: StudyFolder, wanted: Collection[int]) -> None:
        """Shut workers out of trials that have ended and are not watched: `finish` takes them back. Such a worker may
        be dead, or else it would give its trial back at any moment, also when it does not show here any more.
        """
        for claim in claimed_trials(study):
            if claim.trial not in wanted and has_own_result(claim.folder) and shut_out(claim):
                self._shut_out_at = self._clock()

    def _tell(self, line: str) -> None:
        self._say(line)

    def _make_supply(self, study: StudyFolder) -> WorkerSupply | None:
        if self._name not in ENGINES:
            return None
        path = study.path.absolute()
        order = WorkerOrder(
            *(path, self._resources, self._tell, StudyFolder(path).workers), slots=self._slots, waits=self._waits
        )
        engine: WorkerEngine = make_engine(self._name, order)
        return WorkerSupply(engine, self._slots, self._tell, self._clock, time_limit(self._name, self._resources))

    @property
    def can_be_left(self) -> bool:
        """Whether workers go on when this process has ended. Known once `begin` was called."""
        return self._supply is None or self._supply.engine.can_be_left

    def leave(self, *, asks_for_workers: bool = False) -> None:
        """Let workers go on with what is offered: the command ends, and the same command picks the study up again.

        With `asks_for_workers` the engine is asked for those that are missing before; raises TunectlError where it
        refuses them and none is at work.
        """
        if self._beat is not None and self._watch is not None and self._study is not None:
            self._offer(self._study)
            self._remove_marks()
            if asks_for_workers:
                self._ask_for_workers(self._watch, leaves=True)
            self._watch.close()
            self._beat.leave()
            self._beat = self._watch = None
        self._close_engine()

    def finish(self) -> None:
        """End what `begin` has begun: nothing is offered any more, and workers end. After `leave` this does nothing.

        To be called while this process still has the study folder's lock. Where workers still have trials, they train
        them to their end.
        """
        study = self._study
        if self._beat is None or study is None:
            return
        if self._watch is not None:
            self._watch.close()
        self._unoffered.clear()
        finish_offers(study)
        for trial in offered_trials(study):
            withdraw_trial(study, trial)
        for claim in claimed_trials(study):
            # It has ended, and its worker has only to give it back. What may show late is left to the next run.
            if has_own_result(claim.folder) and not may_show_late(claim):
                take_back(claim)
        if self._shut_out_at is not None and self._clock() - self._shut_out_at >= LATE_SECONDS:
            with suppress(FolderError):  # the next run does it
                finish_patiently(study, self._say, self._clock)
        self._ended |= {trial for trial in trials_with_marks(study) if has_own_result(home_folder(study, trial))}
        self._remove_marks()
        for claim in unfinished(study):
            self._say(f"trial {claim.trial} is not taken back from its worker yet; the same command does it later")
        has_claims = bool(claimed_trials(study))
        if has_claims:  # the command ends by an error, or they belong to another one
            self._name_jobs(study)
        else:
            self._cancel_jobs()
        if has_claims or unfinished(study) or trials_with_marks(study):
            self.leave()
            return
        with suppress(FolderError):  # what old workers have left only takes space
            finish_taking_back(study)
        self._beat.end()
        self._beat = self._watch = None
        self._close_engine()

    def _name_jobs(self, study: StudyFolder) -> None:
        if self._supply is not None and self._supply.engine.can_be_left:
            stop = tunectl_command("stop", study.path)
            self._say(f"workers still have trials, so the jobs of {self._name} are not cancelled; `{stop}` ends them")

    def _cancel_jobs(self) -> None:
        if self._supply is not None:
            try:
                self._supply.engine.cancel()
            except TunectlError as error:
                self._say(f"warning: the jobs of {self._name} cannot be cancelled: {error}")

    def _remove_marks(self) -> None:
        """Remove from the folders of trials that have ended what was only needed between runner and worker."""
        if self._study is None:
            return
        for trial in sorted(self._ended):
            try:
                remove_marks(home_folder(self._study, trial))
            except FolderError as error:
                self._patience.failed("marks", error)
                return
            self._patience.worked("marks")
            self._ended.discard(trial)

    def _close_engine(self) -> None:
        if self._supply is not None:
            self._supply.engine.close()
            self._supply = None

    # --- trials

    def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
        """Offer the trial, unless a worker has this attempt already. Raises FolderError where it cannot be offered."""
        study = self._study or StudyFolder(folder.parent.parent)
        if self._watch is None:
            self.begin(study, (), self._say)
        self._ended.discard(trial)
        if trial in self._at_work:
            self._at_work.discard(trial)
            if self._watch is not None:
                self._watch.add(trial, attempt)
            return
        self._unoffered[trial] = Offer(
            trial,
            attempt,
            alone=slot.is_alone,
            timeout_seconds=self._resources.trial_timeout_seconds,
            grace_seconds=self._resources.grace_seconds,
        )
        try:
            self._offer(study)
        except FolderError:
            self._unoffered.pop(trial, None)
            raise

    def _offer(self, study: StudyFolder) -> None:
        """Offer what is to be offered; where a file server fails for a moment, that is done at the next poll."""
        for trial, offer in list(self._unoffered.items()):
            try:
                offer_trial(study, offer)
            except FolderError as error:
                self._patience.failed("offering", error)
                return
            self._patience.worked("offering")
            del self._unoffered[trial]
            if self._watch is not None:
                self._watch.add(trial, offer.attempt)

    def poll(self, timeout_seconds: float) -> Sequence[BackendEvent]:
        """What happened; see Backend. Raises FolderError where the folder cannot be read, TunectlError where the
        engine starts no worker.
        """
        until = self._clock() + timeout_seconds
        self._remove_marks()
        if self._study is not None:
            self._offer(self._study)
        while True:
            if self._watch is not None:
                self._events += self._watch.look()
                self._ask_for_workers(self._watch)
            left = until - self._clock()
            if self._events or left <= 0:
                break
            time.sleep(min(left, _LOOK_SECONDS))
        events, self._events = self._events, []
        return events

    def end_recorded(self, trial: int) -> None:
        """The marks of its worker may go; those of an end that is not recorded say it to the next run."""
        self._ended.add(trial)

    def _ask_for_workers(self, watch: ClaimWatch, *, leaves: bool = False) -> None:
        offered = len(watch.offered)
        if self._supply is not None and not watch.trials:
            self._supply.nothing_offered()
        elif self._supply is not None:
            self._supply.look(offered, len(watch.trials) - offered, leaves=leaves)
        elif self._awaited is not None:
            self._awaited.look(offered=offered, at_work=len(watch.trials) - offered)

    def stop(self, trial: int) -> None:
        """Take the trial back, or ask its worker to let it save and end."""
        self._ask(trial, StopRequest())

    def kill(self, trial: int) -> None:
        """Take the trial back, or ask its worker to kill it. A worker that does not answer is shut out of it."""
        self._ask(trial, StopRequest(kill=True))

    def _ask(self, trial: int, request: StopRequest) -> None:
        if self._unoffered.pop(trial, None) is not None:
            self._events.append(ProcessEnded(trial, None, None, 0.0, never_began=True))
        elif self._watch is not None and (ended := self._watch.stop(trial, request)) is not None:
            self._events.append(ended)

    def close(self) -> None:
        """End what runs on this machine. Workers go on with what they have, unless `finish` was called."""
        self._here.close()
        try:
            self.leave()
        except FolderError as error:
            self._say(f"warning: {error}")
