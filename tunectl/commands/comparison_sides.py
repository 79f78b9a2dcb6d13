"""One side of a comparison: what a user names as DIR, DIR:SETTING or DIR/TRIAL, and the evidence for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunectl.analysis.comparison.comparison import Candidate, study_deviation
from tunectl.analysis.findings.finding_evidence import named_values, settings_of
from tunectl.analysis.results.retrains import best_searched, retrained
from tunectl.analysis.results.stages import of_judged_stage, of_stage
from tunectl.analysis.results.training_cost import TrainingCost, training_cost
from tunectl.core.errors import UsageError
from tunectl.core.objective import Objective
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import HAS_RESULT, TrialOutcome
from tunectl.core.wording import as_text, counted
from tunectl.language.stage_lengths import stage_words, training_of
from tunectl.session.repeated_searches import never_reached, other_searches, retrain_cost, retrained_best
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.store.provenance import backend_option, original_study_file
from tunectl.store.study_folder import is_study_folder, study_and_trial
from tunectl.store.trial_files import read_result


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: the study folder, the selected trial, its candidate, and the command to retrain it.

    `limit` is the smallest number of steps for which a retrain trained that never reached the objective's target,
    infinite where each reached it. `every` is the number of steps between two evaluations, None where it is not known.
    `evaluated` is the number of examples on which the objective's metric is measured, None where it is not known.
    `search_command` searches its study again with a new seed. `searches` are the costs of the retrains of the best
    trial of each other search of the same study; `notes` say which of these searches are left out. `steps` is the
    length of its trials, and `stage` its stage in words, "" where its study has only one.
    """

    place: str
    trial: int
    candidate: Candidate
    retrain_command: str
    search_command: str
    cost: TrainingCost
    limit: float = math.inf
    every: int | None = None
    evaluated: int | None = None
    searches: tuple[tuple[float, ...], ...] = ()
    notes: tuple[str, ...] = ()
    steps: int = 0
    stage: str = ""


def two_settings(place: str) -> tuple[str, str]:
    """The two settings of a study, each as DIR:SETTING; raises UsageError where it has another number of them."""
    path, setting = _split(place)
    with study_snapshot(path) as study:
        settings = sorted({item.plan.setting for item in study.outcomes})
    if setting is not None or len(settings) != 2:
        raise UsageError(f"{place}: expected two settings to compare, got {len(settings)}; name two as DIR:SETTING")
    return f"{path}:{settings[0]}", f"{path}:{settings[1]}"


def trial_place(place: str) -> tuple[Path, int] | None:
    """The folder and the trial of `DIR/TRIAL`; None where the place is no trial of a study folder."""
    folder, trial = study_and_trial(Path(place))
    return (folder, trial) if trial is not None and is_study_folder(folder) else None


def _split(place: str) -> tuple[Path, str | None]:
    """The folder and the setting; the name of a folder may have a colon, too."""
    path, colon, setting = place.rpartition(":")
    if colon and not is_study_folder(Path(place)) and is_study_folder(Path(path)):
        return Path(path), setting
    return Path(place), None


def side_of(place: str, say: Callable[[str], None]) -> tuple[Objective, Side]:
    """The side that a user names, and the objective of its study; `say` is called with each line about damage.

    Raises UsageError where there is no such setting or trial, or it has no value.
    """
    at_trial = trial_place(place)
    path, asked = _split(place) if at_trial is None else (at_trial[0], None)
    with study_snapshot(path, say) as study:
        setting = None if asked is None else _setting(study, asked, place)
        objective = study.spec.objective
        asked_for = None if at_trial is None else asked_trial(study, at_trial[1], place)
        judged = of_judged_stage(study.outcomes)
        judged = judged if asked_for is None else of_stage(study.outcomes, asked_for.plan.stage)
        outcomes = [item for item in judged if setting is None or item.plan.setting == setting]
        ranked = best_searched(outcomes, objective, len(outcomes))
        if asked_for is None and not ranked:
            raise UsageError(f"{place}: {objective.never_given}")
        chosen = asked_for or ranked[0]
        settings = settings_of(study.spec, study.trials)
    if at_trial is None:
        values = named_values(settings[chosen.plan.setting])
        name = f"{path.name} ({values})" if values else path.name
        again: list[Path | str | int] = [path] if len(settings) == 1 else [path, "--each-setting"]
        again += ["--stage", chosen.plan.stage] if study.spec.search.promote else []
    else:
        name, setting = f"{path.name}/{chosen.plan.trial}", chosen.plan.setting
        again = [path / str(chosen.plan.trial)]
    others = _other_searches(study, chosen.plan.stage, setting, say)
    return objective, _side(study, chosen, name=name, again=again, others=others)


@dataclass(frozen=True, slots=True)
class _Searches:
    """The other searches of a study: costs of the retrains of their best trials, seeds, and what is left out."""

    costs: tuple[tuple[float, ...], ...]
    seeds: Sequence[int]
    notes: tuple[str, ...]


def _side(
    study: StudySnapshot, chosen: TrialOutcome, *, name: str, again: Sequence[Path | str | int], others: _Searches
) -> Side:
    spec, objective, path = study.spec, study.spec.objective, study.folder.path
    found = next((item for item in retrained(study.outcomes, objective) if item.searched is chosen), None)
    retrains = found.retrains if found else ()
    ended = found.ended if found else ()
    of_setting = [item for item in study.outcomes if item.plan.setting == chosen.plan.setting]
    # Other points that a model might have proposed are not known.
    searched = [
        item
        for item in of_setting
        if item.plan.trial_kind == "search"
        and not (item.plan.suggestion or item.plan.stage)
        and item.state in HAS_RESULT
    ]
    costs, of_search = ([retrain_cost(item, objective) for item in items] for items in (ended, searched))
    identical = found is not None and found.identical
    training = training_of(spec, chosen.plan.stage)
    # Promoted trials are a selection, and say nothing about other points.
    deviation = None if chosen.plan.stage else study_deviation(of_search)
    new_seed = max([spec.search.seed, *others.seeds]) + 1
    file, option = original_study_file(study.folder) or "STUDY", backend_option(study.folder)
    return Side(
        str(path),
        chosen.plan.trial,
        Candidate(name, chosen.best_value or 0.0, tuple(costs), deviation, identical),
        tunectl_command("retrain", *again, *option),
        tunectl_command("repeat-search", file, "--search-seed", new_seed, *option),
        training_cost(chosen, retrains, own_code=spec.own_code),
        limit=min((float(item.final_step or 0) for item in ended if never_reached(item, objective)), default=math.inf),
        every=None if spec.own_code else training.eval_every,
        evaluated=_evaluated(study, [chosen, *ended]),
        searches=others.costs,
        notes=(*others.notes, *_stopped_early(of_setting, name)),
        steps=training.max_train_steps,
        stage=stage_words(spec, chosen.plan.stage) if spec.search.promote else "",
    )


def _stopped_early(outcomes: Sequence[TrialOutcome], name: str) -> list[str]:
    """A note where trials beside the chosen one were stopped early, so that a better one may have been among them."""
    stopped = sum(item.state == "stopped" for item in outcomes)
    if not stopped:
        return []
    verb = "was" if stopped == 1 else "were"
    return [f"{counted(stopped, 'trial')} beside {name} {verb} stopped early: where they would have ended is not known"]


def asked_trial(study: StudySnapshot, trial: int, place: str) -> TrialOutcome:
    """The trial of a study that a user names by its id; raises UsageError where it has no result to compare."""
    found = next((item for item in study.outcomes if item.plan.trial == trial), None)
    if found is None:
        raise UsageError(f"{place}: no trial {trial} in this study; it has {counted(len(study.outcomes), 'trial')}")
    if found.plan.trial_kind == "retrain":
        searched = (item for item in study.outcomes if item.plan.origin == found.plan.origin)
        first = next((item.plan.trial for item in searched if item.plan.trial_kind == "search"), None)
        raise UsageError(f"{place}: is a retrain of trial {first}; name that one")
    if found.state != "completed":
        raise UsageError(f"{place}: expected a completed trial, got one that is {found.state}")
    if found.best_value is None:
        raise UsageError(f"{place}: {study.spec.objective.never_given}")
    return found


def _other_searches(study: StudySnapshot, stage: int, setting: int | None, say: Callable[[str], None]) -> _Searches:
    """The other searches, each by its trials of this stage: those of another length are another experiment."""
    found, seeds, notes = [], [], []
    for other in other_searches(study.folder.path, study.spec):
        if other.problem:
            notes.append(f"not weighed as another search: {other.problem}")
            continue
        with study_snapshot(other.folder, say) as repeat:
            objective = repeat.spec.objective
            seeds.append(repeat.spec.search.seed)
            best, costs = retrained_best(repeat, stage, setting)
            judged = of_stage(repeat.outcomes, stage)
        if costs:
            found.append(costs)
        else:
            of_all = best_searched(judged, objective, 1) == best
            words = [] if of_all else ["--each-setting"]
            command = tunectl_command("retrain", other.folder, *words, *backend_option(repeat.folder))
            notes.append(f"the search {other.folder} is not weighed: its best trial has no retrains (`{command}`)")
    return _Searches(tuple(found), seeds, tuple(notes))


def _evaluated(study: StudySnapshot, items: Sequence[TrialOutcome]) -> int | None:
    """The number of examples on which the metric of these trials was measured; None unless all have the same."""
    split = study.spec.objective.metric.partition("/")[0]
    results = [read_result(study.folder.trial(item.plan.trial)) for item in items if item.state == "completed"]
    sizes = {None if result is None else result.evaluated_examples.get(split) for result in results}
    return sizes.pop() if len(sizes) == 1 else None


def _setting(study: StudySnapshot, asked: str, place: str) -> int:
    settings = settings_of(study.spec, study.trials)
    words = [part.strip() for part in asked.split(",")]
    for number, values in settings.items():
        if asked == str(number) or words == [f"{name}={as_text(value)}" for name, value in values.items()]:
            return number
    listed = "\n".join(f"  {number}: {named_values(values)}" for number, values in settings.items())
    raise UsageError(f"{place}: setting {asked} not found; the settings are\n{listed}")
