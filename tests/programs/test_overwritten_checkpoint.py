"""A checkpoint file that a program overwrites: to which evaluation it belongs, and resuming from it.

Tests programs/overwritten_checkpoint.py and programs/checkpoint_files.py.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from program_calls import Programs

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import CheckpointRule, Objective
from tunectl.core.own_code_request import Checkpoints, CommandRequest, MetricSource, Optional
from tunectl.programs import checkpoint_files
from tunectl.programs.collected_metrics import Collector
from tunectl.programs.overwritten_checkpoint import OverwrittenCheckpoint
from tunectl.store.trial_files import read_trial

TICK = 0.01
VALUES = {1: 0.9, 2: 0.5, 3: 0.3, 4: 0.6, 5: 0.7}


class Acted:
    """A program that is acted: its time passes in looks."""

    def __init__(
        self, root: Path, keep: int = 1, name: str = "ckpt.pt", rule: CheckpointRule = "best", length: int = sys.maxsize
    ) -> None:
        self.now = 100.0
        self.folder = TrialFolder(root / "00000")
        self.path = self.folder.path / "files" / name
        self.path.parent.mkdir(parents=True)
        self.collector = Collector(lambda: self.now)
        objective = Objective("loss", "minimize", rule)
        self.one = OverwrittenCheckpoint(self.path, self.folder, objective, keep, length, clock=lambda: self.now)
        self.one.begin(self.collector)

    def waits(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.one.check()
            self._look()

    def _look(self, *, ended: bool = False, stopping: bool = False) -> None:
        for step, name in self.one.update(self.collector, ended=ended, stopping=stopping).items():
            self.collector.name_checkpoint(step, name)

    def prints(self, step: int) -> None:
        self.collector.add(step, {"loss": VALUES.get(step, 0.8)})

    def prints_at(self, step: int, nanoseconds: int) -> None:
        """Print, with the log written at that time."""
        self.prints(step)
        self.folder.log.write_text("a line")
        os.utime(self.folder.log, ns=(nanoseconds, nanoseconds))

    def saves_at(self, what: float, nanoseconds: int) -> None:
        self.saves(what)
        os.utime(self.path, ns=(nanoseconds, nanoseconds))

    def saves(self, what: float) -> None:
        self.path.with_name("new").write_text(f"state {what}")
        self.path.with_name("new").replace(self.path)

    def ends(self, *, stopping: bool = False) -> dict[int, str]:
        """What each checkpoint that is named holds."""
        self.now += TICK
        self.one.check()
        self._look(ended=True, stopping=stopping)
        names = {item.step: item.checkpoint for item in self.collector.measurements() if item.checkpoint}
        assert sorted(names.values()) == sorted(path.name for path in self.folder.checkpoints.glob("*"))
        return {step: self._held(self.folder.checkpoints / name) for step, name in names.items()}

    def _held(self, path: Path) -> str:
        return "|".join(sorted({file.read_text() for file in path.iterdir()})) if path.is_dir() else path.read_text()


@pytest.fixture
def acted(tmp_path: Path) -> Acted:
    return Acted(tmp_path)


def test_a_file_written_after_each_evaluation_is_kept_as_it_was_at_the_best(acted: Acted) -> None:
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
        acted.waits(TICK)
        acted.saves(step)
    assert acted.ends() == {3: "state 3"}
    assert acted.path.read_text() == "state 5"
    assert acted.one.note == ""


def test_a_file_written_before_each_evaluation_is_kept_as_it_was_at_the_best(acted: Acted) -> None:
    for step in VALUES:
        acted.waits(0.5)
        acted.saves(step)
        acted.waits(TICK)
        acted.prints(step)
    acted.waits(0.2)
    assert acted.ends() == {3: "state 3"}


def test_a_file_written_only_at_a_new_best_evaluation_is_kept(tmp_path: Path) -> None:
    acted = Acted(tmp_path, keep=2)
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
        acted.saves(step) if step in (1, 2, 3) else None
    assert acted.ends() == {2: "state 2", 3: "state 3"}


def test_the_last_copies_are_kept_with_checkpoint_final(tmp_path: Path) -> None:
    acted = Acted(tmp_path, rule="final")
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
        acted.saves(step)
    assert acted.ends() == {5: "state 5"}


def test_a_file_written_at_other_moments_belongs_to_no_evaluation(acted: Acted) -> None:
    for step in VALUES:
        acted.waits(1)
        acted.prints(step)
        acted.waits(1)
        acted.saves(step + 0.5)
    assert acted.ends() == {}
    assert "it is written at other moments than evaluations are printed" in acted.one.note


def test_a_file_written_more_often_than_evaluations_belongs_to_none(acted: Acted) -> None:
    for step in VALUES:
        for part in range(5):
            acted.waits(0.1)
            acted.saves(step - 1 + part / 5)
        acted.prints(step)
    assert acted.ends() == {}
    assert acted.one.note


def test_a_copy_is_removed_if_the_program_later_writes_at_other_moments(acted: Acted) -> None:
    for step in (1, 2, 3):
        acted.waits(0.5)
        acted.prints(step)
        acted.saves(step)
    acted.waits(0.5)
    assert [path.read_text() for path in acted.folder.checkpoints.iterdir()] == ["state 3"]
    acted.waits(0.5)
    acted.saves(3.5)
    acted.waits(0.9)
    acted.prints(4)
    assert acted.ends() == {}


def test_a_single_delay_on_a_busy_machine_is_not_another_habit(acted: Acted) -> None:
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
        acted.waits(0.3 if step == 2 else TICK)
        acted.saves(step)
    assert acted.ends() == {3: "state 3"}


def test_evaluations_that_come_together_are_not_distinguished(acted: Acted) -> None:
    for step in VALUES:
        acted.prints(step)
        acted.saves(step)
    assert acted.ends() == {}
    assert "too close together" in acted.one.note


def test_a_file_saved_because_the_trial_is_stopped_belongs_to_no_evaluation(acted: Acted) -> None:
    for step in (1, 2):
        acted.waits(0.5)
        acted.prints(step)
        acted.saves(step)
    acted.waits(0.2)
    acted.saves(2.4)
    assert acted.ends(stopping=True) == {2: "state 2"}


def test_an_untrained_model_saved_first_is_not_another_habit(acted: Acted) -> None:
    acted.waits(0.1)
    acted.saves(0)
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
        acted.saves(step)
    assert acted.ends() == {3: "state 3"}


def test_the_copy_of_an_evaluation_that_is_repeated_is_removed(acted: Acted) -> None:
    for step in (1, 2):
        acted.waits(0.5)
        acted.prints(step)
        acted.saves(step)
    acted.waits(0.5)
    assert [path.read_text() for path in acted.folder.checkpoints.iterdir()] == ["state 2"]
    acted.collector.resumes_at_unknown_step = True
    acted.collector.add(2, {"loss": 0.6})
    assert acted.ends() == {}
    assert [(item.step, item.metrics["loss"]) for item in acted.collector.measurements()] == [(1, 0.9), (2, 0.6)]


FAST = {1: 0.9, 2: 0.5, 3: 0.3}


def test_what_is_written_once_after_the_last_step_is_of_the_last_evaluation(tmp_path: Path) -> None:
    acted = Acted(tmp_path, length=3)
    for step in FAST:
        acted.prints(step)
        acted.waits(TICK)
    acted.waits(0.3)  # far from the last evaluation, in comparison with how close those are
    acted.saves(3)
    assert acted.ends() == {3: "state 3"}
    assert acted.one.note == ""


def test_so_is_what_is_seen_at_one_look_with_it_and_was_written_after_the_last_line(tmp_path: Path) -> None:
    acted = Acted(tmp_path, length=3)
    for step in FAST:
        acted.waits(TICK)
        acted.prints_at(step, 10**18 + step)
    acted.saves_at(3, 10**18 + 4)
    assert acted.ends() == {3: "state 3"}


def test_not_where_the_last_line_came_later(tmp_path: Path) -> None:
    acted = Acted(tmp_path, length=3)
    for step in FAST:
        acted.waits(TICK)
        acted.prints_at(step, 10**18 + step)
    acted.saves_at(2, 10**18 + 3)
    assert acted.ends() == {}
    assert "too close together" in acted.one.note


def test_nor_where_a_thread_may_have_begun_at_the_evaluation_before(tmp_path: Path) -> None:
    acted = Acted(tmp_path, length=3)
    acted.prints_at(1, 10**18 + 1)
    acted.waits(TICK)
    acted.prints_at(2, 10**18 + 2)
    acted.prints_at(3, 10**18 + 3)
    acted.saves_at(2, 10**18 + 4)
    assert acted.ends() == {}


@pytest.mark.parametrize("length", [4, 30])
def test_nor_where_something_was_left_to_train_after_the_last_evaluation(tmp_path: Path, length: int) -> None:
    acted = Acted(tmp_path, length=length)
    for step in FAST:
        acted.prints(step)
        acted.waits(TICK)
    acted.waits(0.3)
    acted.saves(3.5)
    assert acted.ends() == {}
    acted = Acted(tmp_path / "printed", length=3)
    for step in FAST:
        acted.prints(step)
        acted.waits(TICK)
    acted.collector.add(4, {"train/loss": 0.2})
    acted.waits(0.3)
    acted.saves(4)
    assert acted.ends() == {}


def test_nor_what_is_saved_because_the_trial_is_stopped_then(tmp_path: Path) -> None:
    acted = Acted(tmp_path, length=3)
    for step in FAST:
        acted.prints(step)
        acted.waits(TICK)
    acted.waits(0.3)
    acted.saves(3)
    assert acted.ends(stopping=True) == {}


def test_a_last_save_beside_one_at_each_evaluation_shows_no_other_habit(tmp_path: Path) -> None:
    acted = Acted(tmp_path, length=5)
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
        acted.waits(TICK)
        acted.saves(step)
    acted.waits(0.3)
    acted.saves(5)
    assert acted.ends() == {3: "state 3"}


def test_where_the_best_evaluation_came_before_the_only_checkpoint_the_note_says_so(tmp_path: Path) -> None:
    acted = Acted(tmp_path, length=5)
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
    acted.waits(TICK)
    acted.saves(5)
    assert acted.ends() == {5: "state 5"}
    assert acted.one.note == "its best evaluation is at step 3, but the checkpoint that is kept is of step 5"


@contextmanager
def written_slowly(acted: Acted, step: int) -> Iterator[None]:
    with open(acted.path, "w") as file:
        for part in ("sta", "te ", str(step)):
            file.write(part)
            file.flush()
            acted.waits(0.05)
        yield


@pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="the system does not say which files are open")
def test_a_file_that_is_being_written_is_copied_once_it_is_complete(acted: Acted) -> None:
    for step in VALUES:
        acted.waits(0.8)
        acted.prints(step)
        with written_slowly(acted, step):
            assert all("state" in path.read_text() for path in acted.folder.checkpoints.glob("*"))
    assert acted.ends() == {3: "state 3"}


@pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="the system does not say which files are open")
def test_a_file_written_during_an_evaluation_belongs_to_none(acted: Acted) -> None:
    for step in (1, 2):
        acted.waits(0.5)
        with written_slowly(acted, step):
            acted.prints(step)
            acted.waits(0.2)
    acted.waits(0.5)
    assert acted.ends() == {}


def test_a_folder_is_copied_once_it_no_longer_changes(tmp_path: Path) -> None:
    acted = Acted(tmp_path, name="last")
    for step in VALUES:
        acted.waits(2)
        acted.prints(step)
        acted.path.mkdir(exist_ok=True)
        for name in "abc":
            (acted.path / name).write_text(f"state {step}")
            acted.waits(0.1)
    assert acted.ends() == {3: "state 3"}


def test_a_link_to_the_last_checkpoint_is_copied_as_its_target(acted: Acted) -> None:
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
        (acted.path.parent / f"epoch-{step}").write_text(f"state {step}")
        acted.path.unlink(missing_ok=True)
        acted.path.symlink_to(f"epoch-{step}")
        (acted.path.parent / f"epoch-{step - 1}").unlink(missing_ok=True)
    assert acted.ends() == {3: "state 3"}
    assert not (acted.folder.checkpoints / "step-00000003.pt").is_symlink()


def test_evaluations_read_from_a_file_do_not_show_when_they_were_made(acted: Acted) -> None:
    for step in VALUES:
        acted.waits(0.5)
        acted.prints(step)
        acted.saves(step)
    acted.one.distrust()
    assert acted.ends() == {}
    assert "read from a file" in acted.one.note


def test_files_and_folders_are_compared_by_their_content(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for home in (one, other):
        home.mkdir()
        (home / "a").write_text("same")
    assert checkpoint_files.is_same(one, other)
    (other / "b").write_text("")
    assert not checkpoint_files.is_same(one, other)
    assert not checkpoint_files.is_same(tmp_path / "none", tmp_path / "nothing")
    assert checkpoint_files.stamp(tmp_path / "none") == {}


NANOGPT = """
import os, sys
home, resume = sys.argv[1], sys.argv[2:] == ["--init_from=resume"]
path = home + "/ckpt.pt"
first, stop = (int(open(path).read()), 99) if resume else (0, int(open(sys.argv[0] + ".stop").read()))
for step in range(first, 7):
    if step % 2 == 0:
        print(f"step {step} loss {1 / (step + 1) + (0.001 if resume else 0)}", flush=True)
        if step: open(path + ".new", "w").write(str(step)); os.replace(path + ".new", path)
    if step == stop: sys.exit(9)
"""
FLAG = Optional(("--init_from=resume",), {"trial.resume": (True,)})


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def resumable(programs: Programs, text: str, stop: int) -> CommandRequest:
    request = programs.request(text, "{trial.dir}", FLAG, checkpoints=Checkpoints("{trial.dir}/ckpt.pt"))
    (programs.folder.path.parent / "program.py.stop").write_text(str(stop))
    return request


def test_a_trial_resumes_from_one_file_by_a_flag(programs: Programs) -> None:
    request = resumable(programs, NANOGPT, stop=5)
    first = programs.run(request)
    assert first is not None
    assert first.reason == "exit_code_9"
    assert [step for step, _ in programs.measured()] == [0, 2, 4]
    second = programs.run(replace(request, attempt=2))
    assert second is not None
    assert second.state == "completed"
    # What was printed at step 4 was printed again; what came before is kept.
    assert [step for step, _ in programs.measured()] == [0, 2, 4, 6]
    losses = [values["loss"] for _, values in programs.measured()]
    assert losses == pytest.approx([1.0, 1 / 3, 0.201, 1 / 7 + 0.001])


def test_a_trial_without_a_checkpoint_of_its_best_evaluation_says_so_in_its_notes(programs: Programs) -> None:
    text = "import sys; print('step 1 loss 0.5\\nstep 2 loss 0.4'); open(sys.argv[1] + '/ckpt.pt', 'w').write('2')"
    request = programs.request(text, "{trial.dir}", checkpoints=Checkpoints("{trial.dir}/ckpt.pt"))
    result = programs.run(replace(request, max_train_steps=2))
    assert result is not None
    assert list(result.notes) == ["no checkpoint of the best evaluation is known"]
    assert result.message == next(iter(result.notes.values()))


def test_later_steps_of_an_earlier_attempt_are_repeated(programs: Programs) -> None:
    """It printed step 4 and was killed before it saved it."""
    text = NANOGPT.replace("if step: open", "if step in (2, 6): open")
    text = text.replace("if step % 2 == 0:", "if step % (3 if resume else 2) == 0:")
    request = resumable(programs, text, stop=5)
    programs.run(request)
    assert [step for step, _ in programs.measured()] == [0, 2, 4]
    programs.run(replace(request, attempt=2))
    assert [step for step, _ in programs.measured()] == [0, 2, 3, 6]


def test_a_trial_does_not_resume_from_an_empty_file(programs: Programs) -> None:
    request = resumable(programs, NANOGPT.replace("write(str(step))", "write('')"), stop=3)
    programs.run(request)
    (programs.folder.path.parent / "program.py.stop").write_text("99")
    second = programs.run(replace(request, attempt=2))
    assert second is not None
    assert second.state == "completed"
    assert [values["loss"] for _, values in programs.measured()][-1] == pytest.approx(1 / 7)


def test_a_file_with_which_the_program_failed_twice_without_progress_is_skipped(programs: Programs) -> None:
    # It is the only one: if another thing was the cause, all training would be lost.
    request = resumable(programs, NANOGPT.replace("write(str(step))", "write('torn')"), stop=3)
    programs.run(request)
    for attempt in (2, 3):
        torn = programs.run(replace(request, attempt=attempt))
        assert torn is not None
        assert "invalid literal" in torn.message, "it goes on from the torn one"
    (programs.folder.path.parent / "program.py.stop").write_text("99")
    last = programs.run(replace(request, attempt=4))
    assert last is not None
    assert last.state == "completed", "and then begins anew"


def test_the_last_copy_replaces_a_damaged_file(programs: Programs) -> None:
    request = resumable(programs, NANOGPT, stop=5)
    programs.run(request)
    copy = programs.folder.checkpoints / "step-00000002.pt"
    copy.parent.mkdir(exist_ok=True)
    copy.write_text("2")
    lines = programs.folder.measurements.read_text().splitlines()
    lines = [re.sub(r', "crc32": \d+', "", line) for line in lines]  # as another program would write them
    named = [
        line.replace('"checkpoint": null', f'"checkpoint": "{copy.name}"') if '"step": 2,' in line else line
        for line in lines
    ]
    assert named != lines
    programs.folder.measurements.write_text("\n".join(named) + "\n")
    (programs.folder.path / "files" / "ckpt.pt").write_text("")
    second = programs.run(replace(request, attempt=2))
    assert second is not None
    assert second.state == "completed"
    assert [step for step, _ in programs.measured()] == [0, 2, 4, 6]
    assert [values["loss"] for _, values in programs.measured()][1] == pytest.approx(1 / 3 + 0.001), "from step 2 on"
    assert read_trial(programs.folder).measurements[1].checkpoint == copy.name


def test_with_counted_steps_a_trial_with_one_file_starts_over(programs: Programs) -> None:
    request = resumable(programs, NANOGPT, stop=5)
    counted = MetricSource("regex", r"loss (?P<loss>\S+)", every=1)
    request = replace(request, program=replace(request.program, sources=(counted,)))
    programs.run(request)
    (programs.folder.path.parent / "program.py.stop").write_text("99")
    programs.run(replace(request, attempt=2))
    assert [values["loss"] for _, values in programs.measured()] == [1, 1 / 3, 1 / 5, 1 / 7]
