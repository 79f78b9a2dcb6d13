"""The trials of an earlier study from which the sampler bayesian starts, as its folder kept them or as they are now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tunectl.analysis.findings.finding_evidence import StudyEvidence, named_values, settings_of
from tunectl.analysis.search.boundary import search_boundary_findings
from tunectl.core.earlier_trials import EarlierTrial, EarlierTrials
from tunectl.core.errors import FolderError, PathKey, StudyError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Objective
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import HAS_RESULT, PlannedTrial, TrialOutcome
from tunectl.core.wording import counted
from tunectl.language.bayesian_search import MOST_TRIALS
from tunectl.language.identity import differences, training_differences
from tunectl.language.study_spec import StudySpec
from tunectl.session.added_trials import with_added_trials
from tunectl.session.open_study import study_in
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.session.stored_study import stored_in
from tunectl.session.study_evidence import ObjectiveChoice, evidence_of
from tunectl.space.domains import same
from tunectl.space.flat_space import FlatSpace, flat_space
from tunectl.store.earlier_trials_file import kept_trials
from tunectl.store.study_folder import is_study_folder

FEWEST_FINISHED = 20
"""Fewer finished trials of the setting are no exploration: a model of them would be a guess."""

FEWEST_INSIDE = 10
"""Fewer of them inside the study's ranges say too little about these; Optuna begins to model at the same number."""

_AFTER: PathKey = ("search", "after")
_MOST_NAMED = 4


def earlier_trials(spec: StudySpec, current_folder: Path, place: Path | None = None) -> EarlierTrials:
    """The earlier trials of a study with the sampler bayesian: the ones that its folder at `place` has kept, or the
    folder of which it is the copy, else those in the folder that `search.after` names, relative to the study file or to
    the current folder.

    Where both are missing, or the trials in that folder are not enough or do not fit the study, it raises StudyError.
    """
    stored = stored_in(Path(spec.label))
    for folder in (None if place is None else StudyFolder(place), stored):
        if folder is not None and (kept := _kept(spec, folder)) is not None:
            return kept
    after = Path(spec.search.after).expanduser()
    candidates = [spec.file.parent / after, current_folder / after]
    found = next((path for path in candidates if is_study_folder(path)), None)
    if found is None:
        where = " or ".join(dict.fromkeys(str(path) for path in candidates))
        raise _refused(
            spec, f"there is no study folder {where}; name the folder of the study that was run, runs/<study>"
        )
    try:
        with study_snapshot(found) as study:
            return _read(spec, study, str(after))
    except (FolderError, UsageError) as error:
        raise _refused(spec, f"{after}: {str(error).removeprefix('--objective ')}") from error


def _kept(spec: StudySpec, folder: StudyFolder) -> EarlierTrials | None:
    """The earlier trials that the folder has kept, None where the study was another one when they were read."""
    kept = kept_trials(folder)
    if kept is None:
        return None
    try:
        changed = differences(study_in(folder, spec.name), with_added_trials(spec, folder))
    except FolderError:
        return None
    return None if changed.results or changed.objective else kept


def _read(spec: StudySpec, study: StudySnapshot, label: str) -> EarlierTrials:
    if study.runner_alive:
        raise _refused(spec, f"{label} is still running; begin when all its trials have ended")
    different = training_differences(study.spec, spec)
    if different:
        listed = "; ".join(different[:_MOST_NAMED])
        raise _refused(
            spec, f"the trials of {label} were trained in another way ({listed}): they are no data for this study"
        )
    space = flat_space(spec)
    setting, name = _setting(spec, study, space, label)
    # Of the trials that are taken: those of a later stage are a few of them.
    evidence, outcomes = evidence_of(study, _choice(spec.objective, study.spec.objective), stage=0)
    _check_boundaries(spec, evidence, setting, space, label)
    ended = [item for item in outcomes if is_data(item.plan) and item.state in HAS_RESULT]
    own = [_earlier(item, label) for item in ended if item.plan.setting == setting]
    found = [*_known(spec, study, label), *own]
    if len(found) < FEWEST_FINISHED:
        of = f" of {name}" if name else ""
        more = evidence.continuing_command
        raise _refused(
            spec,
            f"{counted(len(found), 'trial')}{of} in {label} {'has' if len(found) == 1 else 'have'} ended; expected at "
            f"least {FEWEST_FINISHED}: raise its search.trials and `{more}`",
        )
    return _inside(spec, space, EarlierTrials(label, name, tuple(found)))


def _inside(spec: StudySpec, space: FlatSpace, given: EarlierTrials) -> EarlierTrials:
    """The trials inside the study's space; raises StudyError where they are too few, or none has a value."""
    inside: list[EarlierTrial] = []
    reasons: Counter[str] = Counter()
    for item in given.trials:
        place = space.place(item.hyperparameters)
        if isinstance(place, str):
            reasons[place] += 1
        else:
            inside.append(item)
    left_out = dict(reasons.most_common())
    if len(inside) < FEWEST_INSIDE:
        why = ", ".join(f"{number} where {reason}" for reason, number in left_out.items())
        raise _refused(
            spec,
            f"{len(inside)} of the {len(given.trials)} trials in {given.folder} are inside this study's space (left "
            f"out: {why}); expected at least {FEWEST_INSIDE}: take its values and ranges, or explore these first",
        )
    if len(inside) > MOST_TRIALS:
        raise _refused(
            spec,
            f"{len(inside):,} trials in {given.folder} are inside this study's space; expected at most {MOST_TRIALS:,} "
            "for a model: search narrower ranges around the best of them",
        )
    if not any(item.state == "completed" and item.value is not None for item in inside):
        raise _refused(spec, f"{given.folder}: {spec.objective.never_given}: there is nothing to improve on")
    return EarlierTrials(given.folder, given.setting, tuple(inside), left_out)


def _setting(spec: StudySpec, study: StudySnapshot, space: FlatSpace, label: str) -> tuple[int, str]:
    """The setting of the earlier study that has this study's values: its number, and its name where it has several."""
    settings = settings_of(study.spec, study.trials)
    sampled = {item.name: item for item in space.items}
    values = space.fixed
    fitting = []
    for number, own in settings.items():
        fits = [
            sampled[name].domain.contains(value) if name in sampled else name in values and same(values[name], value)
            for name, value in own.items()
        ]
        if all(fits):
            fitting.append(number)
    listed = "; ".join(named_values(own) for own in list(settings.values())[: 2 * _MOST_NAMED])
    if not settings:
        raise _refused(spec, f"{label} has no trials")
    if not fitting:
        raise _refused(spec, f"no setting of {label} has this study's values; its settings are: {listed}")
    if len(fitting) > 1:
        several = " and ".join(named_values(settings[number]) for number in fitting[:_MOST_NAMED])
        names = " and ".join(dict.fromkeys(name for number in fitting for name in settings[number] if name in sampled))
        raise _refused(spec, f"several settings of {label} fit ({several}): give {names} one value")
    return fitting[0], named_values(settings[fitting[0]]) if len(settings) > 1 else ""


def _known(spec: StudySpec, study: StudySnapshot, label: str) -> Sequence[EarlierTrial]:
    """The trials that the earlier study itself started from."""
    known = kept_trials(study.folder)
    if known is not None and study.spec.objective != spec.objective:
        raise _refused(
            spec,
            f"{label} started from earlier trials judged by {study.spec.objective.title}, and this study is judged by "
            f"{spec.objective.title}: take the same objective, or name the study that explored",
        )
    return known.trials if known is not None else ()


def is_data(trial: PlannedTrial) -> bool:
    """Whether a trial is one of the search, at its first length: retrains and promoted trials are other experiments."""
    return trial.trial_kind == "search" and trial.stage == 0


def _choice(objective: Objective, own: Objective) -> ObjectiveChoice:
    if objective == own:
        return ObjectiveChoice()
    checkpoint = objective.checkpoint if objective.steps_to is None else None
    return ObjectiveChoice(objective.metric, objective.direction, checkpoint, objective.steps_to)


def _check_boundaries(spec: StudySpec, evidence: StudyEvidence, setting: int, space: FlatSpace, label: str) -> None:
    """Raise StudyError while the best trials of the setting crowd an end of a range that this study searches."""
    names = {item.name for item in space.items}
    for finding in search_boundary_findings(evidence.evenly_sampled):
        name = finding.hyperparameters[0]
        if finding.level == "warning" and setting in finding.settings and name.partition("[")[0] in names:
            command = tunectl_command("next", evidence.folder)
            raise _refused(
                spec,
                f"{label} has an open finding search-boundary about {name}: the best values may be outside its range, "
                f"where a model of these trials knows nothing. Explore a wider range first: `{command}`",
            )


def _earlier(item: TrialOutcome, label: str) -> EarlierTrial:
    return EarlierTrial(
        label, item.plan.trial, dict(item.plan.hyperparameters), item.state, item.best_value, item.final_step
    )


def _refused(spec: StudySpec, message: str) -> StudyError:
    return StudyError([spec.problem(_AFTER, message)])
