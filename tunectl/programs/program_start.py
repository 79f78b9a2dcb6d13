"""Starting the program of a trial: the checkpoint to resume from, the values of placeholders, the environment."""

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
from tunectl.core.own_code_request import RESUME, CommandRequest, program_path, variable_of
from tunectl.core.path_errors import system_reason
from tunectl.core.recorded_metrics import RECORD_VARIABLE, RECORDED
from tunectl.core.records import Scalar
from tunectl.core.shortages import patiently, shortage
from tunectl.core.wording import as_text
from tunectl.language.placeholders import AbsentError, command_line, filled
from tunectl.programs import checkpoint_files
from tunectl.programs.checkpoint_steps import is_other_unit, matched
from tunectl.programs.flushed_output import SavedPoint
from tunectl.programs.kept_checkpoints import CheckpointPattern
from tunectl.programs.overwritten_checkpoint import existing_copies
from tunectl.programs.torchrun import RANKS, distributed
from tunectl.programs.unread_output import last_beginning
from tunectl.store.trial_files import read_trial

_PUT_AWAY = ".later"
"""The folder, beside the checkpoints, for those that are put away; patterns do not match hidden folders."""


class Resume(NamedTuple):
    """The checkpoint from which a program resumes.

    `step` is None if only the program knows it; `number` is the number in its name. `is_log_whole` says whether
    everything that was measured until then is still in the log.
    """

    step: int | None
    path: Path
    number: int | None = None
    is_log_whole: bool = True


def checkpoint_to_resume(
    request: CommandRequest, folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]
) -> Resume | None:
    """The checkpoint from which the program resumes, None if there is none or the program takes none.

    Without a checkpoint, all files of earlier attempts are removed. A checkpoint for which `is_safe` is false is put
    away, because not everything that was printed before it is known. Raises NotRegularError if a folder of the trial is
    a link.
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
            found = CheckpointPattern.of(checkpoints, values).found()
            chosen = _with_known_step(_sound(found, folder, is_safe), request, folder)
        if chosen is not None:
            return chosen
    for path in (folder.files, folder.checkpoints):
        real_folders.remove_all(path, folder.study)
    real_folders.made(folder.files, folder.study, inside=folder.path)
    return None


def _sound(found: Mapping[int, Path], folder: TrialFolder, is_safe: Callable[[SavedPoint], bool]) -> Resume | None:
    """The last checkpoint, except one from which the attempt before resumed without progress: it may be damaged."""
    beginning = last_beginning(folder)
    before = beginning.step if beginning is not None and not beginning.was_stopped else None
    steps = sorted(found, reverse=True)
    while steps and not is_safe(SavedPoint.of(steps[0], found[steps[0]])):
        _put_away(found[steps[0]], folder)
        _print_note("it goes on from an earlier checkpoint" if steps[1:] else "it starts over")
        steps = steps[1:]
    if steps and steps[0] == before and all(item.step <= before for item in read_trial(folder).measurements):
        steps = steps[1:]
    return Resume(steps[0], found[steps[0]], steps[0]) if steps else None


def _print_note(what: str) -> None:
    # Without numbers, since the log may be read for metrics.
    sys.stderr.write(f"tunectl: not everything that was printed before the last checkpoint is on the disk; {what}\n")


def _put_away(path: Path, folder: TrialFolder) -> None:
    """Move a checkpoint to where neither the study's pattern nor the program finds it.

    A checkpoint outside the trial's folder is not moved.
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

    It is not sound if it is empty, if the attempt before resumed from it without progress, or if not everything that
    was printed before it is known.
    """
    measurements = read_trial(folder).measurements
    named = {item.checkpoint for item in measurements}
    copies = {step: copy for step, copy in existing_copies(folder).items() if copy.name in named}
    beginning = last_beginning(folder)
    is_torn = beginning is not None and not beginning.was_stopped and beginning.mark == mark_of(path, folder)
    if not is_torn and any(size for _, size, _ in checkpoint_files.stamp(path).values()):
        step = next((step for step, copy in copies.items() if checkpoint_files.is_same(path, copy)), None)
        if step is not None or is_safe(SavedPoint.of(None, path)):
            return Resume(step, path)
        _put_away(path, folder)
        _print_note("it goes on from an earlier checkpoint" if copies else "it starts over")
    checkpoint_files.remove(path, folder)
    last = max(copies, default=None)
    if last is None or not checkpoint_files.copy(copies[last], path, folder):
        return None
    return Resume(last, path)


def placeholder_values(request: CommandRequest, folder: TrialFolder, resume: Resume | None) -> dict[str, str]:
    """The values of the placeholders in this trial."""
    values = {name: as_text(value) for name, value in request.hyperparameters.items()}
    own = {
        "max_train_steps": str(request.max_train_steps),
        "trial.dir": str(folder.files),
        "trial.id": str(request.trial),
        "trial.seed": str(request.seed),
        "trial.hyperparameters": str(folder.path / "hyperparameters.yaml"),
    }
    return values | own | ({RESUME: str(resume.path)} if resume is not None else {})


def program_variables(request: CommandRequest, values: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that a program gets beside those of this process: every value as TUNECTL_…, where
    `tunectl.record` writes, and the study's variables.
    """
    # Lines must arrive when they are printed, not when a buffer is full.
    found = {"PYTHONUNBUFFERED": "1", **{variable_of(name): text for name, text in values.items()}}
    found[RECORD_VARIABLE] = str(Path(values["trial.dir"]) / RECORDED)
    for name, text in request.program.environment.items():
        with contextlib.suppress(AbsentError):
            found[name] = filled(text, values)
    return found


def _environment(request: CommandRequest, values: Mapping[str, str]) -> dict[str, str]:
    """The program's environment."""
    found = {**os.environ, "PATH": program_path(os.environ), **program_variables(request, values)}
    # It marks the processes of a run. `check` refuses a hyperparameter with this variable.
    found |= {parent_death.MARK: os.environ[parent_death.MARK]} if parent_death.MARK in os.environ else {}
    return found


def program_line(request: CommandRequest, values: Mapping[str, str]) -> tuple[list[str], str]:
    """The arguments of the program, and the folder in which it runs; raises AbsentError where it needs a checkpoint."""
    program = request.program
    line = command_line(program.arguments, values, request.hyperparameters)
    folder = values["trial.dir"] if program.in_trial_folder else program.folder
    if program.in_trial_folder:
        line = [_from_folder(program.folder, text) for text in line]
    if program.devices > 1:
        line = distributed(line, program.devices, Path(values["trial.dir"]) / RANKS)
    return line, folder


def write_hyperparameters(request: CommandRequest, path: Path) -> None:
    """Write the hyperparameters to a file that JSON and YAML 1.1 read in the same way."""
    # Not flushed, since it is written again for every attempt before the program starts.
    lines = [f"  {json.dumps(name)}: {_scalar(value)}" for name, value in request.hyperparameters.items()]
    content = "{\n" + ",\n".join(lines) + "\n}\n"
    write_bytes(path, content.encode(), durable=False, within=TrialFolder(path.parent).study)


def _scalar(value: Scalar) -> str:
    text = json.dumps(value)
    # In YAML 1.1 a number without a decimal point, such as 1e-05, is text.
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text


def _from_folder(folder: str, argument: str) -> str:
    """An argument that names a file in a folder, as an absolute path; other arguments unchanged."""
    is_path = bool(argument) and not argument.startswith(("-", "/"))
    path = str(Path(folder) / argument)
    # Unlike Path.is_file, this is false for a text that is too long for a path.
    return path if is_path and os.path.isfile(path) else argument  # noqa: PTH113


def started(request: CommandRequest, values: Mapping[str, str], log: int) -> subprocess.Popen[bytes]:
    """Start the program; its output goes to the descriptor `log`.

    Raises WorkloadError if it cannot be started, OSError if the machine is short of what a process needs.
    """
    line, folder = program_line(request, values)
    parent, environment = os.getpid(), _environment(request, values)
    # Found here, since the system would search the PATH of this process, not that of the program.
    executable = line[0] if "/" in line[0] else shutil.which(line[0], path=environment["PATH"])

    def ready() -> None:
        # Between fork and exec, in a process of one thread. An ignored signal would stay ignored in the program.
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
                # Its own group, so that its processes can be distinguished from this one.
                process_group=0,
            )
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        if shortage(error):
            raise
        reason = system_reason(error)
        raise WorkloadError(f"the command {line[0]!r} cannot be started in {folder}: {reason}") from error
