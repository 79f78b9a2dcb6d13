"""A program of a trial, started: what it goes on from, what its placeholders stand for, its environment."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tunectl.core import parent_death, real_folders, regular_files
from tunectl.core.errors import WorkloadError
from tunectl.core.files import write_bytes
from tunectl.core.folders import TrialFolder
from tunectl.core.program_request import RESUME, ProgramRequest, program_path, variable_of
from tunectl.core.recorded_metrics import RECORD_VARIABLE, RECORDED
from tunectl.core.records import Scalar
from tunectl.core.shortages import patiently, shortage
from tunectl.language.placeholders import AbsentError, command_line, filled, value_text
from tunectl.programs import file_contents
from tunectl.programs.checkpoint_steps import is_other_unit, matched
from tunectl.programs.flushed_output import SavedPoint
from tunectl.programs.kept_checkpoints import CheckpointPattern
from tunectl.programs.late_output import last_beginning
from tunectl.programs.overwritten_checkpoint import existing_copies
from tunectl.programs.torchrun import RANKS, distributed
from tunectl.store.trial_files import read_trial

_PUT_AWAY = ".later"
"""The folder, beside a checkpoint, of those that are later than what is known; no pattern finds hidden folders."""


class Resume(NamedTuple):
    """The checkpoint from which a program goes on; `step` is None where only the program knows it, `number` that of its
    name. `is_log_whole`: what was measured until then is still in the log.
    """

    step: int | None
    path: Path
    number: int | None = None
    is_log_whole: bool = True


def prepared(request: ProgramRequest, folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]) -> Resume | None:
    """The checkpoint from which the program goes on, where it takes one and there is one; all that an earlier attempt
    left is removed otherwise. Raises NotRegularError where a folder of the trial is a link.

    Where not all that was printed before a checkpoint is known (not `is_safe`), it is put out of the way.
    """
    _refuse_links(folder)
    checkpoints = request.program.checkpoints
    if request.program.goes_on and checkpoints is not None:
        values = placeholder_values(request, folder, None)
        if checkpoints.is_one:
            chosen = _sound_one(Path(filled(checkpoints.path, values)), folder, is_safe)
        else:
            found = CheckpointPattern.of(checkpoints, values).found()
            chosen = _with_known_step(_sound(found, folder, is_safe), request, folder)
        if chosen is not None:
            return chosen
    for path in (folder.files, folder.checkpoints):
        real_folders.remove_all(path, folder.study)
    real_folders.made(folder.files, folder.study)
    return None


def _refuse_links(folder: TrialFolder) -> None:
    """What the program writes to, and what is removed, must lie in the trial's folder."""
    for path in (folder.files, folder.checkpoints):
        with contextlib.suppress(FileNotFoundError), real_folders.opened(path, folder.study):
            pass


def _sound(found: Mapping[int, Path], folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]) -> Resume | None:
    """The last checkpoint, but for one from which the attempt before went on and came no further: it may be torn."""
    beginning = last_beginning(folder)
    before = beginning.step if beginning is not None and not beginning.was_stopped else None
    steps = sorted(found, reverse=True)
    while steps and not is_safe(SavedPoint.of(steps[0], found[steps[0]])):
        _put_away(found[steps[0]], folder)
        _say("it goes on from an earlier checkpoint" if steps[1:] else "it starts over")
        steps = steps[1:]
    if steps and steps[0] == before and all(item.step <= before for item in read_trial(folder).measurements):
        steps = steps[1:]
    return Resume(steps[0], found[steps[0]], steps[0]) if steps else None


def _say(what: str) -> None:
    # Without a number: what is in the log may be read for metrics.
    sys.stderr.write(f"tunectl: what was printed before the last checkpoint is not all on the disk; {what}\n")


def _put_away(path: Path, folder: TrialFolder) -> None:
    """Move a checkpoint to where neither the study's pattern nor the program finds it.

    One that lies outside of the trial's folder stays where it is.
    """
    real = file_contents.own_path(path, folder)
    if real is None:
        return
    place, study = real.parent / _PUT_AWAY, Path(os.path.realpath(folder.study))
    file_contents.remove(place / real.name, folder)
    try:
        real_folders.made(place, study)
        real_folders.move(real, place / real.name, study)
    except OSError:
        file_contents.remove(real, folder)  # it must not be taken for the last one


def remove_put_away(request: ProgramRequest, folder: TrialFolder) -> None:
    """Remove the checkpoints that were put out of the way, once the trial has its result without them."""
    checkpoints = request.program.checkpoints
    if checkpoints is None or not request.program.goes_on:
        return
    values = placeholder_values(request, folder, None)
    if checkpoints.is_one:
        pattern = glob.escape(filled(checkpoints.path, values))
    else:
        pattern = CheckpointPattern.of(checkpoints, values).glob
    home, name = os.path.split(pattern)
    for path in glob.glob(os.path.join(home, _PUT_AWAY, name), recursive=True):  # noqa: PTH118, PTH207  (a pattern)
        file_contents.remove(Path(path), folder)
        file_contents.remove_empty(Path(path).parent, folder)


def mark_of(path: Path, folder: TrialFolder) -> str:
    """What a checkpoint without a step is known by, beside all that was measured by then."""
    found = hashlib.sha256(repr(sorted(file_contents.stamp(path).items())).encode())
    with contextlib.suppress(OSError):
        found.update(regular_files.content(folder.measurements, largest=regular_files.LARGEST_LINES_BYTES))
    return found.hexdigest()


def _with_known_step(found: Resume | None, request: ProgramRequest, folder: TrialFolder) -> Resume | None:
    """The same, with the step as the metrics count it where the name is a number of another unit."""
    measurements, metric = read_trial(folder).measurements, request.objective.metric
    last = max((item.step for item in measurements), default=None)
    if found is None or found.step is None or not is_other_unit([found.step], last, request.max_train_steps):
        return found
    evaluations = [(item.step, item.metrics) for item in measurements if metric in item.metrics]
    step = matched({found.step: found.path}, evaluations, metric).get(found.step)
    # What is counted can only go on from a step that is known.
    return None if step is None and request.program.counts_steps else found._replace(step=step)


def _sound_one(path: Path, folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]) -> Resume | None:
    """The one file that a program writes again and again; where it is not sound, the last copy in its place.

    It is not where nothing is in it, where the attempt before went on from it and came no further, or where not all
    that was printed before it is known.
    """
    measurements = read_trial(folder).measurements
    named = {item.checkpoint for item in measurements}
    copies = {step: copy for step, copy in existing_copies(folder).items() if copy.name in named}
    beginning = last_beginning(folder)
    is_torn = beginning is not None and not beginning.was_stopped and beginning.mark == mark_of(path, folder)
    if not is_torn and any(size for _, size, _ in file_contents.stamp(path).values()):
        step = next((step for step, copy in copies.items() if file_contents.is_same(path, copy)), None)
        if step is not None or is_safe(SavedPoint.of(None, path)):
            return Resume(step, path)
        _put_away(path, folder)
        _say("it goes on from an earlier checkpoint" if copies else "it starts over")
    file_contents.remove(path, folder)
    last = max(copies, default=None)
    if last is None or not file_contents.copy(copies[last], path, folder):
        return None
    return Resume(last, path)


def placeholder_values(request: ProgramRequest, folder: TrialFolder, resume: Resume | None) -> dict[str, str]:
    """What the placeholders of this trial stand for."""
    values = {name: value_text(value) for name, value in request.hyperparameters.items()}
    own = {
        "max_train_steps": str(request.max_train_steps),
        "trial.dir": str(folder.files),
        "trial.id": str(request.trial),
        "trial.seed": str(request.seed),
        "trial.hyperparameters": str(folder.path / "hyperparameters.yaml"),
    }
    return values | own | ({RESUME: str(resume.path)} if resume is not None else {})


def _environment(request: ProgramRequest, values: Mapping[str, str]) -> dict[str, str]:
    """The program's environment: this process's, every value as TUNECTL_…, and what the study adds."""
    # Lines must come as they are printed, not when a buffer is full.
    found = {**os.environ, "PYTHONUNBUFFERED": "1", "PATH": program_path(os.environ)}
    found |= {variable_of(name): text for name, text in values.items()}
    # By it the processes of a run are found; `check` refuses a hyperparameter whose variable it would be.
    found |= {parent_death.MARK: os.environ[parent_death.MARK]} if parent_death.MARK in os.environ else {}
    found[RECORD_VARIABLE] = str(Path(values["trial.dir"]) / RECORDED)
    for name, text in request.program.environment.items():
        with contextlib.suppress(AbsentError):
            found[name] = filled(text, values)
    return found


def write_hyperparameters(request: ProgramRequest, path: Path) -> None:
    """A file that both JSON and YAML 1.1 read alike."""
    # Not flushed: it is made anew for every attempt, before the program starts.
    lines = [f"  {json.dumps(name)}: {_scalar(value)}" for name, value in request.hyperparameters.items()]
    content = "{\n" + ",\n".join(lines) + "\n}\n"
    write_bytes(path, content.encode(), durable=False, within=TrialFolder(path.parent).study)


def _scalar(value: Scalar) -> str:
    text = json.dumps(value)
    # To YAML 1.1 a number without a full stop, 1e-05, is text.
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text


def _from_folder(folder: str, argument: str) -> str:
    """An argument that names a file below a folder, absolute; every other one as it is."""
    is_path = bool(argument) and not argument.startswith(("-", "/"))
    path = str(Path(folder) / argument)
    # Unlike Path.is_file, false for what is too long to be a path.
    return path if is_path and os.path.isfile(path) else argument  # noqa: PTH113


def started(request: ProgramRequest, values: Mapping[str, str], log: int) -> subprocess.Popen[bytes]:
    """Start the program; its output goes to the descriptor `log`.

    Raises WorkloadError where it cannot be started, OSError where the machine is short of what a process needs.
    """
    program = request.program
    line = command_line(program.arguments, values, request.hyperparameters)
    folder = values["trial.dir"] if program.in_trial_folder else program.folder
    if program.in_trial_folder:
        line = [_from_folder(program.folder, text) for text in line]
    if request.program.devices > 1:
        line = distributed(line, request.program.devices, Path(values["trial.dir"]) / RANKS)
    parent, environment = os.getpid(), _environment(request, values)
    # Looked for here: the system would search this process's PATH, not the program's.
    executable = line[0] if "/" in line[0] else shutil.which(line[0], path=environment["PATH"])

    def ready() -> None:
        # Between fork and exec, in a process of one thread. What is ignored stays so in a new program.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        parent_death.die_with_parent(parent)

    try:
        return patiently(
            lambda: subprocess.Popen(
                line,
                executable=executable,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=ready,
                # Its own, so that those it started can be told from this process.
                process_group=0,
            )
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        if shortage(error):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise WorkloadError(f"the command {line[0]!r} cannot be started in {folder}: {reason}") from error
