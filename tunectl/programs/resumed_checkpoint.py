"""The checkpoint from which the program of a trial resumes.

It is the last one, unless not everything is known that was printed before it, or it seems to be damaged: the program
failed with it, by itself, without progress. A program that was killed says nothing about its checkpoint. The program
then goes on from an earlier checkpoint, and the measurements are cut back to that. So what was saved later must not
count in any later attempt, whose measurements would lack the steps in between: it is put away, or where tunectl cannot
move it, noted (see `unread_output`), and does not count until the program writes it again.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tunectl.core import real_folders, regular_files
from tunectl.core.folders import TrialFolder
from tunectl.core.own_code_request import CommandRequest
from tunectl.language.placeholders import filled
from tunectl.programs import checkpoint_files
from tunectl.programs.checkpoint_steps import is_other_unit, matched
from tunectl.programs.flushed_output import SavedPoint
from tunectl.programs.kept_checkpoints import CheckpointPattern
from tunectl.programs.overwritten_checkpoint import existing_copies
from tunectl.programs.program_start import placeholder_values
from tunectl.programs.unread_output import beginnings
from tunectl.store.trial_files import read_trial

_PUT_AWAY = ".later"
"""The folder, beside the checkpoints, for those that are put away; patterns do not match hidden folders."""


class Resume(NamedTuple):
    """The checkpoint from which a program resumes.

    `step` is None if only the program knows it; `number` is the number in its name. `went_back`: the last one seems to
    be damaged. `is_log_whole` says whether everything that was measured until then is still in the log.
    """

    step: int | None
    path: Path
    number: int | None = None
    went_back: bool = False
    is_log_whole: bool = True


def checkpoint_to_resume(
    request: CommandRequest, folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]
) -> Resume | None:
    """The checkpoint from which the program resumes, None if there is none or the program takes none.

    Without a checkpoint, all files of earlier attempts are removed. Later checkpoints than the chosen one are put away;
    so are those for which `is_safe` is false, because not everything that was printed before them is known. Raises
    NotRegularError if a folder of the trial is a link.
    """
    for path in (folder.files, folder.checkpoints):
        # The program writes there, and this function may remove all of it: neither may be a link.
        with contextlib.suppress(FileNotFoundError), real_folders.opened(path, folder.study):
            pass
    checkpoints = request.program.checkpoints
    if request.program.can_resume and checkpoints is not None:
        values = placeholder_values(request, folder, None)
        if checkpoints.is_one:
            chosen = _sound_one(Path(filled(checkpoints.path, values)), folder, is_safe)
        else:
            found = _counting(CheckpointPattern.of(checkpoints, values).found(), folder)
            chosen = _with_known_step(_sound(found, folder, is_safe), request, folder)
        if chosen is not None:
            return chosen
    for path in (folder.files, folder.checkpoints):
        real_folders.remove_all(path, folder.study)
    real_folders.made(folder.files, folder.study, inside=folder.path)
    return None


def later_checkpoints(request: CommandRequest, folder: TrialFolder, resume: Resume | None) -> frozenset[str]:
    """The checkpoints that are left where the program starts from `resume`, and that do not count for it: later ones,
    or without a checkpoint to resume from all, outside the trial's folder, where tunectl moves and removes nothing.
    """
    checkpoints = request.program.checkpoints
    if checkpoints is None or not request.program.can_resume:
        return frozenset()
    values = placeholder_values(request, folder, None)
    if not checkpoints.is_one:
        found = CheckpointPattern.of(checkpoints, values).found().items()
        last = None if resume is None else resume.number
        return frozenset(_named(number, path) for number, path in found if last is None or number > last)
    path = Path(filled(checkpoints.path, values))
    return frozenset([_named(0, path)] if resume is None and path.exists() else [])


def _named(number: int, path: Path) -> str:
    """A checkpoint as it is now, in one word; 0 is the number of one that has none."""
    return f"{number}:{SavedPoint.of(number, path).mark}"


def _counting(found: Mapping[int, Path], folder: TrialFolder) -> dict[int, Path]:
    """The checkpoints without those that the attempt before did not count, and that have not been written since."""
    known = beginnings(folder)
    skipped = known[-1].skipped if known else frozenset()
    return {number: path for number, path in found.items() if not skipped or _named(number, path) not in skipped}


class _Doubt(NamedTuple):
    """What the attempts before say about the checkpoint that the last one of them began with.

    `failures` is how often in a row the program failed with it, by itself, without progress. `went_back`: a later
    checkpoint was given up before, so that most likely another thing is the cause.
    """

    number: int | None
    mark: str = ""
    failures: int = 0
    went_back: bool = False

    def is_damaged(self, *, is_last: bool) -> bool:
        """Whether it seems to be damaged; the last one that there is gets a second try."""
        return not self.went_back and self.failures > int(is_last)


def _doubt(folder: TrialFolder) -> _Doubt:
    known = beginnings(folder)
    if not known:
        return _Doubt(None)
    before = known[-1]
    same = itertools.takewhile(
        lambda item: item.failed and (item.number, item.step) == (before.number, before.step), reversed(known)
    )
    return _Doubt(before.number, before.mark, len(list(same)), before.went_back)


def _sound(found: Mapping[int, Path], folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]) -> Resume | None:
    """The last checkpoint that is safe and does not seem to be damaged."""
    doubt, steps = _doubt(folder), sorted(found, reverse=True)
    while steps and not is_safe(SavedPoint.of(steps[0], found[steps[0]])):
        _put_away(found[steps[0]], folder)
        _print_note("it goes on from an earlier checkpoint" if steps[1:] else "it starts over")
        steps = steps[1:]
    is_same = bool(steps) and doubt.number == steps[0]
    went_back = is_same and doubt.went_back
    if is_same and doubt.is_damaged(is_last=not steps[1:]):
        _put_away(found[steps[0]], folder)
        steps, went_back = steps[1:], True
    return Resume(steps[0], found[steps[0]], steps[0], went_back) if steps else None


def _print_note(what: str) -> None:
    # Without numbers, since the log may be read for metrics.
    sys.stderr.write(f"tunectl: not everything that was printed before the last checkpoint is on the disk; {what}\n")


def _put_away(path: Path, folder: TrialFolder) -> None:
    """Move a checkpoint to where neither the study's pattern nor the program finds it.

    A checkpoint outside the trial's folder is not moved: see `later_checkpoints`.
    """
    real = checkpoint_files.own_path(path, folder)
    if real is None:
        return
    place, study = real.parent / _PUT_AWAY, Path(os.path.realpath(folder.study))
    checkpoint_files.remove(place / real.name, folder)
    try:
        real_folders.made(place, study, inside=real.parent)
        real_folders.move(real, place / real.name, study)
    except OSError:
        checkpoint_files.remove(real, folder)  # the program must not find it


def remove_put_away(request: CommandRequest, folder: TrialFolder) -> None:
    """Remove the checkpoints that were put away, once the trial has its result without them."""
    checkpoints = request.program.checkpoints
    if checkpoints is None or not request.program.can_resume:
        return
    values = placeholder_values(request, folder, None)
    if checkpoints.is_one:
        pattern = glob.escape(filled(checkpoints.path, values))
    else:
        pattern = CheckpointPattern.of(checkpoints, values).glob
    home, name = os.path.split(pattern)
    for path in glob.glob(os.path.join(home, _PUT_AWAY, name), recursive=True):  # noqa: PTH118, PTH207  (a pattern)
        checkpoint_files.remove(Path(path), folder)
        checkpoint_files.remove_empty(Path(path).parent, folder)


def mark_of(path: Path, folder: TrialFolder) -> str:
    """A hash of a checkpoint without a step, and of everything that was measured until then."""
    found = hashlib.sha256(repr(sorted(checkpoint_files.stamp(path).items())).encode())
    with contextlib.suppress(OSError):
        found.update(regular_files.content(folder.measurements, largest=regular_files.LARGEST_LINES_BYTES))
    return found.hexdigest()


def _with_known_step(found: Resume | None, request: CommandRequest, folder: TrialFolder) -> Resume | None:
    """The checkpoint with the step as the metrics count it, if the number in its name has another unit."""
    measurements, metric = read_trial(folder).measurements, request.objective.metric
    last = max((item.step for item in measurements), default=None)
    if found is None or found.step is None or not is_other_unit([found.step], last, request.max_train_steps):
        return found
    evaluations = [(item.step, item.metrics) for item in measurements if metric in item.metrics]
    step = matched({found.step: found.path}, evaluations, metric).get(found.step)
    # Counting can only go on from a known step.
    return None if step is None and request.program.counts_steps else found._replace(step=step)


def _sound_one(path: Path, folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]) -> Resume | None:
    """The one file that a program overwrites, or the last copy in its place if it is not sound.

    It is not sound if it is empty, if it seems to be damaged, or if not everything that was printed before it is known.
    """
    measurements = read_trial(folder).measurements
    named = {item.checkpoint for item in measurements}
    copies = {step: copy for step, copy in existing_copies(folder).items() if copy.name in named}
    doubt = _doubt(folder)
    is_same = doubt.mark == mark_of(path, folder)
    is_torn = not _counting({0: path}, folder) or (is_same and doubt.is_damaged(is_last=not copies))
    if not is_torn and any(size for _, size, _ in checkpoint_files.stamp(path).values()):
        step = next((step for step, copy in copies.items() if checkpoint_files.is_same(path, copy)), None)
        if step is not None or is_safe(SavedPoint.of(None, path)):
            return Resume(step, path, went_back=is_same and doubt.went_back)
        _put_away(path, folder)
        _print_note("it goes on from an earlier checkpoint" if copies else "it starts over")
    checkpoint_files.remove(path, folder)
    last = max(copies, default=None)
    if last is None or not checkpoint_files.copy(copies[last], path, folder):
        return None
    return Resume(last, path, went_back=True)
