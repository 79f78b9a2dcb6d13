"""`retrain`: the best trials of a study are trained again with fresh seeds, as new trials of the same study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunectl.analysis.results.retrains import Retrained, best_searched, retrained
from tunectl.analysis.results.stages import of_judged_stage, of_stage
from tunectl.core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Objective
from tunectl.core.records import HAS_RESULT, PlannedTrial, TrialOutcome
from tunectl.execution.backends.backend import Backend
from tunectl.execution.stop_signals import counted_stop_signals
from tunectl.language.stage_lengths import stage_words
from tunectl.session.checked_study import check_study
from tunectl.session.continuing_command import continuing_command
from tunectl.session.open_study import OpenStudy, open_study, with_trials
from tunectl.session.original_study import original_study
from tunectl.session.outcome_index import has_ended, refresh_index_at_end
from tunectl.session.probed_study import probe_workload
from tunectl.session.run_progress import Watcher
from tunectl.session.study_events import end_events
from tunectl.session.study_evidence import check_stage
from tunectl.session.training_trials import RunOptions, study_places, train_trials, training_slots
from tunectl.session.unread_metrics import warn_of_unread_metrics
from tunectl.space.trial_plan import trial_seed
from tunectl.store.writing_lock import writing_lock


@dataclass(frozen=True, slots=True)
class RetrainRequest:
    """The trials to train again: the best `best` trials of the study, or of each setting, each `repeats` times.

    They are of `stage`, None for the last one. Where `trial` is given, it is that trial alone.
    """

    best: int
    repeats: int
    each_setting: bool = False
    stage: int | None = None
    trial: int | None = None


@dataclass(frozen=True, slots=True)
class RetrainResult:
    """The end of a call of `retrain`: the trials that it `retrained`, and the damage of the folder.

    `stage` has the stage of these trials in words, "" where the study has only one.
    """

    study: str
    folder: StudyFolder
    objective: Objective
    retrained: tuple[Retrained, ...]
    paths: tuple[Path, ...]
    interrupted: bool
    damage: tuple[str, ...] = ()
    stage: str = ""

    @property
    def outcomes(self) -> list[TrialOutcome]:
        """The retrains."""
        return [item for found in self.retrained for item in found.retrains]

    @property
    def exit_code(self) -> int:
        """0 done, 1 done but some trials failed, 130 interrupted."""
        unfinished = not all(has_ended(item) for item in self.outcomes)
        if unfinished and self.interrupted:
            return EXIT_INTERRUPTED
        failed = unfinished or any(item.state == "failed" for item in self.outcomes)
        return EXIT_SOME_FAILED if failed else EXIT_DONE

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object."""
        return {
            "study": self.study,
            "folder": str(self.folder.path),
            "objective": self.objective.to_json(),
            "retrained": [
                {
                    "trial": item.searched.plan.trial,
                    "setting": item.searched.plan.setting,
                    "stage": item.searched.plan.stage,
                    "search_value": item.searched.best_value,
                    "retrains": [again.plan.trial for again in item.retrains],
                    "values": list(item.values),
                    "lost": item.lost,
                    "not_reached": item.not_reached,
                    "mean": item.mean,
                    "standard_deviation": item.standard_deviation,
                    "identical": item.identical,
                }
                for item in self.retrained
            ],
            "damage": list(self.damage),
            "exit_code": self.exit_code,
        }


def retrain_study(
    place: Path,
    request: RetrainRequest,
    study_file: Path | None,
    options: RunOptions,
    watcher: Watcher,
    backend: Backend,
) -> RetrainResult:
    """Train the best trials of the study folder at `place` again, or continue an earlier call.

    Trials that have enough retrains get no more: the same call trains nothing twice. Raises UsageError where the search
    has not ended, and the errors of `run_study`.
    """
    checked = check_study(study_file or original_study(place), Path.cwd())
    slots = training_slots(checked.spec, options, backend)
    places = study_places(checked.spec, slots, options, watcher.message, backend)
    with (
        counted_stop_signals() as stops,
        open_study(checked.spec, place, watcher, lambda _: [], may_begin_anew=False, stop_requested=stops) as study,
    ):
        chosen = chosen_trials(study, request)
        study = with_trials(study, missing_retrains(study, chosen, request.repeats))
        keys = {item.plan.origin for item in chosen}
        left = [
            trial
            for trial in study.left(retry_failed=options.retry_failed)
            if trial.trial_kind == "retrain" and trial.origin in keys
        ]
        if left:
            probed = probe_workload(backend, checked, left, slots, stops, places=places)
            for note in probed.notes:
                watcher.message(note)
            train_trials(study, left, checked, probed, slots, options, watcher, stops)
        return _report(study, keys, options, watcher, interrupted=stops() > 0)


def chosen_trials(study: OpenStudy, request: RetrainRequest) -> list[TrialOutcome]:
    """The trials to train again; raises UsageError where they are not known yet, or there are none."""
    if request.trial is not None:
        return [_named_trial(study, request.trial)]
    check_stage(study.trials, request.stage)
    search = [item for item in study.outcomes if item.plan.trial_kind == "search"]
    if request.stage is not None:
        search = of_stage(search, request.stage)
    open_trials = sum(not has_ended(item) for item in search)
    if open_trials:
        raise UsageError(
            f"{study.folder.path}: {open_trials} trials of the search have not ended, so the best are not known yet; "
            f"finish it with `{continuing_command(study.folder)}` first"
        )
    search = of_judged_stage(search)
    groups = [search]
    if request.each_setting:
        settings = dict.fromkeys(item.plan.setting for item in search)
        groups = [[item for item in search if item.plan.setting == setting] for setting in settings]
    chosen = [item for group in groups for item in best_searched(group, study.spec.objective, request.best)]
    if not chosen:
        raise UsageError(f"{study.folder.path}: {study.spec.objective.never_given}")
    return chosen


def _named_trial(study: OpenStudy, number: int) -> TrialOutcome:
    """The trial of the search that a user names by its id; an infeasible one may be retrained, too."""
    place = study.folder.path / str(number)
    if number >= len(study.outcomes):
        raise UsageError(f"{place}: trial {number} not found: expected one from 0 to {len(study.outcomes) - 1}")
    found = study.outcomes[number]
    if found.plan.trial_kind != "search":
        searched = (item.plan for item in study.outcomes if item.plan.origin == found.plan.origin)
        first = next((plan.trial for plan in searched if plan.trial_kind == "search"), None)
        raise UsageError(f"{place}: is a retrain of trial {first}; name that one")
    if found.state not in HAS_RESULT:
        raise UsageError(f"{place}: expected a trial that is completed or infeasible, got one that is {found.state}")
    return found


def missing_retrains(study: OpenStudy, chosen: Sequence[TrialOutcome], repeats: int) -> list[PlannedTrial]:
    """The retrains that are not planned yet, repeat by repeat, so that an interrupted call has some of every trial."""
    known = {trial.identity for trial in study.trials}
    first = max(trial.trial for trial in study.trials) + 1
    added: list[PlannedTrial] = []
    for repeat in range(1, repeats + 1):
        for item in chosen:
            plan = item.plan
            if replace(plan, repeat=repeat).identity not in known:
                trial = first + len(added)
                seed = trial_seed(study.spec.training.seed, trial)
                added.append(replace(plan, trial=trial, repeat=repeat, seed=seed, trial_kind="retrain"))
    return added


def _report(
    study: OpenStudy, keys: set[tuple[int, int, int]], options: RunOptions, watcher: Watcher, *, interrupted: bool
) -> RetrainResult:
    # Imports pyarrow, which takes a while: only where there are tables to write.
    from tunectl.session.written_tables import write_tables

    outcomes = refresh_index_at_end(study.folder, study.trials, study.spec.objective, study.index, study.damage)
    warn_of_unread_metrics(study.folder, outcomes, watcher.message)
    with writing_lock(study.folder, watcher.message):
        tables = write_tables(study.folder, study.spec, outcomes, study.index)
    name, objective, damage = study.spec.name, study.spec.objective, study.damage.lines
    again = retrained(outcomes, objective)
    found = [item for item in again if item.searched.plan.origin in keys]
    stage = stage_words(study.spec, min(stage for *_, stage in keys)) if study.spec.search.promote else ""
    result = RetrainResult(name, study.folder, objective, tuple(found), tables.paths, interrupted, damage, stage)
    end_events(
        study.folder,
        watcher.message,
        options.on_event,
        command="retrain",
        exit_code=result.exit_code,
        outcomes=outcomes,
    )
    return result
