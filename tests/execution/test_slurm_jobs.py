"""What squeue and sacct print, read as jobs; Slurm's own lines, and odd ones."""

from __future__ import annotations

import os
import pwd

import pytest
from fake_slurm import squeue_line as line

from tunectl.execution.engines.slurm_jobs import (
    QueuedJob,
    cause_in_log,
    job_and_restarts,
    life_of,
    lives,
    sacct_lives,
    squeue_jobs,
)


def test_a_job_of_an_array_has_its_state_and_its_reason() -> None:
    text = "\n".join(
        [line("12_0", "RUNNING"), line("12_1", "PENDING", reason="Resources"), line("12_2", "COMPLETING"), ""]
    )
    assert squeue_jobs(text) == {
        "12_0": QueuedJob("running", "RUNNING", "", 0),
        "12_1": QueuedJob("queued", "PENDING", "Resources", 0),
        "12_2": QueuedJob("running", "COMPLETING", "", 0),
    }


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("12", ["12"]),
        ("12_3", ["12_3"]),
        ("12_[3-7%2]", ["12_3", "12_4", "12_5", "12_6", "12_7"]),
        ("12_[1,3,9-10]", ["12_1", "12_3", "12_9", "12_10"]),
        ("12_[0-6:3%1]", ["12_0", "12_3", "12_6"]),
    ],
)
def test_the_jobs_that_wait_on_one_line_are_all_of_their_array(ids: str, expected: list[str]) -> None:
    assert list(squeue_jobs(line(ids, "PENDING"))) == expected


@pytest.mark.parametrize("ids", ["12_[3-7,", "", "12_[", "slurm_load_jobs", "12 3"])
def test_a_line_that_names_no_job_is_an_error_and_not_a_job_that_is_missing(ids: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a job"):
        squeue_jobs(line(ids, "PENDING"))


@pytest.mark.parametrize("text", ["squeue: error: something", "12_3", "hello"])
def test_another_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        squeue_jobs(text)


def test_a_line_that_names_a_cluster_is_no_job() -> None:
    assert list(squeue_jobs("CLUSTER: alps\n" + line("12_3", "RUNNING"))) == ["12_3"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["REVOKED"], "running"),
        (["REVOKED", "RUNNING"], "running"),
        (["REVOKED", "COMPLETED"], "ended"),
        (["RUNNING", "COMPLETED"], "running"),
        (["PENDING", "REVOKED"], "queued"),
    ],
)
def test_a_job_that_clusters_of_a_federation_list_has_ended_only_where_it_was_started(words, expected) -> None:
    for ordered in (words, words[::-1]):
        text = "\n".join(f"CLUSTER: {number}\n{line('12_3', word)}" for number, word in enumerate(ordered))
        assert squeue_jobs(text)["12_3"].state == expected


def test_a_state_that_is_not_known_is_of_a_job_that_may_have_processes() -> None:
    assert squeue_jobs(line("12_3", "LEVITATING"))["12_3"].state == "running"


@pytest.mark.parametrize(
    ("state", "code", "reason", "expected"),
    [
        ("COMPLETED", "0", "None", ""),
        ("TIMEOUT", "0", "TimeLimit", "TIMEOUT"),
        ("NODE_FAIL", "0", "NodeDown", "NODE_FAIL"),
        ("OUT_OF_MEMORY", "125", "OutOfMemory", "OUT_OF_MEMORY"),
        ("PREEMPTED", "0", "None", "PREEMPTED"),
        ("CANCELLED", "0", "None", "CANCELLED"),
        ("FAILED", "127:0", "NonZeroExitCode", "FAILED (exit code 127)"),
        ("FAILED", "256", "NonZeroExitCode", "FAILED (exit code 1)"),
        ("FAILED", "9", "JobLaunchFailure", "FAILED (signal 9)"),
        ("FAILED", "4021", "JobLaunchFailure", "FAILED (JobLaunchFailure)"),
        ("FAILED", "?", "None", "FAILED"),
        ("FAILED", "0:9", "None", "FAILED (signal 9)"),
        ("FAILED", "0:53", "RaisedSignal:53(Real-time_signal_19)", "FAILED (RaisedSignal:53(Real-time_signal_19))"),
        ("BOOT_FAIL", "0", "launch failed requeued held", "BOOT_FAIL (launch failed requeued held)"),
    ],
)
def test_an_ended_job_says_why(state: str, code: str, reason: str, expected: str) -> None:
    assert squeue_jobs(line("12_3", state, 0, code, reason))["12_3"] == QueuedJob("ended", state, expected, 0)


def test_accounting_says_who_cancelled_a_job() -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    text = (
        f"12_0|CANCELLED by {os.getuid()}|0:0|x|None\n12_0.batch|CANCELLED|0:15|batch|\n"
        "12_[1-2]|CANCELLED by 4000000|0:0|x|None\n12_3|OUT_OF_MEMORY|0:125|x|\n12_3|FAILED|1:0|other|None\n"
    )
    assert sacct_lives(text, "x") == {
        "12_0": ("ended", f"CANCELLED by {user}"),
        **dict.fromkeys(["12_1", "12_2"], ("ended", "CANCELLED by user 4000000")),
        "12_3": ("ended", "OUT_OF_MEMORY"),
    }


def test_accounting_has_a_line_for_each_life_of_a_job() -> None:
    text = "12_3|NODE_FAIL|0:0|x|None\n12_3|PREEMPTED|0:0|x|None\n12_3|RUNNING|0:0|x|None\n"
    assert sacct_lives(text, "x") == {
        "12_3": ("ended", "NODE_FAIL"),
        "12_3r1": ("ended", "PREEMPTED"),
        "12_3r2": ("running", ""),
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("PREEMPTION", "PREEMPTED"),
        ("NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS", "NODE_FAIL"),
        ("TIME LIMIT", "TIMEOUT"),
        ("JOB REQUEUE", "REQUEUED"),
        ("REASONS UNKNOWN", ""),
    ],
)
def test_why_slurm_ended_a_job_that_it_starts_again_is_in_the_jobs_log(words, expected) -> None:
    end = f"slurmstepd-node1: error: *** JOB 12 ON node1 CANCELLED AT 2026-11-27T22:54:03 DUE TO {words} ***"
    assert cause_in_log(["trial 0: claimed", end, "trial 0: released"], may_be_cancelled=True) == expected
    earlier = end.replace(words, "JOB REQUEUE")
    assert cause_in_log([earlier, end], may_be_cancelled=True) == (expected or "REQUEUED")
    cancelled = end.replace(f" DUE TO {words}", "")
    assert cause_in_log([end, cancelled], may_be_cancelled=True) == "CANCELLED"
    assert cause_in_log([end, cancelled], may_be_cancelled=False) == expected, "this is the end of a later life"


def test_each_life_of_a_job_that_is_started_again_is_another_worker() -> None:
    assert lives(squeue_jobs(line("12_3", "RUNNING", restarts=2))) == {
        "12_3": ("ended", "REQUEUED"),
        "12_3r1": ("ended", "REQUEUED"),
        "12_3r2": ("running", ""),
    }


def test_while_the_processes_of_a_job_end_that_will_be_started_again_its_last_life_may_still_write() -> None:
    found = lives(squeue_jobs(line("12_3", "COMPLETING", restarts=2)))
    assert [state for state, _ in found.values()] == ["ended", "running", "running"]


@pytest.mark.parametrize(("job", "restarts", "life"), [("12_3", 0, "12_3"), ("12_3", 4, "12_3r4"), ("12", 1, "12r1")])
def test_the_name_of_a_life_is_read_as_it_is_written(job: str, restarts: int, life: str) -> None:
    assert life_of(job, restarts) == life
    assert job_and_restarts(life) == (job, restarts)


@pytest.mark.parametrize("text", ["", "ray-7", "12_", "12_3r", "r1", "12_3_4"])
def test_what_names_no_job_of_slurm_has_no_life(text: str) -> None:
    assert job_and_restarts(text) is None
