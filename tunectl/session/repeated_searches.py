"""Studies that were searched again with another search seed: `<study>.search-1` beside `<study>`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunectl.analysis.comparison.comparison import NOT_REACHED
from tunectl.analysis.comparison.setting_verdicts import OtherSearches
from tunectl.analysis.results.retrains import best_searched, retrained
from tunectl.analysis.results.stages import of_stage
from tunectl.core.errors import FolderError
from tunectl.core.objective import Objective
from tunectl.core.records import TrialOutcome
from tunectl.language.identity import differences
from tunectl.language.study_spec import StudySpec
from tunectl.session.open_study import study_in
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.store.study_folder import open_folder, seems_study_folder

_REPEAT = re.compile(r"(?P<study>.+)\.search-(?P<seed>[0-9]+)")
_MAY_DIFFER = ("study:", "search.seed:", "training.seed:")


def repeat_name(study: str, seed: int) -> str:
    """The name of a study that is searched again with this seed."""
    return f"{searched_name(study)}.search-{seed}"


def searched_name(name: str) -> str:
    """The name of the study that was searched again, of one of its repeats or of itself."""
    found = _REPEAT.fullmatch(name)
    return found["study"] if found else name


@dataclass(frozen=True, slots=True)
class OtherSearch:
    """Another search of the same study: its folder, or why it is not compared with."""

    folder: Path
    problem: str = ""


def other_searches(folder: Path, spec: StudySpec) -> list[OtherSearch]:
    """The other searches of the study in `folder`, which are beside it; those that differ in more than seeds say so."""
    return [
        OtherSearch(path, _difference(path, spec))
        for path in _beside(folder)
        if path.name != folder.absolute().name and searched_name(path.name) == searched_name(folder.absolute().name)
    ]


def never_reached(item: TrialOutcome, objective: Objective) -> bool:
    """Whether a trial completed without reaching the objective's target."""
    return objective.steps_to is not None and item.state == "completed" and item.best_value is None


def retrain_cost(item: TrialOutcome, objective: Objective) -> float:
    """The cost of an ended trial, as comparisons take it."""
    if never_reached(item, objective):
        return NOT_REACHED
    return objective.cost(item.best_value) if item.state == "completed" else math.inf


def retrained_best(
    study: StudySnapshot, stage: int, setting: int | None
) -> tuple[list[TrialOutcome], tuple[float, ...]]:
    """The best trial of a search at a stage, [] without any, and the costs of its retrains; None as the setting means
    all of them.
    """
    objective = study.spec.objective
    of_setting = [item for item in of_stage(study.outcomes, stage) if setting in (None, item.plan.setting)]
    best = best_searched(of_setting, objective, 1)
    again = [item for item in retrained(of_setting, objective) if best and item.searched is best[0]]
    return best, tuple(retrain_cost(item, objective) for one in again for item in one.ended)


def costs_of_other_searches(folder: Path, spec: StudySpec, stage: int, settings: Iterable[int]) -> OtherSearches:
    """By setting, the costs of the retrains of the best trial of each other search, where there are some."""
    found: dict[int, list[tuple[float, ...]]] = {}
    for other in other_searches(folder, spec):
        # One that cannot be read is named by `compare`.
        with suppress(FolderError):
            for setting in settings if not other.problem else ():
                with study_snapshot(other.folder) as repeat:
                    _, costs = retrained_best(repeat, stage, setting)
                found.setdefault(setting, []).extend([costs] if costs else [])
    return found


def _beside(folder: Path) -> Iterator[Path]:
    base = searched_name(folder.absolute().name)
    parent = folder.parent if folder.name else folder.absolute().parent
    names = [parent / base, *parent.glob(f"{_escaped(base)}.search-*")]
    yield from sorted(path for path in names if path.is_dir() and seems_study_folder(path))


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _difference(path: Path, spec: StudySpec) -> str:
    try:
        other = study_in(open_folder(path))
    except FolderError as error:
        return str(error)
    if other.search.trials != spec.search.trials:
        return f"{path}: has {other.search.trials} trials for each setting, not {spec.search.trials}"
    found = differences(spec, other)
    lines = [line for line in (*found.results, *found.objective) if not line.startswith(_MAY_DIFFER)]
    if lines:
        return f"{path}: is another study, not only another search: {lines[0]}"
    if other.search.seed == spec.search.seed:
        return f"{path}: has the same search seed"
    return ""
