"""The free space of the disk is checked before a study begins and before each trial."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from builders import STUDY_FILE, study_text

from tunectl.core.errors import FolderError
from tunectl.core.records import FactorySignature
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.devices import CPU
from tunectl.execution.slots import make_slots
from tunectl.language.study_reader import parse_study
from tunectl.session.disk_room import DiskNeed, check_room_to_begin, check_room_to_go_on, free_bytes, in_words
from tunectl.session.probed_study import ProbedWorkload
from tunectl.session.training_trials import disk_need
from tunectl.space.trial_plan import plan_trials

MEBI = 2**20
NEED = DiskNeed(checkpoint_bytes=10 * MEBI, kept=3, at_once=2, trials=20, updates=1000)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def with_free(monkeypatch):
    def give(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**15, 0, free))

    return give


def test_a_trial_needs_its_best_its_resumes_and_the_one_being_written(with_free):
    # 3 best + resume.pt + the one before it + a temporary file, for two trials at once.
    with_free((2 * 6 * 10 + 16) * MEBI - 1)
    with pytest.raises(
        FolderError, match="runs/a: 143 MB are free, but the 2 trials that run at a time need about 143 MB"
    ):
        check_room_to_begin(Path("runs/a"), NEED)
    with_free((2 * 6 * 10 + 16) * MEBI)
    assert "training.keep_checkpoints may be lowered" in check_room_to_begin(Path("runs/a"), NEED)


def test_a_study_that_may_not_fit_is_warned_about_and_one_that_fits_is_not(with_free):
    in_all = 20 * 4 * 10 * MEBI + 1000 * 80 + 16 * MEBI
    with_free(in_all - 1)
    assert check_room_to_begin(Path("a"), NEED).startswith(
        "a: 856 MB are free, but the 20 trials will keep about 856 MB"
    )
    with_free(in_all)
    assert check_room_to_begin(Path("a"), NEED) == ""


def test_before_each_trial_there_must_be_room_for_one(with_free):
    with_free((6 * 10 + 16) * MEBI - 1)
    with pytest.raises(FolderError, match="make room and run the same command again") as caught:
        check_room_to_go_on(Path("a"), NEED)
    assert caught.value.exit_code == 3
    with_free((6 * 10 + 16) * MEBI)
    check_room_to_go_on(Path("a"), NEED)


def test_free_room_is_that_of_the_nearest_folder_that_is_there(tmp_path, monkeypatch):
    asked = []
    real = shutil.disk_usage

    def usage(path):
        asked.append(path)
        return real(path)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert free_bytes(tmp_path / "runs" / "not" / "yet") > 0
    assert asked == [tmp_path]


def test_a_disk_that_cannot_be_asked_is_a_clear_error(monkeypatch):
    def refuse(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    with pytest.raises(FolderError, match="its free space cannot be read: Input/output error"):
        free_bytes(Path("/"))


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_499, "999 kB"), (999_501, "1 MB"), (2**40, "1.1 TB")],
)
def test_sizes_have_the_unit_that_fits(count, said):
    assert in_words(count) == said


def test_sizes_beyond_every_unit_have_the_largest_one():
    assert in_words(10**15) == "1 PB"
    assert in_words(10**19) == "1e+04 PB"


def test_one_trial_is_spoken_of_as_one(with_free):
    with_free(8 * MEBI)
    one = replace(NEED, trials=1, at_once=1, checkpoint_bytes=0)
    with pytest.raises(FolderError, match=r"but the trial that runs needs about 16\.8 MB"):
        check_room_to_begin(Path("a"), one)
    with_free(16 * MEBI)
    assert "but the trial will keep about" in check_room_to_begin(Path("a"), replace(one, updates=10**6))


@pytest.mark.parametrize(("workload_kind", "updates"), [("command", 0), ("function", 0), ("workload", 10_000)])
def test_the_steps_of_a_program_need_no_room(workload_kind, updates):
    # Only our own loop writes steps.jsonl. To a program tokens may be steps, billions of them.
    text = study_text(
        {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}, search="{trials: 5, seed: 0}"
    )
    spec = replace(parse_study(text, STUDY_FILE), workload_kind=workload_kind)
    probed = ProbedWorkload(LocalBackend(), FactorySignature(open=True))
    need = disk_need(spec, plan_trials(spec), probed, make_slots([CPU], count=2))
    assert need.updates == updates
