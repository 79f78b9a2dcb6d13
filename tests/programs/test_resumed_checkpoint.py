"""The checkpoint from which a program resumes. Tests programs/resumed_checkpoint.py, with test_command_trial.py."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from program_calls import Programs

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import Checkpoints, CommandRequest, Optional, Program
from tunectl.core.records import TrialResult
from tunectl.programs import command_trial, program_outcome
from tunectl.programs.resumed_checkpoint import checkpoint_to_resume

LENGTH = 12
EXPECTED = [(step, {"loss": 1 / step}) for step in range(1, LENGTH + 1)]

# It saves every second step. The second argument says how the attempt ends: "step 7", once that is printed; "start by
# signal N" or "start by error" before anything is printed.
SAVING = """
import os, sys
pattern, *resume = sys.argv[1:]
first = int(open(resume[0]).read()) if resume else 0
plan = open(sys.argv[0] + ".plan").read().split()
if plan[0] == "signal": os.kill(os.getpid(), int(plan[1]))
if plan[0] == "error": sys.exit("the data is not there")
for step in range(first + 1, 13):
    print(f"step {step} loss {1 / step}", flush=True)
    if step % 2 == 0: open(pattern.replace("STEP", str(step)), "w").write(str(step))
    if plan == ["step", str(step)]: sys.exit("killed")
"""


class Attempts:
    """Runs a program again and again; see SAVING. `place` is where it saves."""

    def __init__(self, programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str, name: str) -> None:
        self._programs, self._count = programs, 0
        self.died: list[int] = []
        monkeypatch.setattr(program_outcome, "_die_by", self.died.append)  # this process is not to die with it
        pattern = f"{place}/{name}"
        self._request = programs.request(
            SAVING,
            pattern.replace("{step}", "STEP"),
            Optional(("{trial.resume}",)),
            checkpoints=Checkpoints(pattern),
            keep_checkpoints=2,
            max_train_steps=LENGTH,
        )

    def run(self, *plans: str) -> TrialResult | None:
        result = None
        for plan in plans:
            self._count += 1
            (self._programs.folder.path.parent / "program.py.plan").write_text(plan)
            result = self._programs.run(replace(self._request, attempt=self._count))
        return result

    def resumed_from(self) -> int | None:
        resume, _, _ = command_trial.prepare_attempt(self._request, self._programs.folder, lambda: 0.0)
        return None if resume is None else resume.step


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


@pytest.fixture(params=["in the trial's folder", "elsewhere"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    return "{trial.dir}" if request.param == "in the trial's folder" else str(elsewhere)


KILL, CRASH, ERROR = f"signal {signal.SIGKILL.value}", f"signal {signal.SIGSEGV.value}", "error"


@pytest.mark.parametrize(
    "between",
    [
        (KILL, KILL, KILL),
        (ERROR, KILL),
        (CRASH, "step 7"),
        (ERROR, "step 7", ERROR, "step 7", ERROR, ERROR, KILL),
    ],
    ids=" then ".join,
)
@pytest.mark.parametrize("name", ["model-{step}.pt", "model.pt"])
def test_no_evaluation_is_missing_after_attempts_that_ended_before_they_measured_anything(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str, name: str, between: Sequence[str]
) -> None:
    """Hazard: a checkpoint of steps that were cut off the measurements, because it was not resumed from."""
    attempts = Attempts(programs, monkeypatch, place, name)
    last = attempts.run("step 9", *between, "to the end")
    assert last is not None
    assert (last.state, programs.measured()) == ("completed", EXPECTED)


def test_a_program_that_was_killed_at_its_start_goes_on_from_the_same_checkpoint(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    attempts = Attempts(programs, monkeypatch, place, "model-{step}.pt")
    attempts.run("step 9", KILL, KILL, KILL)
    assert attempts.died == [signal.SIGKILL] * 3
    assert attempts.resumed_from() == 8


def test_a_program_that_fails_with_two_checkpoints_loses_no_more_of_them(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Another thing is the cause, such as data that is not mounted: it will be there in the end."""
    attempts = Attempts(programs, monkeypatch, place, "model-{step}.pt")
    attempts.run("step 9", *(ERROR,) * 6)
    assert attempts.resumed_from() == 6
    attempts.run("step 9", ERROR)
    assert attempts.resumed_from() == 6, "8 was written again, and may be damaged"


def test_a_checkpoint_that_is_written_again_counts(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    attempts = Attempts(programs, monkeypatch, place, "model-{step}.pt")
    attempts.run("step 9", ERROR)
    assert attempts.resumed_from() == 6
    attempts.run("step 8")
    assert attempts.resumed_from() == 8


@pytest.mark.parametrize("name", ["files", "checkpoints"])
def test_files_of_an_earlier_attempt_that_cannot_be_removed_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = TrialFolder(tmp_path / "trials" / "00007")
    folder.path.mkdir(parents=True)
    for place in (folder.files, folder.checkpoints):
        place.mkdir()
        (place / "model-5.pt").write_text("of the attempt before")
    removed = shutil.rmtree

    def rmtree(path: str | Path, **options: Any) -> None:
        if Path(path).name != name:
            removed(path, **options)
        elif not options.get("ignore_errors"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    program = Program(("true",), str(tmp_path), ())
    request = CommandRequest("study", 7, 5, program, {}, Objective("loss", "minimize"), 20, 1)
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint_to_resume(request, folder, lambda _point: True)
    monkeypatch.undo()
    assert checkpoint_to_resume(request, folder, lambda _point: True) is None
    assert not folder.checkpoints.exists()
    assert list(folder.files.iterdir()) == []
