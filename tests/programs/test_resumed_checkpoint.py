"""The checkpoint from which a program resumes. Tests programs/resumed_checkpoint.py, with test_command_trial.py."""

from __future__ import annotations

import contextlib
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

from tunectl.core import real_folders
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import Checkpoints, CommandRequest, Optional, Program
from tunectl.core.records import TrialResult
from tunectl.programs import command_trial, program_outcome, program_start
from tunectl.programs.flushed_output import SavedPoint
from tunectl.programs.kept_checkpoints import CheckpointPattern, KeptCheckpoints
from tunectl.programs.resumed_checkpoint import checkpoint_to_resume
from tunectl.store.trial_files import read_trial, write_measurements

LENGTH = 12
EXPECTED = [(step, {"loss": 1 / step}) for step in range(1, LENGTH + 1)]

# It saves every second step. A plan beside it says how the attempt ends: "step 7", once that is printed; "signal N" or
# "error" before anything is printed; "rank N" with the report of a launcher on a rank that a signal ended.
SAVING = """
import os, sys
pattern, *resume = sys.argv[1:]
first = int(open(resume[0]).read()) if resume else 0
plan = open(sys.argv[0] + ".plan").read().split()
if plan[0] == "signal": os.kill(os.getpid(), int(plan[1]))
if plan[0] == "error": sys.exit("the data is not there")
if plan[0] == "rank":
    report = ["=" * 60, "train.py FAILED", "Root Cause (first observed failure):", "[0]:"]
    report += ["  rank      : 1 (local_rank: 1)", f"  exitcode  : -{plan[1]} (pid: 125)", "=" * 60]
    for line in report: print(line)
    sys.exit(1)
for step in range(first + 1, 13):
    print(f"step {step} loss {1 / step}", flush=True)
    if step % 2 == 0: open(pattern.replace("STEP", str(step)), "w").write(str(step))
    if plan == ["step", str(step)]: sys.exit("killed")
"""


class Attempts:
    """Runs a program again and again; see SAVING. `place` is where it saves."""

    def __init__(
        self, programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str, name: str, **changes: Any
    ) -> None:
        self._programs, self._count = programs, 0
        self.died: list[int] = []
        monkeypatch.setattr(program_outcome, "_die_by", self.died.append)  # this process is not to die with it
        pattern = f"{place}/{name}"
        self._request = programs.request(
            SAVING,
            pattern.replace("{step}", "STEP"),
            Optional(("{trial.resume}",)),
            checkpoints=Checkpoints(pattern),
            max_train_steps=LENGTH,
            **{"keep_checkpoints": 2, **changes},
        )

    def run(self, *plans: str) -> TrialResult | None:
        result = None
        for plan in plans:
            self._count += 1
            (self._programs.folder.path.parent / "program.py.plan").write_text(plan)
            result = self._programs.run(replace(self._request, attempt=self._count))
        return result

    def resumed_from(self) -> int | str | None:
        """The step, or that only the program knows it; None where it starts over."""
        resume, _, _ = command_trial.prepare_attempt(self._request, self._programs.folder, lambda: 0.0)
        return None if resume is None else "known to it" if resume.step is None else resume.step


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


def test_the_time_of_what_a_program_goes_on_from_counts(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    attempts = Attempts(programs, monkeypatch, place, "model-{step}.pt")
    attempts.run("step 9")
    known = read_trial(programs.folder).measurements
    write_measurements(programs.folder, [item._replace(elapsed_seconds=100.0 * item.step) for item in known])
    programs.seconds = TrialSeconds()
    last = attempts.run("to the end")
    assert last is not None
    assert 800 < last.train_seconds < 900, "it went on from step 8"


def test_a_checkpoint_that_is_written_again_counts(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    attempts = Attempts(programs, monkeypatch, place, "model-{step}.pt")
    attempts.run("step 9", ERROR)
    assert attempts.resumed_from() == 6
    attempts.run("step 8")
    assert attempts.resumed_from() == 8


@pytest.mark.parametrize("name", ["model-{step}.pt", "model.pt"])
@pytest.mark.parametrize("failure", [ERROR, CRASH])
def test_the_only_checkpoint_is_given_up_at_the_third_attempt_and_used_again_where_that_was_not_the_cause(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str, name: str, failure: str
) -> None:
    attempts = Attempts(programs, monkeypatch, place, name, keep_checkpoints=0)
    attempts.run("step 3", failure)
    known = 2 if "step" in name else "known to it"
    assert attempts.resumed_from() == known, "it is tried twice"
    attempts.run(failure)
    assert attempts.resumed_from() is None
    attempts.run(KILL, failure)
    assert attempts.resumed_from() == known
    attempts.run(failure, failure, failure)
    assert attempts.resumed_from() == known
    assert steps(programs)[:2] == [1, 2], "it failed without the checkpoint, too"
    last = attempts.run("step 5", "to the end")
    assert last is not None
    assert (last.state, programs.measured()) == ("completed", EXPECTED)
    assert not list(programs.folder.path.glob(".earlier*"))


def steps(programs: Programs) -> list[int]:
    return [step for step, _ in programs.measured()]


def test_where_the_only_checkpoint_is_torn_the_trial_starts_over(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    attempts = Attempts(programs, monkeypatch, place, "model-{step}.pt", keep_checkpoints=1)
    attempts.run("step 3", CRASH, CRASH)
    assert attempts.resumed_from() is None
    last = attempts.run("to the end")
    assert last is not None
    assert (last.state, programs.measured()) == ("completed", EXPECTED)
    assert not list(programs.folder.path.glob(".earlier*"))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moves", range(4))
def test_a_kill_while_the_trial_is_set_aside_or_put_back_loses_nothing(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str, moves: int
) -> None:
    attempts = Attempts(programs, monkeypatch, place, "model-{step}.pt", keep_checkpoints=1)
    attempts.run("step 3", ERROR, ERROR)
    for plans in ((ERROR,), ("to the end",)):
        left, moved = [moves], real_folders.move

        def move(path: Path, to: Path, within: Path, left: list[int] = left, moved: Any = moved) -> None:
            if ".earlier-" in str(path) + str(to):
                if not left[0]:
                    raise Killed
                left[0] -= 1
            moved(path, to, within)

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(real_folders, "move", move)
            attempts.resumed_from()
        last = attempts.run(*plans)
    assert last is not None
    assert (last.state, programs.measured()) == ("completed", EXPECTED)
    assert programs.folder.log.read_text().count("step 1 ") == 1, "it went on from what was put back"


@pytest.mark.parametrize(
    "end", [f"signal {number.value}" for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU)] + ["rank 9"]
)
def test_what_another_process_ends_says_nothing_of_the_checkpoint(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, place: str, end: str
) -> None:
    monkeypatch.setattr(program_start, "distributed", lambda line, *_: line)
    devices = 2 if end.startswith("rank") else 1
    attempts = Attempts(programs, monkeypatch, place, "model-{step}.pt", devices=devices)
    attempts.run("step 9", end, end, end)
    assert attempts.died == [int(end.split()[1])] * 3
    assert attempts.resumed_from() == 8
    if devices > 1:
        attempts.run(f"rank {signal.SIGSEGV.value}")
        assert attempts.resumed_from() == 6


def test_an_old_checkpoint_that_did_not_count_is_neither_flushed_for_nor_named_as_the_best(tmp_path: Path) -> None:
    for step in (6, 8):
        (tmp_path / f"model-{step}.pt").write_text(str(step))
    pattern = CheckpointPattern.of(Checkpoints(f"{tmp_path}/model-{{step}}.pt"), {})
    skipped = frozenset({SavedPoint.of(8, tmp_path / "model-8.pt").word})
    without = replace(pattern, skipped=skipped)
    assert [*pattern.found()] == [6, 8]
    assert [*without.found()] == [6]
    folder = TrialFolder(tmp_path / "trials" / "00007")
    folder.path.mkdir(parents=True)
    kept = KeptCheckpoints(without, folder, Objective("loss", "minimize"), 1)
    assert kept.tidy({6: 0.5, 8: 0.1}.get, 8, ended=True) == {6: "step-00000006.pt"}
    (tmp_path / "model-8.pt").write_text("8, written again")
    assert [*without.found()] == [6, 8]


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
