"""In which job a worker runs, also where it has inherited another job's variables. Those are of a real Slurm 22.05."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from fake_slurm import FakeSlurm, squeue_line

from tunectl.core.errors import TunectlError
from tunectl.execution.engines.slurm_place import own_life

ARRAY = {"SLURM_ARRAY_JOB_ID": "1", "SLURM_ARRAY_TASK_ID": "0"}
TASK = {**ARRAY, "SLURM_JOB_ID": "2", "SLURM_JOB_NAME": "sweep"}
NESTED = {**ARRAY, "SLURM_JOB_ID": "3", "SLURM_JOB_NAME": "worker.sh"}
RESTARTED = {"SLURM_RESTART_COUNT": "2"}


def _asked(environ: Mapping[str, str], answer: str) -> tuple[str, list[str]]:
    asked: list[str] = []

    def squeue(job: str) -> str:
        asked.append(job)
        return answer

    return own_life(environ, squeue), asked


@pytest.mark.parametrize(
    ("environ", "answer", "expected"),
    [
        (TASK, squeue_line("1_0", "RUNNING"), "1_0"),
        (NESTED, squeue_line("3", "RUNNING"), "3"),
        ({**NESTED, **RESTARTED}, squeue_line("3", "RUNNING"), "3"),
        ({**NESTED, **RESTARTED}, squeue_line("3", "RUNNING", restarts=1), "3r1"),
        ({**TASK, **RESTARTED}, squeue_line("1_0", "RUNNING", restarts=2), "1_0r2"),
        ({"SLURM_JOB_ID": "3", **RESTARTED}, squeue_line("3", "RUNNING"), "3"),
        # The last task of an array has the array's id, with which squeue lists all of its tasks.
        (
            {**TASK, **RESTARTED, "SLURM_JOB_ID": "1"},
            squeue_line("1_1", "RUNNING") + "\n" + squeue_line("1_0", "RUNNING", restarts=2),
            "1_0r2",
        ),
    ],
)
def test_what_squeue_lists_counts_more_than_what_may_be_inherited(environ, answer, expected) -> None:
    assert _asked(environ, answer) == (expected, [environ["SLURM_JOB_ID"]])


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "3"}, "3"),
        ({**TASK, "SLURM_JOB_ID": "1"}, "1_0"),
        ({**TASK, **RESTARTED, "SLURM_JOB_NAME": "tunectl-a-0123"}, "1_0r2"),
    ],
)
def test_squeue_is_not_asked_where_nothing_can_be_inherited(environ, expected) -> None:
    assert _asked(environ, "") == (expected, [])


@pytest.mark.parametrize("answer", ["", "something else", squeue_line("77", "RUNNING")])
def test_an_answer_without_the_job_leaves_what_the_environment_says(answer) -> None:
    assert _asked({**TASK, **RESTARTED}, answer)[0] == "1_0r2"


def test_where_squeue_fails_the_environment_counts() -> None:
    def fails(_job: str) -> str:
        raise TunectlError("squeue did not answer within 10 seconds")

    assert own_life(NESTED, fails) == "1_0"


def test_squeue_is_asked_for_the_id_of_the_job_that_is_never_inherited(tmp_path, monkeypatch) -> None:
    fake = FakeSlurm(tmp_path / "slurm", monkeypatch)
    fake.answer("squeue-jobs", squeue_line("3", "RUNNING"))
    assert own_life(NESTED) == "3"
    assert [call.rpartition(" ")[2] for call in fake.calls("squeue")] == ["--jobs=3"]
