"""A study file that was changed after a first run: what becomes of the trials that are there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tunectl.core import regular_files
from tunectl.core.errors import StudyError
from tunectl.core.files import write_bytes
from tunectl.core.folders import StudyFolder
from tunectl.core.own_code_request import CommandRequest, FunctionRequest, request_in
from tunectl.core.path_errors import path_errors
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.language.identity import Differences, differences
from tunectl.language.study_reader import load_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.plan_agreement import named_trials
from tunectl.store.earlier_studies import is_set_aside
from tunectl.store.provenance import original_study_file
from tunectl.store.trial_files import read_trial, trial_state

What = Literal["nothing", "read again", "begin anew", "refuse"]

MAY_CHANGE = (
    "once a trial has completed only more trials, resources, goal, notes, keep_checkpoints, of own code baseline_loss "
    "and no_progress, and of a command where it prints metrics, its checkpoints, infeasible ends and environment may "
    "change"
)

_RESULTS = ("completed", "infeasible")
_HAD_RESULTS = "had_results"


@dataclass(frozen=True, slots=True)
class Correction:
    """What a changed study file means for the folder it was run in.

    `what` is done: nothing, the trials that were launched are read again, the study begins anew and what is there is
    kept, or it is refused. `lines` say what differs. `environment` says what of the program's environment does.
    """

    what: What
    lines: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()


def has_result(item: TrialOutcome) -> bool:
    """Whether the trial tells something of its hyperparameters, which a changed study would lose."""
    return item.state in _RESULTS


def correction(
    folder: StudyFolder, kept: StudySpec, spec: StudySpec, outcomes: Callable[[], Sequence[TrialOutcome]]
) -> Correction:
    """What the study means for a folder that keeps another text of it; `outcomes` are asked for where they matter."""
    found: Differences = differences(kept, spec)
    changed = (*found.results, *found.objective)
    # Results that a rereading has made before it was killed are none of the study that is kept: by them the trials are
    # read again, but nothing is begun anew.
    had_results = None if found.results else _had_results(folder)
    if changed and (any(has_result(item) for item in outcomes()) if had_results is None else had_results):
        return Correction("refuse", changed, found.environment)
    # The metrics of own code are read whatever the objective is; in our own loop it decides what is saved.
    if found.results or (found.objective and not spec.own_code):
        return Correction("begin anew", (*changed, *found.reading), found.environment)
    lines = (*found.objective, *found.reading)
    return Correction("read again" if lines else "nothing", lines, found.environment)


def read_trials_again(
    folder: StudyFolder, spec: StudySpec, trials: Sequence[PlannedTrial], report: Callable[[str], None]
) -> None:
    """Read the output of all trials that were launched as the study says now; what it was before stays beside it.

    A kill on the way leaves a mark, `folder.rereading`, by which the next call goes on. Raises FolderError where
    something cannot be written, WorkloadError where a package is missing that reads a file.
    """
    from tunectl.programs.reread_trial import read_again

    was_killed = folder.rereading.is_file()
    _mark(folder, trials)
    unread: list[int] = []
    states: Counter[tuple[str, str]] = Counter()
    for trial in trials:
        home = folder.trial(trial.trial)
        before = _request(folder, trial)
        now = None if before is None else _changed(before, spec, trial)
        # A kill may have left a result that the trial's request, which is written after it, does not know of.
        if before is None or now is None or (now == before and not was_killed):
            continue
        old = _state(folder, trial)
        if not read_again(before, now, home):
            unread.append(trial.trial)
            continue
        states[old, _state(folder, trial)] += 1
    for line in _in_words(states):
        report(line)
    if unread:
        report(
            f"warning: the output of {named_trials(unread)} cannot be read again, since it is of several attempts and "
            "where each begins is not known: the numbers are those that were read before; run the study in another "
            "--dir to have them all read alike"
        )


def next_correction(
    folder: StudyFolder, kept: StudySpec, outcomes: Sequence[TrialOutcome]
) -> tuple[Path, Correction] | None:
    """The user's own study file and what a run of it would do; None where it is not there, or changes nothing."""
    file = original_study_file(folder)
    if file is None or is_set_aside(folder):
        return None
    try:
        spec = load_study(file)
        # Under another name it is run in another folder.
        found = correction(folder, kept, spec, lambda: outcomes) if spec.name == kept.name else Correction("nothing")
    except StudyError:
        return None  # a run says what is wrong with it
    if folder.rereading.is_file() and found.what == "nothing":
        found = replace(found, what="read again")
    return None if found.what == "nothing" and not found.environment else (file, found)


def _mark(folder: StudyFolder, trials: Sequence[PlannedTrial]) -> None:
    """Say in the folder that its trials are read again, and whether any had a result before.

    A mark that a kill has left is kept: what the trials were before is not known any more.
    """
    if folder.rereading.is_file():
        return
    content = {_HAD_RESULTS: any(_state(folder, trial) in _RESULTS for trial in trials)}
    with path_errors(folder.rereading, "written"):
        write_bytes(folder.rereading, json.dumps(content).encode())


def _had_results(folder: StudyFolder) -> bool | None:
    """Whether a trial had a result before a rereading that was killed; None where there is none or it does not say."""
    try:
        found = sealed_object(regular_files.content(folder.rereading)).get(_HAD_RESULTS)
    except (OSError, DamagedError):
        return None
    return found if isinstance(found, bool) else None


def _changed(
    request: CommandRequest | FunctionRequest, spec: StudySpec, trial: PlannedTrial
) -> CommandRequest | FunctionRequest:
    """The request of a trial as the study reads it now; what it was trained with stays."""
    request = replace(
        request,
        objective=spec.objective,
        baseline_loss=spec.baseline_loss,
        no_progress=bool(trial.training.get("no_progress", spec.training.no_progress)),
    )
    if isinstance(request, FunctionRequest) or spec.program is None:
        return request
    reading = spec.program.reading
    program = replace(
        request.program,
        sources=reading.sources,
        checkpoints=reading.checkpoints,
        infeasible=reading.infeasible,
    )
    return replace(request, program=program)


def _request(folder: StudyFolder, trial: PlannedTrial) -> CommandRequest | FunctionRequest | None:
    """The request of a trial of own code; None where it was never launched, or what it was asked is not known."""
    try:
        request = request_in(regular_files.content(folder.trial(trial.trial).request))
    except FileNotFoundError:
        return None
    except (OSError, DamagedError):
        return None
    return request if isinstance(request, (CommandRequest, FunctionRequest)) else None


def _state(folder: StudyFolder, trial: PlannedTrial) -> str:
    return trial_state(read_trial(folder.trial(trial.trial)))[0]


def _in_words(states: Counter[tuple[str, str]]) -> list[str]:
    if not states:
        return []
    total = states.total()
    parts = []
    for (old, new), count in sorted(states.items()):
        if old != new:
            parts.append(f"{count} {'was' if count == 1 else 'were'} {old} and {'is' if count == 1 else 'are'} {new}")
    noun = "trial" if total == 1 else "trials"
    return [f"the output of {total} {noun} was read again: {', '.join(parts) or 'every state is as before'}"]
