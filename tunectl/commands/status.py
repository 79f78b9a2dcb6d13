"""`status`: the progress of a study, also while a runner is at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from tunectl.analysis.results.outcomes import best_outcome
from tunectl.analysis.results.stages import judged_stage, of_stage
from tunectl.core.objective import Objective
from tunectl.core.records import CANCELLED, PlannedTrial, State, TrialOutcome, is_stopped_for_good
from tunectl.execution.runner_lock import holder
from tunectl.language.stage_lengths import stage_words
from tunectl.language.study_spec import StudySpec
from tunectl.session.further_trials import trials_to_come
from tunectl.session.left_offers import TrialOfWorker, trials_of_workers
from tunectl.session.outcome_index import has_ended
from tunectl.session.run_progress import RunningTrial
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_correction import Correction, next_correction
from tunectl.session.trial_requests import total_steps
from tunectl.store.event_file import events_since
from tunectl.store.index import RunningRow
from tunectl.store.offered_trials import offered_trials
from tunectl.store.study_folder import open_folder


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How many of the planned trials of a stage have ended; `name` has the stage in words."""

    name: str
    ended: int
    planned: int


@dataclass(frozen=True, slots=True)
class StudyStatus:
    """A study at one moment. `runner_alive`: a runner, or a trial that a killed runner left, has the folder's lock.
    `paused`: its runner starts no trial until `tunectl resume`.

    `correction` is what the next run does about changes of `study_file`, None where there are none. `half_read`: some
    trials have not been read again yet as a changed study says, so the best one is not known. `damage` has one line for
    everything in the folder that is damaged. `retrains` are included in `total`. `to_come` is the number of trials that
    are planned when those before them have ended. `judged` is the stage of the best trial in words, "" where the study
    has only one, and `stages` has those with planned trials. `interrupted` is how many of the cancelled trials the next
    run continues: their run has ended, or is paused; the others were stopped for good. `workers` has the trials that
    workers have, `offered` is how many more any worker may take.
    """

    study: str
    objective: Objective
    runner_alive: bool
    total: int
    counts: dict[str, int]
    running: tuple[RunningTrial, ...]
    best: TrialOutcome | None
    failures: tuple[TrialOutcome, ...]
    study_file: Path | None = None
    correction: Correction | None = None
    half_read: bool = False
    damage: tuple[str, ...] = ()
    retrains: int = 0
    to_come: int = 0
    judged: str = ""
    stages: tuple[StageProgress, ...] = ()
    paused: bool = False
    interrupted: int = 0
    workers: tuple[TrialOfWorker, ...] = ()
    offered: int = 0
    folder: Path = Path()

    @property
    def in_words(self) -> str:
        """How many trials have each state."""
        numbers = dict(self.counts)
        numbers[CANCELLED] = numbers.get(CANCELLED, 0) - self.interrupted
        shown = {"interrupted": self.interrupted, **numbers}
        order = [*(state for state in numbers if state != CANCELLED), "interrupted", CANCELLED]
        return ", ".join(f"{shown[state]} {state}" for state in order if shown[state]) or "none yet"

    def to_json(self) -> dict[str, Any]:
        """The status as one JSON object."""
        best = self.best
        return {
            "study": self.study,
            "objective": self.objective.to_json(),
            "runner_alive": self.runner_alive,
            "paused": self.paused,
            "trials": self.total,
            "retrains": self.retrains,
            "to_come": self.to_come,
            "stages": [asdict(stage) for stage in self.stages],
            "states": self.counts,
            "interrupted": self.interrupted,
            "running": [asdict(trial) for trial in self.running],
            "workers": [asdict(worker) for worker in self.workers],
            "offered": self.offered,
            "best": {
                "trial": best.plan.trial,
                "value": best.best_value,
                "step": best.best_step,
                "stage": best.plan.stage,
            }
            if best
            else None,
            "failed": [
                {"trial": item.plan.trial, "reason": item.reason, "message": item.message} for item in self.failures
            ],
            "half_read": self.half_read,
            "damage": list(self.damage),
            "study_file_changed": asdict(self.correction) if self.correction else None,
        }


def study_events(place: Path, since: int) -> Iterator[dict[str, Any]]:
    """The events of the runs of the study folder at `place` after the one with this number, in their order.

    Raises FolderError where there is no study, or its events cannot be read.
    """
    yield from events_since(open_folder(place), since)


def study_status(place: Path, say: Callable[[str], None] = lambda _line: None) -> StudyStatus:
    """The status of the study folder at `place`; writes nothing. `say` is called with each line about damage.

    Raises FolderError where there is no study.
    """
    with study_snapshot(place, say, may_be_half_read=True) as study:
        spec, outcomes = study.spec, study.outcomes
        running: tuple[RunningTrial, ...] = ()
        if study.runner_alive and study.index is not None:
            progress = study.index.progress(spec.objective)
            running = tuple(_running(spec, study.trials[item.trial], item) for item in progress)
        changed = next_correction(study.folder, spec, outcomes)
        half_read = study.folder.rereading.is_file()
        runner = holder(study.folder.lock) if study.runner_alive else None
        workers, offered = trials_of_workers(study.folder), len(offered_trials(study.folder))
    counts = Counter(item.state for item in outcomes)
    return StudyStatus(
        study=spec.name,
        objective=spec.objective,
        runner_alive=study.runner_alive,
        total=len(study.trials),
        counts={state: counts[state] for state in get_args(State)},
        running=running,
        best=None if half_read else best_outcome(outcomes, spec.objective),
        failures=tuple(item for item in outcomes if item.state == "failed"),
        study_file=changed[0] if changed else None,
        correction=changed[1] if changed else None,
        half_read=half_read,
        damage=tuple(study.damage),
        to_come=trials_to_come(spec, study.trials),
        judged=stage_words(spec, judged_stage(outcomes)) if spec.search.promote else "",
        stages=_stages(spec, outcomes),
        interrupted=sum(
            item.state == CANCELLED and not is_stopped_for_good(item.state, item.reason) for item in outcomes
        ),
        paused=runner is not None and runner.is_paused,
        workers=workers,
        offered=offered,
        folder=place,
        retrains=sum(trial.trial_kind == "retrain" for trial in study.trials),
    )


def _stages(spec: StudySpec, outcomes: Sequence[TrialOutcome]) -> tuple[StageProgress, ...]:
    if not spec.search.promote:
        return ()
    searched = [item for item in outcomes if item.plan.trial_kind == "search"]
    by_stage = {item.plan.stage: of_stage(searched, item.plan.stage) for item in searched}
    return tuple(
        StageProgress(stage_words(spec, stage), sum(map(has_ended, own)), len(own))
        for stage, own in sorted(by_stage.items())
    )


def _running(spec: StudySpec, trial: PlannedTrial, item: RunningRow) -> RunningTrial:
    steps = total_steps(spec, trial)
    return RunningTrial(
        trial.trial, trial.setting, item.slot, item.last_step or 0, steps, item.last_value, item.iteration
    )
