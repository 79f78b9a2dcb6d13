"""The correction of a study after a first run: what a changed study file means for the trials in the folder."""

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
from tunectl.core.records import FINAL, PlannedTrial, TrialOutcome
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.language.identity import Differences, differences
from tunectl.language.study_reader import load_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.added_trials import with_added_trials
from tunectl.session.plan_agreement import named_trials
from tunectl.store.earlier_studies import is_set_aside
from tunectl.store.provenance import original_study_file
from tunectl.store.trial_files import read_trial, trial_state

What = Literal["nothing", "read again", "begin anew", "refuse"]

MAY_CHANGE = (
    "After a trial has completed, you may only change: trials (more of them), promote (more stages, a larger keep), "
    "resources, goal, notes, uncommitted_diff, keep_checkpoints, training.curvature; for a command or function also "
    "baseline_loss, no_progress and shared_files; for a command also metrics, checkpoints, infeasible and environment."
)

_HAD_RESULTS = "had_results"


@dataclass(frozen=True, slots=True)
class Correction:
    """What a run does about changes of the study file.

    `what` is that: nothing, read the output of the launched trials again, begin the study anew and keep the earlier one
    in `earlier`, or refuse. `lines` are the differences, `environment` those of the program's environment.
    """

    what: What
    lines: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()


def has_result(item: TrialOutcome) -> bool:
    """Whether the trial is a result of its hyperparameters, which a study that begins anew would lose."""
    return item.state in FINAL


def correction(
    folder: StudyFolder, kept: StudySpec, spec: StudySpec, outcomes: Callable[[], Sequence[TrialOutcome]]
) -> Correction:
    """What a run of `spec` does in a folder whose study is `kept`; `outcomes` are read only where they are needed."""
    found: Differences = differences(kept, with_added_trials(spec, folder))
    changed = (*found.results, *found.objective)
    # The results of a rereading that was killed are not those of the kept study: they do not decide whether the study
    # may begin anew.
    had_results = None if found.results else _had_results(folder)
    if changed and (any(has_result(item) for item in outcomes()) if had_results is None else had_results):
        return Correction("refuse", changed, found.environment)
    # All metrics of own code are read, whatever the objective; in tunectl's own loop it decides which checkpoints stay.
    if found.results or (found.objective and not spec.own_code):
        return Correction("begin anew", (*changed, *found.reading), found.environment)
    lines = (*found.objective, *found.reading)
    return Correction("read again" if lines else "nothing", lines, found.environment)


def read_trials_again(
    folder: StudyFolder, spec: StudySpec, trials: Sequence[PlannedTrial], say: Callable[[str], None]
) -> None:
    """Read the output of all launched trials again, as the study says now; the earlier files stay beside the new ones.

    Until it is done the file `folder.rereading` is there, by which a call after a kill continues. Raises FolderError
    where a file cannot be written, WorkloadError where a package is missing that reads a file.
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
        # After a kill, the result may have been read again and the request, which is written after it, be the old one.
        if before is None or now is None or (now == before and not was_killed):
            continue
        old = _state(folder, trial)
        if not read_again(before, now, home):
            unread.append(trial.trial)
            continue
        states[old, _state(folder, trial)] += 1
    for line in _in_words(states):
        say(line)
    if unread:
        say(
            f"warning: the output of {named_trials(unread)} cannot be read again, because it has several attempts and "
            "it is not known where each begins: their numbers stay as they were; to have all trials read in the same "
            "way, run the study in another --dir"
        )


def next_correction(
    folder: StudyFolder, kept: StudySpec, outcomes: Sequence[TrialOutcome]
) -> tuple[Path, Correction] | None:
    """The user's study file and what the next run does about its changes; None where it is missing or has none."""
    file = original_study_file(folder)
    if file is None or is_set_aside(folder):
        return None
    try:
        spec = load_study(file)
        # Under another name it is run in another folder.
        found = correction(folder, kept, spec, lambda: outcomes) if spec.name == kept.name else Correction("nothing")
    except StudyError:
        return None  # a run reports the errors of the file
    if folder.rereading.is_file() and found.what == "nothing":
        found = replace(found, what="read again")
    return None if found.what == "nothing" and not found.environment else (file, found)


def _mark(folder: StudyFolder, trials: Sequence[PlannedTrial]) -> None:
    """Write the file which says that trials are being read again, and whether any had a result before.

    The file of an earlier call that was killed is kept: what the trials were before is not known any more.
    """
    if folder.rereading.is_file():
        return
    content = {_HAD_RESULTS: any(_state(folder, trial) in FINAL for trial in trials)}
    with path_errors(folder.rereading, "written"):
        write_bytes(folder.rereading, json.dumps(content).encode())


def _had_results(folder: StudyFolder) -> bool | None:
    """Whether a trial had a result before a rereading that was killed; None where there was none, or it is unknown."""
    try:
        found = sealed_object(regular_files.content(folder.rereading)).get(_HAD_RESULTS)
    except (OSError, DamagedError):
        return None
    return found if isinstance(found, bool) else None


def _changed(
    request: CommandRequest | FunctionRequest, spec: StudySpec, trial: PlannedTrial
) -> CommandRequest | FunctionRequest:
    """The request of a trial with the fields that say how its output is read as the study has them now."""
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
    """The request of a trial of own code; None where it was never launched, or its request is damaged."""
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
