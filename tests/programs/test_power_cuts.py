"""A power cut loses what was written but not flushed; no evaluation is lost without a message.

The disk is simulated: it has the parts of a trial's folder that were flushed (os.fsync), and renames that came before a
flush. The program flushes its own checkpoints, as careful programs do. Tests programs/flushed_output.py and
programs/unread_output.py, with test_flushed_output.py.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from program_calls import Programs

from tunectl.core.measurements import Measurement
from tunectl.core.own_code_request import Checkpoints, CommandRequest, Optional
from tunectl.programs import command_trial, flushed_output
from tunectl.programs.program_start import started
from tunectl.programs.unread_output import Beginning, last_beginning, note_beginning
from tunectl.store.trial_files import write_measurements

LENGTH = 12
EXPECTED = [(step, {"loss": 1.0 / step}) for step in range(2, LENGTH + 1, 2)]

# An evaluation at every second step, a checkpoint behind it or before it, and in between.
PROGRAM = """
import os, sys, time
home, path, cut, order, *resume = sys.argv[1:]
first = int(open(resume[0]).read()) if resume else 0
def save(step):
    name = path.replace("STEP", str(step))
    with open(name + ".new", "w") as file:
        file.write(str(step)); file.flush(); os.fsync(file.fileno())
    os.replace(name + ".new", name)
for step in range(first + 1, 13):
    if order == "before": save(step)
    if step % 2 == 0: print(f"step {step} loss {1 / step}", flush=True)
    if order == "behind": save(step)
    time.sleep(0.02)
    if str(step) == cut and not os.path.exists(sys.argv[0] + ".up"):
        open(home + "/../cut", "w").close()
        time.sleep(600)
"""


class Cut(BaseException):
    """The machine went down."""


@dataclass
class Disk:
    """What a trial's folder would be after a power cut: files by their path, as they were flushed."""

    folder: Path
    files: dict[str, bytes]
    renames: list[tuple[str, str]]

    def flushed(self, path: Path) -> None:
        """A file was flushed, and with it the journal of what was renamed."""
        for old, new in self.renames:
            if old in self.files:
                self.files[new] = self.files.pop(old)
        self.renames.clear()
        if path.is_file() and path.is_relative_to(self.folder):
            self.files[str(path.relative_to(self.folder))] = path.read_bytes()

    def restore(self, lengths: dict[str, int]) -> None:
        """Leave in the folder what the disk has; of the files in `lengths` these many bytes, which the system wrote.

        All checkpoints of the program are there.
        """
        now = {name: (self.folder / name).read_bytes() for name in lengths if (self.folder / name).exists()}
        for path in self.folder.iterdir():
            if path.name != "files":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, content in self.files.items():
            if not name.startswith("files/"):
                (self.folder / name).write_bytes(content)
        for name, content in now.items():
            (self.folder / name).write_bytes(content[: max(lengths[name], len(self.files.get(name, b"")))])


@pytest.fixture(autouse=True)
def _always_another_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = itertools.count()
    monkeypatch.setattr(flushed_output, "boot_id", lambda: f"boot {next(boots)}")


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


@pytest.fixture
def disk(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(programs.folder.path, {}, [])
    fsync, rename = os.fsync, os.rename

    def flushing(descriptor: int) -> None:
        fsync(descriptor)
        made.flushed(Path(f"/proc/self/fd/{descriptor}").readlink())

    def renaming(old: Any, new: Any, **folders: Any) -> None:
        rename(old, new, **folders)
        places = [Path(f"/proc/self/fd/{folder}").readlink() for folder in folders.values()] or [Path(), Path()]
        old, new = (place / name for place, name in zip(places, (old, new), strict=True))
        if old.parent == made.folder:
            made.renames.append((old.name, new.name))

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(os, "rename", renaming)
    yield made
    monkeypatch.undo()


def resumable(programs: Programs, cut: int, order: str, name: str = "model-{step}.pt") -> CommandRequest:
    places = ("{trial.dir}", "{trial.dir}/" + name.replace("{step}", "STEP"), str(cut), order)
    checkpoints = Checkpoints("{trial.dir}/" + name)
    request = programs.request(PROGRAM, *places, Optional(("{trial.resume}",)), checkpoints=checkpoints)
    return replace(request, max_train_steps=LENGTH)


def cut_off(programs: Programs, request: CommandRequest) -> None:
    """Run a trial until its program says that the machine goes down now; a flush that has begun ends."""
    marker, processes = programs.folder.path / "cut", []
    running = set(threading.enumerate())

    def stop() -> bool:
        if marker.exists():
            raise Cut
        return False

    def starting(*given: Any) -> subprocess.Popen[bytes]:
        processes.append(started(*given))
        return processes[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_trial, "started", starting)
        with pytest.raises(Cut):
            programs.run(request, stop)
    processes[0].kill()
    processes[0].wait()
    for thread in set(threading.enumerate()) - running:
        thread.join()
    marker.unlink()
    (programs.folder.path.parent / "program.py.up").touch()


def test_without_a_power_cut_a_killed_trial_resumes_from_its_last_checkpoint(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushed_output, "boot_id", lambda: "this one")
    monkeypatch.setattr(flushed_output.Flusher, "is_ready", False)
    request = resumable(programs, 9, "before", "model.pt")
    cut_off(programs, request)
    result = programs.run(replace(request, attempt=2))
    assert result is not None
    assert (result.state, programs.measured()) == ("completed", EXPECTED)
    assert programs.folder.log.read_text().count("step 2 ") == 1, "nothing was trained twice"


@pytest.mark.parametrize("name", ["model-{step}.pt", "model.pt"])
@pytest.mark.parametrize("order", ["behind", "before"])
def test_a_power_cut_loses_no_evaluation_of_a_program_that_flushes_its_own_checkpoints(
    programs: Programs, disk: Disk, order: str, name: str, tmp_path: Path
) -> None:
    request = resumable(programs, 9, order, name)
    cut_off(programs, request)
    left = tmp_path / "left"
    shutil.copytree(programs.folder.path, left)
    whole = {name: (left / name).stat().st_size for name in ("log.txt", "measurements.jsonl")}
    generator = random.Random(1)
    some = [{name: generator.randrange(size + 1) for name, size in whole.items()} for _ in range(2)]
    for lengths in ({}, whole, {**whole, "log.txt": 0}, *some):
        shutil.rmtree(programs.folder.path)
        shutil.copytree(left, programs.folder.path)
        disk.restore(lengths)
        result = programs.run(replace(request, attempt=2))
        assert result is not None
        assert (result.state, programs.measured()) == ("completed", EXPECTED), lengths


FOUND = re.compile(r"step (\d+) loss (\S+)\n")


def left_behind(programs: Programs, *, evaluations: int, saved: list[int]) -> tuple[CommandRequest, str]:
    """A trial that was cut off, in its first attempt: nothing but its beginning was flushed; gives its log."""
    request = resumable(programs, 0, "behind")
    programs.folder.files.mkdir()
    note_beginning(programs.folder, Beginning(None, 0))
    flushed_output.note_flushed(programs.folder, None)
    for step in saved:
        (programs.folder.files / f"model-{step}.pt").write_text(str(step))
    return request, "".join(f"step {2 * n} loss {1 / (2 * n)}\n" for n in range(1, evaluations + 1))


def test_after_a_power_cut_at_any_byte_a_trial_resumes_from_what_is_known(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint is of step 8; whether the evaluation there comes before or behind it is not known."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    request, log = left_behind(programs, evaluations=4, saved=list(range(1, 9)))
    came_from = set()
    for length in range(len(log) + 1):
        for measured in (0, 1, 2, 3) if length % 9 == 0 else (length % 4,):
            (folder := programs.folder).log.write_text(log[:length])
            write_measurements(
                folder, [Measurement(2 * n, {"loss": 1 / (2 * n)}, elapsed_seconds=1.0) for n in range(1, measured + 1)]
            )
            for step in range(1, 9):
                (folder.files / f"model-{step}.pt").write_text(str(step))
            resume, reading, _ = command_trial.prepare_attempt(request, folder, lambda: 0.0)
            from_step = 0 if resume is None else resume.step
            assert from_step is not None
            known = {step: metrics["loss"] for step, metrics in reading.collector.evaluations("loss")}
            assert known == {step: 1 / step for step in range(2, from_step + 1, 2)}, (length, measured)
            printed = max(len(FOUND.findall(log[:length])), measured)
            if printed > 1:
                assert from_step >= 2 * printed, "no more is trained again than the evaluations ask for"
            came_from.add(from_step)
            folder.files.mkdir(exist_ok=True)
    assert came_from == {0, 2, 5, 7, 8}


@pytest.mark.parametrize("damage", ["empty", "torn", "missing", "noise"])
@pytest.mark.parametrize("name", ["began", "flushed.json"])
def test_damaged_notes_lose_no_evaluation(programs: Programs, name: str, damage: str) -> None:
    request, log = left_behind(programs, evaluations=4, saved=[2, 4, 6, 8])
    folder = programs.folder
    folder.log.write_text(log[: log.index("step 6")])
    write_measurements(folder, [Measurement(2, {"loss": 1 / 2}, elapsed_seconds=1.0)])
    content = (folder.path / name).read_bytes()
    match damage:
        case "missing":
            (folder.path / name).unlink()
        case _:
            damaged = {"empty": b"", "torn": content[: len(content) // 2], "noise": b"\0\xff{" * 9}[damage]
            (folder.path / name).write_bytes(damaged)
    (programs.folder.path.parent / "program.py.up").touch()
    result = programs.run(replace(request, attempt=2))
    assert result is not None
    assert (result.state, programs.measured()) == ("completed", EXPECTED)


def test_checkpoints_that_were_put_out_of_the_way_are_removed_when_the_trial_has_ended(programs: Programs) -> None:
    request, log = left_behind(programs, evaluations=4, saved=[2, 4, 6, 8])
    folder = programs.folder
    folder.log.write_text(log[: log.index("step 6")])
    (folder.files / ".later").mkdir()
    (folder.files / ".later" / "notes.txt").write_text("the program's own")
    command_trial.prepare_attempt(request, folder, lambda: 0.0)
    assert len(list((folder.files / ".later").glob("model-*"))) > 0
    (programs.folder.path.parent / "program.py.up").touch()
    result = programs.run(replace(request, attempt=2))
    assert result is not None
    assert (result.state, programs.measured()) == ("completed", EXPECTED)
    assert [path.name for path in (folder.files / ".later").iterdir()] == ["notes.txt"]


def test_a_log_that_lacks_measured_metrics_is_not_read_again(programs: Programs) -> None:
    request, log = left_behind(programs, evaluations=4, saved=[2, 4, 6, 8])
    measured = [Measurement(step, {"loss": 1 / step}, elapsed_seconds=1.0) for step in (2, 4, 6, 8)]
    write_measurements(programs.folder, measured)
    (programs.folder.path.parent / "program.py.up").touch()
    for attempt, (text, lost) in enumerate(((log, False), (log[:-30], True)), start=2):
        programs.folder.log.write_text(text)
        programs.run(replace(request, attempt=attempt))
        assert programs.measured() == EXPECTED
        beginning = last_beginning(programs.folder)
        assert beginning is not None
        assert (beginning.step, beginning.lost) == (8, lost)
        (programs.folder.path / "began").unlink()
        write_measurements(programs.folder, measured)
        note_beginning(programs.folder, Beginning(None, 0))
        flushed_output.note_flushed(programs.folder, None)
        for step in (9, 10, 11, 12):
            (programs.folder.files / f"model-{step}.pt").unlink(missing_ok=True)
        (programs.folder.files / "model-8.pt").write_text("8")
