"""The engine that started the workers of a run that was left: whether it still knows their jobs, and their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tunectl.core.errors import FolderError, TunectlError
from tunectl.core.folders import StudyFolder
from tunectl.execution.engines import ENGINES, can_be_left, make_engine
from tunectl.execution.worker_engine import WorkerEngine, WorkerOrder
from tunectl.store.claimed_trials import ClaimedTrial, read_claimant
from tunectl.store.run_state import RunState, read_run_state


@dataclass(frozen=True, slots=True)
class LeftEngine:
    """The engine by its `name`, "" where workers were started by others; `engine` is None where it cannot be asked."""

    name: str
    engine: WorkerEngine | None
    say: Callable[[str], None]

    def may_be_alive(self, claim: ClaimedTrial) -> bool:
        """Whether the job of a silent worker is still there, or that cannot be known: then it has not died."""
        return self._knows(claim) is not False

    def may_tell_later(self, claim: ClaimedTrial) -> bool:
        """Whether the engine does not know now if the job of a worker is there, and may know it when asked again."""
        return self.engine is not None and self._knows(claim) is None

    def _knows(self, claim: ClaimedTrial) -> bool | None:
        claimant = read_claimant(claim.folder)
        if not self.name or claimant is None or not claimant.job or claimant.engine != self.name:
            return False
        return None if self.engine is None else self.engine.knows(claimant.job)

    def cancel(self) -> str:
        """Cancel all jobs; gives words for what becomes of them, "" where there were none to cancel."""
        if not self.name:
            return ""
        if self.engine is None:
            return f"; the jobs of {self.name} are not cancelled, and end by themselves as they find no trial"
        try:
            self.engine.cancel()
        except TunectlError as error:
            self.say(f"warning: the jobs of {self.name} cannot be cancelled: {error}")
            return ""
        return f"; the jobs of {self.name} are cancelled"


def left_state(folder: StudyFolder) -> RunState | None:
    """The run that was left; None where there is none, or that cannot be read."""
    try:
        return read_run_state(folder)
    except FolderError:
        return None


@contextmanager
def left_engine(folder: StudyFolder, say: Callable[[str], None]) -> Iterator[LeftEngine]:
    """The engine of the run that was left in a folder. The workers of one that ends with its run have ended."""
    state = left_state(folder)
    name = "" if state is None else state.resources.backend
    if state is None or name not in ENGINES or not can_be_left(name, state.resources):
        yield LeftEngine("", None, say)
        return
    path = StudyFolder(folder.path.absolute())
    engine: WorkerEngine | None = None
    try:
        engine = make_engine(name, WorkerOrder(path.path, state.resources, say, path.workers))
    except TunectlError as error:
        say(f"warning: the workers' jobs are not known here: {error}")
    try:
        yield LeftEngine(name, engine, say)
    finally:
        if engine is not None:
            engine.close()
