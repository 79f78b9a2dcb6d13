"""The files of a study folder that nothing needs any more: which they are, and how much room they take."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunectl.analysis.results.retrains import best_searched
from tunectl.core.errors import FolderError
from tunectl.core.files import target_of
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurement_kinds import EVALUATION
from tunectl.core.records import FINAL, TrialOutcome
from tunectl.core.wording import counted
from tunectl.session.naming_folders import naming_campaigns, naming_folders
from tunectl.session.snapshot import StudySnapshot
from tunectl.store.trial_files import read_trial

_STEP = re.compile(r"step-\d{8,}(\.[\w.+-]*)?")
_RESUME = re.compile(r"resume(\.previous)?\.pt(\.kept-\d+)?")
_KINDS = frozenset({"search", "retrain", "sweep"})
_OLD_SECONDS = 86_400.0
"""A temporary file that was written less than a day ago may be at work."""

WORSE = "checkpoints that are not the best of their trial"
OTHERS = "checkpoints of trials that are not among the best"
RESUME = "resume files of trials that have ended"
TEMPORARY = "temporary files of processes that were killed"
EARLIER = "earlier states of the study"


@dataclass(frozen=True, slots=True)
class CleaningRequest:
    """What may go: of each trial all checkpoints but its `keep` best; with `best` all of the trials that are not among
    that number of best ones of their setting; with `earlier` the states of the study in the folder `earlier`.
    """

    keep: int = 1
    best: int | None = None
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Removable:
    """A file or folder that may go, why, and the bytes that this frees."""

    path: Path
    what: str
    size: int


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What may go, and lines about what stays though one might expect it to go."""

    items: tuple[Removable, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """The bytes that are freed."""
        return sum(item.size for item in self.items)


def removable_files(study: StudySnapshot, request: CleaningRequest, now: float | None = None) -> Cleaning:
    """What may go of a study in whose folder nothing runs; writes nothing.

    Raises FolderError where it is not known which trials are needed.
    """
    notes: list[str] = []
    chosen = _chosen_trials(study, request, notes)
    items: list[Removable] = []
    waiting = damaged = 0
    for item in study.outcomes:
        if item.damage:
            damaged += 1
        elif item.state in FINAL and item.plan.trial_kind in _KINDS:
            items += _of_trial(study, item, request, is_chosen=chosen is None or item.plan.trial in chosen)
        elif item.attempts:
            waiting += 1
    if waiting:
        verb = "keeps" if waiting == 1 else "keep"
        notes.append(f"{counted(waiting, 'trial')} without a result {verb} everything from which a run can go on")
    if damaged:
        notes.append(f"{counted(damaged, 'trial')} with damaged files: nothing of these is removed")
    items += _temporary_files(study.folder, time.time() if now is None else now)
    items += _earlier_states(study.folder, request, notes)
    return Cleaning(tuple(items), tuple(notes))


def _chosen_trials(study: StudySnapshot, request: CleaningRequest, notes: list[str]) -> set[int] | None:
    """The trials whose checkpoints stay; None where no others were asked to go."""
    for named in naming_folders(study.folder):
        if not named.is_finished and "checkpoints" in named.how:
            raise FolderError(f"{study.folder.path}: {named.folder.path} is not finished: {named.how}; finish it first")
    if request.best is None:
        return None
    campaigns, problems = naming_campaigns(study.folder)
    if problems:
        raise FolderError(f"which trials were launched is not known: {problems[0]}")
    launched = {trial for named in campaigns for trial in named.trials}
    if launched:
        notes.append(f"launched in a campaign, so its best checkpoint stays: trial {', '.join(map(str, launched))}")
    settings = dict.fromkeys(item.plan.setting for item in study.outcomes)
    groups = ([item for item in study.outcomes if item.plan.setting == setting] for setting in settings)
    best = [item for group in groups for item in best_searched(group, study.spec.objective, request.best)]
    origins = {item.plan.origin for item in best}
    return launched | {item.plan.trial for item in study.outcomes if item.plan.origin in origins}


def _of_trial(
    study: StudySnapshot, item: TrialOutcome, request: CleaningRequest, *, is_chosen: bool
) -> Iterator[Removable]:
    home = study.folder.trial(item.plan.trial)
    for entry in _entries(home.path):
        if _RESUME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            yield _removable(home.path / entry.name, RESUME)
    kept = _kept_names(study, item, home, request.keep) if is_chosen else set()
    if kept is None:
        return
    for entry in _entries(home.checkpoints):
        if _STEP.fullmatch(entry.name) and entry.name not in kept:
            yield from _of_checkpoint(home, home.checkpoints / entry.name, WORSE if is_chosen else OTHERS)


def _kept_names(study: StudySnapshot, item: TrialOutcome, home: TrialFolder, keep: int) -> set[str] | None:
    """The names of the checkpoints of a trial that stay; None where it is not known which is the best."""
    objective = study.spec.objective
    evaluated = [line for line in read_trial(home).measurements if line.measurement_kind == EVALUATION.name]
    named = {line.step: line.checkpoint for line in evaluated if line.checkpoint and line.step > 0}
    values = [(line.step, line.metrics.get(objective.metric)) for line in evaluated if line.step in named]
    if not named or item.best_checkpoint is None:
        return None
    best = {named[step] for step in objective.best_first(values)[:keep]}
    return {name for name in best if name is not None} | {Path(item.best_checkpoint).name}


def _of_checkpoint(home: TrialFolder, path: Path, what: str) -> Iterator[Removable]:
    """A checkpoint, and where it is a link to what a program wrote in the trial's folder, that, too."""
    if not path.is_symlink():
        yield _removable(path, what)
        return
    target = Path(os.path.normpath(path.parent / path.readlink()))
    # Whether a link on the way leads elsewhere is looked at when it is removed.
    if target.is_relative_to(home.files):
        yield _removable(target, what)
        yield _removable(path, what)


def _temporary_files(folder: StudyFolder, now: float) -> Iterator[Removable]:
    trials = [folder.trials / entry.name for entry in _entries(folder.trials) if entry.is_dir(follow_symlinks=False)]
    for place in (folder.path, *trials, *(TrialFolder(trial).checkpoints for trial in trials)):
        for entry in _entries(place):
            is_ours = target_of(entry.name) is not None and entry.is_file(follow_symlinks=False)
            if is_ours and now - entry.stat(follow_symlinks=False).st_mtime > _OLD_SECONDS:
                yield _removable(place / entry.name, TEMPORARY)


def _earlier_states(folder: StudyFolder, request: CleaningRequest, notes: list[str]) -> Iterator[Removable]:
    if folder.earlier.is_symlink() or not folder.earlier.is_dir():
        return
    found = _removable(folder.earlier, EARLIER)
    if request.earlier:
        yield found
    else:
        notes.append(f"{folder.earlier}: {EARLIER} stay; --earlier removes them")


def _entries(path: Path) -> Sequence[os.DirEntry[str]]:
    """The entries of a folder that is no link, by name; none where there is no such folder."""
    if path.is_symlink():
        return []
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _removable(path: Path, what: str) -> Removable:
    return Removable(path, what, size_of(path))


def size_of(path: Path) -> int:
    """The bytes that removing a file or a folder frees: none for a link, or where the file has another name, too."""
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        return sum(size_of(path / entry.name) for entry in _entries(path))
    return status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0
