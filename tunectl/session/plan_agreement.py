"""The plan of a study folder, with damaged lines of plan.jsonl restored from the rest of the folder.

A line that matches its checksum is used as it is. For a line that is damaged, missing, or has no checksum there are
three other sources: the rows of the index, the request.json of the trial, and the trials that the study plans.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunectl.core import regular_files
from tunectl.core.errors import FolderError, StudyError
from tunectl.core.folders import StudyFolder, trial_of_folder
from tunectl.core.path_errors import path_error
from tunectl.core.records import OF_PROCEDURES, PlannedTrial
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.language.stage_lengths import LENGTH, last_stage
from tunectl.language.study_spec import StudySpec
from tunectl.session.promoted_trials import promoted
from tunectl.space.trial_plan import plan_trials, planned_seed
from tunectl.store.plan_file import PlanLine, plan_lines, read_plan

Planned = Mapping[int, PlannedTrial]

_RANGES_NAMED = 8


@dataclass(frozen=True, slots=True)
class AgreedPlan:
    """The planned trials in the order of their ids.

    `restored` are those whose lines were damaged, missing or changed, and `notes` say so in words. `doubts` are
    contradictions between the sources where it is not known which is right.
    """

    trials: Sequence[PlannedTrial]
    restored: Sequence[int] = ()
    notes: Sequence[str] = ()
    doubts: Sequence[str] = ()


def agreed_plan(
    folder: StudyFolder, spec: StudySpec, stored: Callable[[], Planned], *, at_least: int = 0
) -> AgreedPlan:
    """The plan of a study folder; `stored` reads the plan in the index where it is needed, `at_least` is its length.

    Raises FolderError where the file cannot be read, and where a trial was trained whose plan is found nowhere.
    """
    lines = plan_lines(folder.plan)
    launched = _launched(folder)
    is_sound = all(
        line.is_sealed and line.trial is not None and line.trial.trial == number for number, line in enumerate(lines)
    )
    if not is_sound or max(launched, default=-1) >= len(lines):
        # No trial was trained in an empty folder.
        launched = {number for number in launched if _holds_something(folder.trial(number).path)}
    if is_sound and max(launched, default=-1) < len(lines) and at_least <= len(lines):
        return AgreedPlan(read_plan(folder.plan))
    return _Search(folder, spec, stored()).plan(lines, launched)


def disagreement(request: Mapping[str, Any], trial: PlannedTrial) -> str:
    """The values in which the plan and a request.json differ, in words, "" where they agree."""
    values: dict[str, Any] = {}
    for name in ("configuration", "arguments", "hyperparameters"):
        part = request.get(name)
        values |= part if isinstance(part, dict) else {}
    asked: dict[str, Any] = {name: request[name] for name in ("trial", "seed") if name in request}
    planned: dict[str, Any] = {"trial": trial.trial, "seed": trial.seed}
    whole = request.get("kind") == "command"
    configuration = request.get("configuration")
    trained = configuration if isinstance(configuration, dict) else {}
    for name, value in trial.hyperparameters.items():
        if name in values or whole:
            asked[name], planned[name] = values.get(name), value
    for name, value in trial.schedule.items():
        asked[name], planned[name] = trained.get(name), value
    if trial.stage:
        asked[LENGTH], planned[LENGTH] = request.get(LENGTH), trial.training.get(LENGTH)
    if whole:
        asked |= {name: value for name, value in values.items() if name not in planned}
    differing = [name for name, value in asked.items() if name not in planned or not _same(planned[name], value)]
    parts = [f"{name} is {planned.get(name)!r} in the plan, {asked[name]!r} in the request" for name in differing[:3]]
    return "; ".join(parts)


def named_trials(numbers: Sequence[int]) -> str:
    """The numbers of trials in words: `trial 3`, `trials 0 to 7, 9`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    parts: list[str] = []
    for first, last in ranges[:_RANGES_NAMED]:
        parts += [f"{first} to {last}"] if last > first + 1 else map(str, range(first, last + 1))
    left = sum(last - first + 1 for first, last in ranges[_RANGES_NAMED:])
    more = f" and {left} more" if left else ""
    return f"{'trial' if len(numbers) == 1 else 'trials'} {', '.join(parts)}{more}"


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _launched(folder: StudyFolder) -> set[int]:
    places = (folder.trials, folder.offered, folder.claimed)
    names = [(trial_of_folder(name), name) for place in places for name in _names_in(place)]
    return {trial for trial, name in names if trial is not None and name.split(".")[0] == f"{trial:05d}"}


def _names_in(place: Path) -> list[str]:
    try:
        with os.scandir(place) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise path_error(place, "read", error) from error


def _holds_something(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(entries)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # reading the folder later raises the error


@dataclass
class _Search:
    """The search for the plan of every trial in all sources."""

    folder: StudyFolder
    spec: StudySpec
    stored: Planned
    found: dict[int, PlannedTrial] = field(default_factory=dict)
    lined: dict[int, PlanLine] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    replanned: list[PlannedTrial] | None = None

    def plan(self, lines: Sequence[PlanLine], launched: set[int]) -> AgreedPlan:
        valid = [line for line in lines if line.trial is not None and self._is_possible(line)]
        for line in valid:
            assert line.trial is not None
            known = self.lined.get(line.trial.trial)
            if known is None or (line.is_sealed and not known.is_sealed):
                self.lined[line.trial.trial] = line
        behind = 0
        for line in reversed(lines):
            if line in valid:
                break
            behind += 1
        count = max([*self.lined, *launched, *self.stored], default=-1) + 1
        count = max(count, max(self.lined, default=-1) + 1 + behind)
        restored = []
        for number in range(count):
            trial = self._trial(number, was_launched=number in launched)
            if trial is None and number > max([*launched, *self.lined], default=-1):
                break  # a damaged line of a trial that was never launched, and is in no other source
            if trial is None:
                raise self._unknown(number, launched)
            self.found[number] = trial
            line_of = self.lined.get(number)
            if line_of is None or line_of.trial != trial:
                restored.append(number)
        self._check_identities()
        if restored:
            self.notes.append(self._in_words(restored))
        return AgreedPlan(list(self.found.values()), restored, self.notes, list(self._doubts()))

    def _unknown(self, number: int, launched: set[int]) -> FolderError:
        """The error for a trial that is in no source, with the trial folder that shows that there was such a trial."""
        found = min((trial for trial in launched if trial >= number), default=None)
        what, damaged = "is missing and has", "The plan is damaged"
        if found is not None:
            what = f"has a folder ({self.folder.trial(found).path}) but"
            damaged = "If that folder does not belong to this study, move it away; else the plan is damaged"
        return FolderError(
            f"{self.folder.plan}: trial {number if found is None else found} {what} no plan anywhere "
            f"in the study folder. {damaged}: restore the file from a copy, or give another --dir."
        )

    def _is_possible(self, line: PlanLine) -> bool:
        """Whether a line can belong to the study: only a procedure has sweeps, and a repeat in a study is a retrain."""
        trial = line.trial
        if trial is None or line.is_sealed or self._is_procedure(trial):
            return trial is not None
        return trial.trial_kind == ("retrain" if trial.repeat else "search")

    def _is_procedure(self, trial: PlannedTrial) -> bool:
        return self.folder.procedure.exists() or trial.trial_kind in OF_PROCEDURES

    def _trial(self, number: int, *, was_launched: bool) -> PlannedTrial | None:
        line, stored = self.lined.get(number), self.stored.get(number)
        if line is not None and (line.is_sealed or line.trial == stored):
            return line.trial
        request = self._request(number)
        # A row of the index has its checksum, the line has none: the request may agree with both.
        candidates = [item for item in (stored, line.trial if line is not None else None) if item is not None]
        if request is None:
            # A trial with results but without a request was imported: the study cannot plan it again.
            again = () if was_launched else self._planned_again(number, None)
            return next(iter([*candidates, *again]), None)
        for item in (*candidates, *self._planned_again(number, request)):
            if not disagreement(request, item) and self._has_length(item, request):
                return item
        return candidates[0] if candidates else None

    def _has_length(self, trial: PlannedTrial, request: Mapping[str, Any]) -> bool:
        """Whether a request asks for the length of a trial: a promoted one may have the values and the seed of another.

        A study without stages has trials of one length, and a procedure says of each what it trains.
        """
        if not self.spec.search.promote or self._is_procedure(trial):
            return True
        length = trial.training.get(LENGTH, self.spec.training.max_train_steps)
        return bool(request.get(LENGTH, length) == length)

    def _request(self, number: int) -> dict[str, Any] | None:
        try:
            return sealed_object(regular_files.content(self.folder.trial(number).request))
        except (OSError, DamagedError):
            return None

    def _planned_again(self, number: int, request: Mapping[str, Any] | None) -> Iterator[PlannedTrial]:
        """The trials of the study that could have this number: of its search, or promoted or trained again."""
        if any(self._is_procedure(line.trial) for line in self.lined.values() if line.trial is not None):
            return
        if self.replanned is None:
            try:
                self.replanned = plan_trials(self.spec)
            except StudyError:
                self.replanned = []
        elsewhere = {line.trial.identity for line in self.lined.values() if line.trial is not None}
        elsewhere -= {line.trial.identity for line in (self.lined.get(number),) if line and line.trial is not None}
        elsewhere |= {trial.identity for trial in self.found.values()}
        seed = planned_seed(self.spec, number)
        for trial in self.replanned:
            if trial.identity not in elsewhere:
                yield replace(trial, trial=number, seed=seed)
                if request is None:
                    return
        for trial in self.found.values() if request is not None else ():
            if trial.trial_kind == "search":
                if trial.stage < last_stage(self.spec):
                    longer = promoted(self.spec, trial, number)
                    yield from () if longer.identity in elsewhere else (longer,)
                repeat = next(n for n in range(1, number + 2) if replace(trial, repeat=n).identity not in elsewhere)
                yield replace(trial, trial=number, repeat=repeat, seed=seed, trial_kind="retrain")

    def _check_identities(self) -> None:
        seen: dict[tuple[int, int, int, int], int] = {}
        for trial in self.found.values():
            earlier = seen.setdefault(trial.identity, trial.trial)
            if earlier != trial.trial:
                raise FolderError(
                    f"{self.folder.plan}: trial {trial.trial} has the setting, point and repeat of trial {earlier}. "
                    "The plan is damaged; restore the file from a copy, or give another --dir."
                )

    def _doubts(self) -> Iterator[str]:
        """Contradictions in what request.json does not have and a line without a checksum may have wrong.

        That is the setting, the point, and the trial of which another one is a retrain.
        """
        trials = [item for item in self.found.values() if not self._is_procedure(item)]
        names = [name for name in self.spec.names if any(item.makes_settings for item in self.spec.alternatives(name))]
        of_search = {item.origin: item for item in trials if item.trial_kind == "search"}
        of_setting: dict[int, PlannedTrial] = {}
        for trial in trials:
            first, original = of_setting.setdefault(trial.setting, trial), of_search.get(trial.origin)
            what = ""
            if any(first.hyperparameters.get(name) != trial.hyperparameters.get(name) for name in names):
                what = f"has the setting of trial {first.trial}, and other values of {', '.join(names)}"
            elif trial.trial_kind == "retrain" and original is None:
                what = "is a retrain, and no trial has its setting and point"
            elif original is not None and original.hyperparameters != trial.hyperparameters:
                what = f"is a retrain of trial {original.trial}, and has other values"
            if what:
                yield f"{self.folder.plan}: is damaged: trial {trial.trial} {what}; which is right is not known"

    def _in_words(self, restored: Sequence[int]) -> str:
        whose = "its" if len(restored) == 1 else "their"
        return (
            f"{self.folder.plan}: is damaged: the line of {named_trials(restored)} is missing or wrong; "
            f"{whose} values were recovered from other files in the folder"
        )
