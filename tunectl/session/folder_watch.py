"""The watch over the folder in which trials of own code run, for files that several of them write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from tunectl.analysis.findings.file_findings import must_stop, shared_findings, unclear_findings
from tunectl.analysis.findings.findings import Finding
from tunectl.core.records import CANCELLED, PlannedTrial
from tunectl.core.wording import counted
from tunectl.execution.folder_snapshot import MOST_ENTRIES, take_snapshot
from tunectl.execution.jobs import Job
from tunectl.execution.shared_files import WrittenFiles
from tunectl.language.study_spec import StudySpec
from tunectl.session.open_study import OpenStudy
from tunectl.session.possible_writers import PossibleWriters
from tunectl.session.run_progress import Watcher
from tunectl.store.written_files import OutputFile, SharedFolders, WrittenFile, keep_written, read_written

ALONE_SECONDS = 60.0
"""How long the first trial of a study runs alone at most: what it writes until then is known to be its own."""
_PATIENCE_SECONDS = 0.05  # the snapshot of a small folder takes less
_LONGEST_WAIT_SECONDS = 1.0
"""How long a launch waits for the snapshot of a large folder; a later snapshot may also show files of the new trial."""
_LONG_SECONDS, _SHARE = 0.2, 0.1
# Snapshots that take longer than _LONG_SECONDS take at most this share of the time.

Changes = tuple[Sequence[WrittenFile], SharedFolders | None]


class FolderWatch:
    """Takes a snapshot of a folder before the first trial and after each one, in a thread of its own.

    A snapshot is taken between the end of a trial and the launch of the next one, so that the files of the one are not
    taken for those of the other.
    """

    def __init__(
        self, folder: Path, study: OpenStudy, watcher: Watcher, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.must_stop = False
        self._spec, self._study, self._watcher, self._clock = study.spec, study, watcher, clock
        files, shared_folders = read_written(study.folder.written)
        self._written = WrittenFiles(folder, files, shared_folders)
        self._skipped: frozenset[str] = frozenset()
        self._running: set[int] = set()
        self._ran: set[int] = set()
        self._ran_before: set[int] = set()
        self._began = self._not_before = 0.0
        self._fresh: set[int] = set()
        self._completed: set[int] = set()
        self._at_their_end: set[int] = set()
        self._ended: set[int] = set()
        self._launched: set[int] = set()
        self._most_at_once = 0
        self._alone: tuple[int, float] | None = None
        self._said: set[str] = set()
        self._outputs: frozenset[OutputFile] = frozenset()
        self._writers = PossibleWriters(clock)
        self._looks = 0
        self._executor = ThreadPoolExecutor(1, "folder")
        self._future: Future[Changes] | None = None
        self._again = False
        self._is_over = False

    def begin(self, *, first_alone: bool) -> None:
        """Take the snapshot from before the first trial; with `first_alone` that trial runs alone for a while."""
        snapshot = take_snapshot(self._written.folder)
        self._skipped = snapshot.skipped
        if snapshot.skipped:
            count, some = len(snapshot.skipped), ", ".join(sorted(snapshot.skipped)[:3])
            have = "has" if count == 1 else "have"
            self._watcher.message(
                f"note: {some} in {self._written.folder} {have} too many files, so overwriting between trials is not "
                f"checked there ({counted(count, 'folder')} in all)"
            )
        self._written.begin(snapshot)
        self._alone = (-1, 0.0) if first_alone else None
        self._judge()

    def launching(self, job: Job, *, is_offered: bool = False) -> None:
        """Note the launch of a trial; `is_offered`: a worker begins it later."""
        if is_offered:
            self._writers.offered(job.trial)
        if self._alone is not None and self._alone[0] < 0:
            self._alone = (job.trial, self._clock())
        self._running.add(job.trial)
        self._ran.add(job.trial)
        self._ran_before.add(job.trial)
        self._launched.add(job.trial)
        self._most_at_once = max(self._most_at_once, len(self._running))
        if job.attempt == 1:
            self._fresh.add(job.trial)

    def started(self, trial: int, outputs: Sequence[OutputFile], *, is_late: bool = False) -> None:
        """Note that a trial has begun, and the files that its worker prints to: no trial writes them.

        `is_late`: what the trial writes may show late.
        """
        self._writers.began(trial, is_late=is_late)
        self._outputs = self._outputs | set(outputs)  # another one: the thread may read the old one

    def ended(self, trial: int, state: str) -> None:
        """Note the end of a trial, when all its processes have ended."""
        self._running.discard(trial)
        self._writers.ended(trial)
        self._ended.add(trial)
        if state == "completed":
            self._at_their_end.add(trial)
            if trial in self._fresh:
                self._completed.add(trial)
        if self._alone is not None and self._alone[0] == trial:
            self._alone = None
        self._begin_snapshot()

    def may_launch(self, running: int) -> bool:
        """Whether another trial may be launched beside those that are running."""
        self._collect(_LONGEST_WAIT_SECONDS if running == 0 else _PATIENCE_SECONDS)
        if self._future is not None and self._clock() - self._began < _LONGEST_WAIT_SECONDS:
            return running == 0
        if self._alone is None or running == 0:
            return True
        trial, since = self._alone
        trained = self._study.folder.trial(trial).measurements
        if self._clock() - since < ALONE_SECONDS and not (trained.exists() and trained.stat().st_size):
            return False
        self._alone = None
        self._begin_snapshot()
        self._collect(_PATIENCE_SECONDS)
        return self._future is None or self._clock() - self._began >= _LONGEST_WAIT_SECONDS

    def look(self) -> None:
        """Take what the thread has found, and go on with what was to be looked at again; to be called regularly."""
        self._writers.asked()
        self._collect(0.0)
        self._narrow(is_over=False)

    def finish(self) -> None:
        """Take the last snapshots, and report their findings."""
        while self._future is not None or self._again:
            self._not_before = 0.0
            self._collect(None)
        self._executor.shutdown()
        if self._is_over:
            return
        self._narrow(is_over=not self._running)
        if self._most_at_once >= len(self._launched) > 1:
            shared = self._written.take_for_shared(self._completed)
            keep_written(self._study.folder.written, shared, None, self._watcher.message)
            self._judge()
        unclear = self._written.take_for_unclear(self._at_their_end, self._texts())
        keep_written(self._study.folder.written, unclear, None, self._watcher.message)
        for finding in unclear_findings(self._spec, unclear):
            self._watcher.message(f"warning: {_in_sentences(finding)}")

    def _texts(self) -> set[str]:
        """The texts among the hyperparameters' values: a file name with one of them differs from trial to trial."""
        return {
            value for trial in self._study.trials for value in trial.hyperparameters.values() if isinstance(value, str)
        }

    def _begin_snapshot(self) -> None:
        if self._is_over:
            return
        if self._future is not None or self._clock() < self._not_before:
            self._again = True
            return
        self._again, self._began = False, self._clock()
        # A trial that is launched while the snapshot is taken may have written what it shows.
        self._ran_before, self._ran = self._ran | self._running, set(self._running) | self._writers.still_showing()
        self._looks += 1
        self._writers.look(self._looks)
        ended, self._ended = frozenset(self._ended), set()
        # While the first trial runs alone, it counts as one that has trained.
        self._future = self._executor.submit(
            self._taken, self._looks, self._ran_before, ended, len(self._completed) or 1
        )

    def _taken(self, look: int, ran: set[int], ended: frozenset[int], trained: int) -> Changes:
        """In the thread: the files that changed, and the shared folders where they changed."""
        snapshot = take_snapshot(self._written.folder, self._skipped)
        if not snapshot.is_whole:
            raise _TooManyError
        snapshot = snapshot.without(self._outputs)
        before = self._written.shared_folders
        changed = self._written.take(snapshot, ran, ended, look)
        self._written.count_folders(snapshot, trained)
        now = self._written.shared_folders
        return changed, now if now != before else None

    def _collect(self, patience_seconds: float | None) -> None:
        """Take the changes that the thread has found, waiting for them at most this long; None waits for all."""
        while self._future is not None or self._again:
            if self._future is None:
                self._begin_snapshot()
            if self._future is None:
                return
            if not wait([self._future], patience_seconds).done:
                return
            try:
                changed, folders = self._future.result()
            except _TooManyError:
                self._give_up()
                return
            self._future, seconds = None, self._clock() - self._began
            self._not_before = self._clock() + seconds / _SHARE if seconds > _LONG_SECONDS else 0.0
            keep_written(self._study.folder.written, changed, folders, self._watcher.message)
            if folders is not None or any(item.is_shared for item in changed):
                self._judge()

    def _narrow(self, *, is_over: bool) -> None:
        """Take back that trials may have written something before their workers began them."""
        if self._future is not None or self._is_over:
            return
        changed = [
            file
            for look, unbegun in self._writers.known_unbegun(is_over=is_over)
            for file in self._written.narrow(look, unbegun)
        ]
        keep_written(self._study.folder.written, changed, None, self._watcher.message)
        if any(item.is_shared for item in changed):
            self._judge()

    def _give_up(self) -> None:
        self._future, self._again, self._is_over = None, False, True
        self._watcher.message(
            f"note: {self._written.folder} now has more than {2 * MOST_ENTRIES:,} files and folders, which is too "
            "many, so overwriting between trials is no longer checked there"
        )

    def _judge(self) -> None:
        """Warn once that trials overwrite files, and say once that the study stops because of it."""
        files = list(self._written.files.values())
        fatal = must_stop(self._spec, files)
        for finding in shared_findings(self._spec, fatal or files, self._written.shared_folders):
            what = "stop" if fatal else finding.level
            if what in self._said or finding.level == "note":
                continue
            self._said.add(what)
            head = "stopping: trials read, or resume from, files that other trials wrote. " if fatal else "warning: "
            self._watcher.message(f"{head}{_in_sentences(finding)}")
        self.must_stop = self.must_stop or bool(fatal)


def _in_sentences(finding: Finding) -> str:
    """What a finding says and its action, as two sentences."""
    action = finding.action
    return f"{finding.sentence} {action[:1].upper()}{action[1:]}." if action else finding.sentence


class _TooManyError(Exception):
    """The folder has more files than are watched."""


def watched_folder(spec: StudySpec) -> Path | None:
    """The folder that the trials of a study share; None where each has its own, or they train in our loop."""
    if spec.program is not None:
        return None if spec.program.in_trial_folder else Path(spec.program.folder)
    if spec.workload_kind != "function":
        return None
    try:
        return Path.cwd()
    except OSError:
        return None


@contextmanager
def folder_watched(
    study: OpenStudy, left: Sequence[PlannedTrial], slots: int, watcher: Watcher
) -> Iterator[FolderWatch | None]:
    """Watch the folder that the trials share while they run; None where they share none.

    The first trial runs alone only where it is a program, others would run beside it, and no trial has run before.
    """
    folder = watched_folder(study.spec)
    if folder is None:
        yield None
        return
    watch = FolderWatch(folder, study, watcher)
    has_run = any(item.attempts or item.state not in ("pending", CANCELLED) for item in study.outcomes)
    watch.begin(first_alone=study.spec.program is not None and min(len(left), slots) > 1 and not has_run)
    try:
        yield watch
    finally:
        watch.finish()
