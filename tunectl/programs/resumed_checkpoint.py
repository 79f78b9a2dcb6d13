"""The checkpoint from which the program of a trial resumes.

It is the last one, unless not everything is known that was printed before it, or it seems to be damaged: the program
failed with it, by itself, before it measured anything. A program that was killed says nothing about its checkpoint. The
program then goes on from an earlier checkpoint, and the measurements are cut back to that. So what was saved later must
not count in any later attempt, whose measurements would lack the steps in between: it is put away, or where tunectl
cannot move it, noted (see `unread_output`), and does not count until the program writes it again.

Another thing than the checkpoint may be the cause, such as data that is not mounted. So no more than one is given up in
a row; the only one there is is tried twice, and what there is of the trial is then set aside while the program starts
over. If it fails so, too, all of that is put back.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import sys
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tunectl.core import real_folders, regular_files
from tunectl.core.folders import SET_ASIDE, TrialFolder
from tunectl.core.own_code_request import CommandRequest
from tunectl.language.placeholders import filled
from tunectl.programs import checkpoint_files
from tunectl.programs.checkpoint_steps import is_other_unit, matched
from tunectl.programs.flushed_output import SavedPoint
from tunectl.programs.kept_checkpoints import CheckpointPattern
from tunectl.programs.overwritten_checkpoint import existing_copies
from tunectl.programs.program_start import placeholder_values
from tunectl.programs.unread_output import Beginning, last_beginning
from tunectl.store.trial_files import read_trial

_PUT_AWAY = ".later"
"""The folder, beside the checkpoints, for those that are put away; patterns do not match hidden folders."""


class Resume(NamedTuple):
    """The checkpoint from which a program resumes.

    `step` is None if only the program knows it; `number` is the number in its name. `failures` and `went_back` are
    those of a Beginning. `is_log_whole` says whether everything that was measured until then is still in the log.
    """

    step: int | None
    path: Path
    number: int | None = None
    failures: int = 0
    went_back: bool = False
    is_log_whole: bool = True


def checkpoint_to_resume(
    request: CommandRequest,
    folder: TrialFolder,
    is_safe: Callable[[SavedPoint], bool],
    *,
    was_put_back: bool = False,
) -> Resume | None:
    """The checkpoint from which the program resumes, None if there is none or the program takes none.

    Without a checkpoint, all files of earlier attempts are removed. Later checkpoints than the chosen one are put away;
    so are those for which `is_safe` is false, because not everything that was printed before them is known.
    `was_put_back`: the answer of `put_back`. Raises NotRegularError if a folder of the trial is a link.
    """
    skipped = frozenset() if was_put_back else _skipped(folder)
    for path in (folder.files, folder.checkpoints):
        # The program writes there, and this function may remove all of it: neither may be a link.
        with contextlib.suppress(FileNotFoundError), real_folders.opened(path, folder.study):
            pass
    checkpoints = request.program.checkpoints
    if _was_setting_aside(folder):
        _set_aside(folder)
    elif request.program.can_resume and checkpoints is not None:
        values = placeholder_values(request, folder, None)
        if checkpoints.is_one:
            chosen = _sound_one(Path(filled(checkpoints.path, values)), folder, is_safe, skipped)
        else:
            found = CheckpointPattern.of(checkpoints, values, skipped).found()
            chosen = _with_known_step(_sound(found, folder, is_safe), request, folder)
        if chosen is not None:
            return chosen._replace(went_back=chosen.went_back or was_put_back)
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
        return frozenset(SavedPoint.of(number, path).word for number, path in found if last is None or number > last)
    path = Path(filled(checkpoints.path, values))
    return frozenset([SavedPoint.of(None, path).word] if resume is None and path.exists() else [])


def _skipped(folder: TrialFolder) -> frozenset[str]:
    """The checkpoints that the attempt before did not count."""
    before = last_beginning(folder)
    return frozenset() if before is None else before.skipped


def _doubt(folder: TrialFolder) -> Beginning:
    """How the attempt before began, without failures where it came further."""
    before = last_beginning(folder) or Beginning(None, 0)
    step = before.step
    has_progress = step is not None and any(item.step > step for item in read_trial(folder).measurements)
    return replace(before, failures=0) if has_progress else before


def _is_damaged(doubt: Beginning, *, is_only_one: bool) -> bool:
    """Whether the checkpoint with which the attempt before began seems to be damaged."""
    return not doubt.went_back and doubt.failures > int(is_only_one)


def _sound(found: Mapping[int, Path], folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]) -> Resume | None:
    """The last checkpoint that is safe and does not seem to be damaged."""
    doubt, steps = _doubt(folder), sorted(found, reverse=True)
    while steps and not is_safe(SavedPoint.of(steps[0], found[steps[0]])):
        _put_away(found[steps[0]], folder)
        _print_note("it goes on from an earlier checkpoint" if steps[1:] else "it starts over")
        steps = steps[1:]
    if not steps:
        return None
    chosen = Resume(steps[0], found[steps[0]], steps[0])
    if doubt.number != steps[0]:
        return chosen
    if not _is_damaged(doubt, is_only_one=len(steps) == 1):
        return chosen._replace(failures=doubt.failures, went_back=doubt.went_back)
    if len(steps) == 1:
        _set_aside(folder)
        return None
    _put_away(found[steps[0]], folder)
    sys.stderr.write(
        "tunectl: the program failed with its last checkpoint, which may be damaged; it goes on from an earlier one\n"
    )
    return Resume(steps[1], found[steps[1]], steps[1], went_back=True)


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


def _set_aside(folder: TrialFolder) -> None:
    """Set aside what there is of the trial: it starts over, and most likely will not need that. Raises OSError.

    After a kill the next attempt finishes it.
    """
    aside, study = _aside(folder, last_beginning(folder)), folder.study
    for other in _asides(folder):
        if other != aside:
            real_folders.remove_all(other, study)
    real_folders.made(aside, study, inside=folder.path)
    for path in _parts(folder):
        if path.exists() and not (aside / path.name).exists():
            real_folders.move(path, aside / path.name, study)
    sys.stderr.write("tunectl: the program failed with its only checkpoint, which may be damaged; it starts over\n")


def _was_setting_aside(folder: TrialFolder) -> bool:
    """Whether it was being set aside for the next attempt, which has not begun."""
    before = last_beginning(folder)
    is_due = before is not None and bool(before.mark) and _is_damaged(before, is_only_one=True)
    return is_due and _aside(folder, before).is_dir()


def _aside(folder: TrialFolder, before: Beginning | None) -> Path:
    return folder.path / f"{SET_ASIDE}{0 if before is None else before.log_bytes}"


def put_back(folder: TrialFolder) -> bool:
    """Put back what was set aside where the program failed without it, too, whose cause is then not the checkpoint.

    Gives whether that is so. To be called before anything of the trial is read. The empty folder stays: after a kill
    the next call gives the same.
    """
    before, asides = last_beginning(folder), _asides(folder)
    if before is None or before.number is not None or before.mark or not before.failures or not asides:
        return False
    for path in _parts(folder):
        if (asides[0] / path.name).exists():
            real_folders.remove_all(path, folder.study)
            real_folders.move(asides[0] / path.name, path, folder.study)
    sys.stderr.write("tunectl: the program failed without its checkpoint, too; it goes on from that again\n")
    return True


def _parts(folder: TrialFolder) -> tuple[Path, ...]:
    return folder.checkpoints, folder.measurements, folder.files


def _asides(folder: TrialFolder) -> list[Path]:
    return sorted(folder.path.glob(f"{SET_ASIDE}*"))


def has_set_aside(folder: TrialFolder) -> bool:
    """Whether something of the trial is set aside."""
    return any((aside / path.name).exists() for aside in _asides(folder) for path in _parts(folder))


def remove_put_away(request: CommandRequest, folder: TrialFolder) -> None:
    """Remove the checkpoints that were put away, and what was set aside, once the trial has its result without them."""
    for aside in _asides(folder):
        real_folders.remove_all(aside, folder.study)
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


def _sound_one(
    path: Path, folder: TrialFolder, is_safe: Callable[[SavedPoint], bool], skipped: Container[str]
) -> Resume | None:
    """The one file that a program overwrites, or the last copy in its place if it is not sound.

    It is not sound if it is empty, if it seems to be damaged, or if not everything that was printed before it is known.
    """
    measurements = read_trial(folder).measurements
    named = {item.checkpoint for item in measurements}
    copies = {step: copy for step, copy in existing_copies(folder).items() if copy.name in named}
    doubt = _doubt(folder)
    doubt = doubt if doubt.mark == mark_of(path, folder) else Beginning(None, 0)
    is_damaged = _is_damaged(doubt, is_only_one=not copies)
    counts = SavedPoint.of(None, path).word not in skipped
    if is_damaged and not copies:
        _set_aside(folder)
        return None
    if counts and not is_damaged and any(size for _, size, _ in checkpoint_files.stamp(path).values()):
        step = next((step for step, copy in copies.items() if checkpoint_files.is_same(path, copy)), None)
        if step is not None or is_safe(SavedPoint.of(None, path)):
            return Resume(step, path, failures=doubt.failures, went_back=doubt.went_back)
        _put_away(path, folder)
        _print_note("it goes on from an earlier checkpoint" if copies else "it starts over")
    checkpoint_files.remove(path, folder)
    last = max(copies, default=None)
    if last is None or not checkpoint_files.copy(copies[last], path, folder):
        return None
    return Resume(last, path, went_back=True)
