"""The trials that a study plans only when the results of earlier ones are known.

Each source of such trials is asked again whenever all planned trials have ended, so that a run that was killed goes on
with the same ones: it may depend only on the study, on the results, and on the number of trials that run at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tunectl.core.errors import StudyError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial
from tunectl.execution.slots import Slot
from tunectl.language.study_spec import StudySpec
from tunectl.store.earlier_trials_file import kept_trials

if TYPE_CHECKING:
    from tunectl.session.open_study import OpenStudy  # imports numpy, which `check` does not need

FurtherTrials = Callable[["OpenStudy"], Sequence[PlannedTrial]]
"""The trials to add to a study whose planned trials have all ended; none where it is complete."""


def further_trials(spec: StudySpec, place: Path, slots: int, say: Callable[[str], None]) -> FurtherTrials | None:
    """The source of further trials of a study; None where all its trials are planned before the first one runs.

    `place` is its folder, which may not exist yet. The stages follow when the sampler has no more trials to add. Raises
    StudyError where the source cannot work.
    """
    of_sampler = _suggested(spec, place, slots, say) if spec.search.sampler == "bayesian" else None
    if not spec.search.promote:
        return of_sampler
    from tunectl.session.promotion import promotion

    def found(study: OpenStudy) -> Sequence[PlannedTrial]:
        added = of_sampler(study) if of_sampler is not None else ()
        return added or promotion(study).trials

    return found


def _suggested(spec: StudySpec, place: Path, slots: int, say: Callable[[str], None]) -> FurtherTrials:
    """The source of the trials that a model proposes."""
    # Imports the findings, and so SciPy: only for such a study.
    from tunectl.session.earlier_trials import earlier_trials
    from tunectl.session.suggested_trials import suggested_trials

    check_engine(spec)
    kept = StudyFolder(place)
    if kept.earlier_trials.is_file() and kept_trials(kept) is None:
        say(f"warning: {kept.earlier_trials}: is damaged; the trials in {spec.search.after} are read again")
    earlier = earlier_trials(spec, Path.cwd(), place)
    say(earlier.in_words())
    return partial(suggested_trials, earlier=earlier, slots=slots, say=say)


def idle_workers_note(spec: StudySpec, slots: Sequence[Slot], count: int | None) -> tuple[str, ...]:
    """A note that a model proposes so few trials at a time that only one worker has work; none for other studies.

    `slots` are those of the run, `count` the number that the user asked for.
    """
    if spec.search.sampler != "bayesian" or count is not None or not slots[0].is_queue:
        return ()
    return (
        "note: the model proposes one trial at a time, so one worker trains and all others wait; `--slots N` lets it "
        "propose N trials at a time",
    )


def described_start(spec: StudySpec) -> str:
    """From what a study with the sampler bayesian starts, in a line; "" for other studies.

    Raises StudyError where it cannot start.
    """
    if spec.search.sampler != "bayesian":
        return ""
    from tunectl.session.earlier_trials import earlier_trials

    check_engine(spec)
    return earlier_trials(spec, Path.cwd()).in_words()


def check_engine(spec: StudySpec) -> None:
    """Raise StudyError where a study needs the engine that proposes points, and it is missing or too old."""
    from tunectl.suggestions.engine_process import engine_missing

    if spec.search.sampler == "bayesian" and (missing := engine_missing()):
        raise StudyError([spec.problem(("search", "sampler"), missing)])


def trials_to_come(spec: StudySpec, trials: Sequence[PlannedTrial]) -> int:
    """The number of trials that a study will have besides those planned so far."""
    if spec.search.sampler != "bayesian":
        return 0
    searched = sum(trial.trial_kind == "search" and trial.stage == 0 for trial in trials)
    return max((spec.search.trials or 1) - searched, 0)
