"""`stop`, `pause`, `resume`, `add`: what users request of a study, also while a run is at work."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core.errors import UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.proposed_commands import tunectl_command
from tunectl.execution.runner_lock import Holder, holder, is_held
from tunectl.session.added_trials import Addition, ChangedMeanwhileError, add_trials, added_words, check_may_add
from tunectl.session.continuing_command import continuing_command
from tunectl.session.damage import changed_files
from tunectl.session.left_offers import at_rest, had_workers
from tunectl.session.open_study import study_in
from tunectl.session.run_requests import Asker, locked_at_rest
from tunectl.session.stopped_trials import check_trial, record_resumed, record_stopped
from tunectl.session.stopped_workers import stop_workers
from tunectl.store.claimed_trials import claimed_trials
from tunectl.store.index import Index
from tunectl.store.offered_trials import offered_trials
from tunectl.store.plan_file import read_plan
from tunectl.store.request_files import RunRequest
from tunectl.store.study_folder import open_folder

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Answered:
    """What was done about a request, in lines; `at_work`: a run did it."""

    folder: StudyFolder
    lines: tuple[str, ...]
    at_work: bool

    def to_json(self) -> dict[str, Any]:
        """The answer as one JSON object."""
        return {"folder": str(self.folder.path), "at_work": self.at_work, "answer": list(self.lines)}


def stop_run(place: Path, say: Say, *, now: bool = False) -> Answered:
    """Stop the run that is at work in a folder, as one Ctrl-C does, or with `now` as two, and wait for its end.

    Raises FolderError where there is no study, or the run does not answer.
    """
    folder = open_folder(place)
    runner = _runner(folder)
    if runner is None:
        stopped = _stop_left(folder, say, now=now)
        return Answered(folder, stopped or (_idle(folder, "nothing to stop"),), at_work=False)
    asker = Asker(say)
    asker.ask(folder, RunRequest("stop", "", number=2 if now else 1), lambda: "")
    asker.wait_for_end(folder, runner)
    ended = f"the run ({runner}) has ended"
    # It may have left trials to workers at this moment, or was stopped before it had picked them up.
    if _runner(folder) is None and (stopped := _stop_left(folder, say, now=now)):
        return Answered(folder, (ended, *stopped), at_work=True)
    return Answered(folder, (f"{ended}; {_continues(folder)}",), at_work=True)


def _stop_left(folder: StudyFolder, say: Say, *, now: bool) -> tuple[str, ...]:
    """Stop what a run has left to workers; gives lines about it, none where nothing was left."""
    if not had_workers(folder):
        return ()
    with locked_at_rest(folder, "stop it"):
        lines = stop_workers(folder, say, now=now)
    return (*lines, _continues(folder)) if lines else ()


def stop_trials(place: Path, trials: list[int], say: Say) -> Answered:
    """Stop trials for good, whether they run, wait, or are to be run by a later run.

    Raises UsageError for a trial that there is not, or that has ended already, and for the folder of a procedure.
    """
    return _of_trials(place, trials, RunRequest("stop trial", ""), record_stopped, say)


def resume_trials(place: Path, trials: list[int], say: Say) -> Answered:
    """Let trials that were stopped for good be run again; raises UsageError for one that was not."""
    found = _of_trials(place, trials, RunRequest("resume trial", ""), record_resumed, say)
    return found if found.at_work else Answered(folder := found.folder, (*found.lines, _continues(folder)), False)


def _of_trials(place: Path, trials: list[int], request: RunRequest, record: Callable[[Any], str], say: Say) -> Answered:
    folder, lines, at_work = open_folder(place), [], False
    for trial in dict.fromkeys(trials):

        def act(trial: int = trial) -> str:
            check_trial(folder, trial, len(read_plan(folder.plan)))
            return record(at_rest(folder, trial))

        at_work = _runner(folder) is not None
        lines.append(Asker(say).ask(folder, RunRequest(request.action, "", trial=trial), act))
    return Answered(folder, tuple(lines), at_work)


def pause_run(place: Path, say: Say, *, lets_run: bool = False) -> Answered:
    """Let the run at work start no trial until `resume`: the running ones save and end, or, with `lets_run`, run on.

    Those of a program that cannot continue always run on. Raises UsageError where no run is at work.
    """
    folder = open_folder(place)
    spec = study_in(folder)
    if not lets_run and spec.program is not None and not spec.program.can_resume:
        say("its program starts a trial that was stopped over, so the running trials run to their end")
        lets_run = True
    if not lets_run and spec.workload_kind == "function":
        say("a trial whose function does not save starts again from step 0 after the pause; --let-run lets it end")

    def act() -> str:
        if offered_trials(folder) or claimed_trials(folder):
            stop = tunectl_command("stop", folder.path)
            raise UsageError(
                f"no run is at work, and a pause does not reach the workers that a run has left; {_continues(folder)}, "
                f"and `{stop}` stops its trials"
            )
        raise UsageError("no run is at work, so there is nothing to pause: a pause lasts as long as its run")

    answer = Asker(say).ask(folder, RunRequest("pause", "", number=int(lets_run)), act)
    return Answered(folder, (answer, f"`{tunectl_command('resume', folder.path)}` ends the pause"), at_work=True)


def resume_run(place: Path, say: Say) -> Answered:
    """End the pause of the run at work; raises UsageError where no run is at work."""
    folder = open_folder(place)

    def act() -> str:
        raise UsageError(f"no run is at work; {_continues(folder)}")

    return Answered(folder, (Asker(say).ask(folder, RunRequest("resume", ""), act),), at_work=True)


def add_to_study(place: Path, number: int, say: Say) -> Answered:
    """Add trials for each setting of a study; the run at work trains them, or the next one.

    Raises UsageError where the study has no number of trials, and FolderError where the folder cannot be written.
    """
    folder, token = open_folder(place), os.urandom(8).hex()
    while True:
        now = check_may_add(folder, study_in(folder))
        wish = Addition(now, now + number, token)

        def act(wish: Addition = wish) -> str:
            opened = Index.open_for_writing(folder.index) if folder.index.is_file() else nullcontext()
            with opened as index:
                for line in changed_files(folder, index):
                    say(line)
                _, added = add_trials(folder, study_in(folder), read_plan(folder.plan), wish, index)
            return added_words(wish, added)

        request = RunRequest("add", "", number=wish.trials, before=wish.before, token=token)
        at_work = _runner(folder) is not None
        try:
            lines = [Asker(say).ask(folder, request, act)]
        except ChangedMeanwhileError:
            continue
        lines.append("the run at work trains them" if at_work else _continues(folder))
        return Answered(folder, tuple(lines), at_work)


def _runner(folder: StudyFolder) -> Holder | None:
    """The process that works in a folder; None where none does, or it is known to have ended."""
    found = holder(folder.lock) if is_held(folder.lock) else None
    return None if found is None or found.is_gone else found


def _idle(folder: StudyFolder, what: str) -> str:
    return f"{folder.path}: no run is at work, {what}"


def _continues(folder: StudyFolder) -> str:
    if folder.procedure.exists():
        return "the command of its procedure, called again, continues it"
    return f"`{continuing_command(folder)}` continues it"
