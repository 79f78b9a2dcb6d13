"""Whether the copy of a study in its folder is still the study that was run there: a change of it would not be noticed,
as a run compares a study with this copy.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.own_code_request import CommandRequest, Request, request_of
from tunectl.core.records import PlannedTrial
from tunectl.core.typed_fields import DamagedError
from tunectl.session.checked_study import CheckedStudy
from tunectl.session.request_differences import request_differences
from tunectl.session.trial_requests import trial_request
from tunectl.space.trial_plan import plan_trials
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import read_trial

_MAY_CHANGE = frozenset(("threads", "baseline_loss", "no_progress"))
_OWN_CODE = frozenset(("objective",))


def check_as_run(folder: StudyFolder, checked: CheckedStudy) -> None:
    """Raise FolderError where the plan or a trial of the folder shows that the copy was changed in what may not change.

    More trials, and what else may change between two runs, are allowed.
    """
    planned = [trial for trial in read_plan(folder.plan) if trial.trial_kind == "search"]
    changes = [*_of_plan(checked, planned), *_of_requests(folder, checked, planned)]
    if changes:
        raise FolderError(
            f"{folder.study}: the copy of the study was changed after trials were planned by it: {changes[0]}. To run "
            "another study, copy the file to another place and change its name; to continue this one, undo the change"
        )


def _of_plan(checked: CheckedStudy, planned: list[PlannedTrial]) -> Iterator[str]:
    """The first trial that the copy would plan with other values."""
    if checked.spec.search.sampler == "bayesian":
        return
    now = {trial.identity: trial for trial in plan_trials(checked.spec)}
    for trial in planned:
        if trial.stage:
            continue
        again = now.get(trial.identity)
        if again is None:
            yield f"trial {trial.trial} is not planned by it"
        elif dict(again.hyperparameters) != dict(trial.hyperparameters):
            yield f"trial {trial.trial} would have other values"
        else:
            continue
        return


def _of_requests(folder: StudyFolder, checked: CheckedStudy, planned: list[PlannedTrial]) -> Iterator[str]:
    """How the copy would train the first trial that was launched."""
    for trial in planned:
        asked = _asked(folder, trial)
        if asked is not None and not trial.stage:
            again = trial_request(checked.spec, checked.reference, checked.signature, trial)
            # The output of own code can be read again by another objective.
            free = _MAY_CHANGE | _OWN_CODE if checked.spec.own_code else _MAY_CHANGE - {"no_progress"}
            before = asked.workload.text if not isinstance(asked, CommandRequest) else checked.reference.text
            if before != checked.reference.text:
                yield f"workload is {checked.reference.text} here and was {before} in the trial"
            yield from request_differences(asked, again, free)
            return


def _asked(folder: StudyFolder, trial: PlannedTrial) -> Request | None:
    content = read_trial(folder.trial(trial.trial)).request
    try:
        return None if content is None else request_of(content)
    except DamagedError:
        return None
