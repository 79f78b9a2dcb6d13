"""The engine of Slurm beside programs that answer as Slurm does, also in its worst hours.

Tests engines/slurm.py, slurm_accounting.py, slurm_commands.py, slurm_foreign.py and slurm_submission.py. In
test_slurm_node.py the same engine is on a real Slurm.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm, squeue_line
from toy_trials import wait_until

from tunectl.core.errors import FolderError, TunectlError, UsageError
from tunectl.execution.engines import slurm, slurm_submission
from tunectl.execution.engines.slurm import (
    FRESH_SECONDS,
    MOST_WORKERS,
    WAITING_SECONDS,
    SlurmEngine,
)
from tunectl.execution.engines.slurm_accounting import AGAIN_SECONDS, MOST_TRIES, PAUSE_SECONDS
from tunectl.execution.engines.slurm_commands import ANSWER_SECONDS, slurm_environment
from tunectl.execution.engines.slurm_foreign import ASK_SECONDS
from tunectl.execution.engines.slurm_jobs import job_name
from tunectl.execution.engines.study_mark import study_mark
from tunectl.execution.worker_engine import EngineJob, WorkerOrder
from tunectl.language.study_spec import ResourcesSection, SlurmSection
from tunectl.store.heartbeats import LATE_SECONDS

UNREACHABLE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


class Case:
    """An engine on fake programs, with a clock that the test moves."""

    def __init__(self, fake: FakeSlurm, order: WorkerOrder, said: list[str]) -> None:
        self.fake, self.order, self.said = fake, order, said
        self.now = 1000.0
        self.engine = SlurmEngine(order, lambda: self.now)

    def asked_again(self) -> None:
        """Let the engine ask squeue, and take its answer."""
        self.until_answered()
        self.now += ASK_SECONDS
        self.until_answered()

    def until_answered(self) -> None:
        """Let the engine take the answers of squeue, if it has called it."""

        def has_answered() -> bool:
            self.engine.jobs()
            return not (self.engine._question.is_open or self.engine._by_id.is_open)

        wait_until(has_answered, "squeue has answered")

    @property
    def name(self) -> str:
        return job_name(study_mark(self.order.folder, self.order.study), self.order.study)

    def state(self, job: str) -> tuple[str, str]:
        found = self.engine.jobs()[job]
        return found.state, found.reason

    def knows(self, job: str) -> bool | None:
        """What is known once a command that this question needs has answered."""
        self.engine.knows(job)
        foreign = self.engine._foreign
        wait_until(lambda: (self.engine.knows(job), not foreign.is_open(job))[1], "squeue has answered")
        return self.engine.knows(job)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "slurm", monkeypatch)


@pytest.fixture
def start(fake: FakeSlurm, tmp_path: Path) -> Iterator[Callable[..., Case]]:
    """Make engines of one study folder."""
    cases: list[Case] = []
    study = tmp_path / "runs" / "a study"
    study.mkdir(parents=True)

    def made(section: SlurmSection | None = None, **resources: Any) -> Case:
        said: list[str] = []
        whole = replace(ResourcesSection(slurm=section or SlurmSection()), **resources)
        order = WorkerOrder(study, whole, said.append, study / "workers", ("python", "-P"))
        cases.append(Case(fake, order, said))
        return cases[-1]

    yield made
    for case in cases:
        case.engine.close()


def test_workers_are_submitted_as_an_array_and_count_as_queued_at_once(start, fake) -> None:
    case = start()
    case.engine.submit(3)
    log = case.order.folder / "101_2.log"
    assert case.engine.jobs()["101_2"] == EngineJob("queued", "", log)
    assert sorted(case.engine.jobs()) == ["101_0", "101_1", "101_2"]
    assert case.said == ["slurm: submitted 3 workers as job 101"]
    assert "#SBATCH --array=0-2%3" in fake.script("101")


def test_a_job_becomes_the_worker_by_exec_and_slurms_warning_reaches_it_alone(start, fake) -> None:
    section = SlurmSection(
        "gpu", 60, "a100:2", 8, 1.5, "physics", ("module load cuda",), None, {"qos": "high", "exclusive": True}
    )
    case = start(section, trials_per_device=2)
    case.engine.submit(1)
    lines = fake.script("101").splitlines()
    given = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert given == {
        *("partition=gpu", "time=60", "gpus-per-node=a100:2", "cpus-per-task=8", "mem=1536M", "account=physics"),
        *("nodes=1", "ntasks-per-node=1", "qos=high", "exclusive", "requeue", "array=0-0%1", "open-mode=append"),
        *(f"job-name={case.name}", "signal=B:USR2@90"),
        f"output={shlex.quote(str(case.order.folder / '%A_%a.log'))}",
    }
    assert [line for line in lines if line][-1] == (
        f"exec python -P -m tunectl worker {shlex.quote(str(case.order.study))} --idle-seconds 60 --slots 4"
    )
    assert "module load cuda" in lines
    assert not [line for line in lines if "srun" in line or "submitit." in line]
    assert not list(case.order.folder.glob("*.pkl"))


@pytest.mark.parametrize(
    ("section", "resources", "expected"),
    [
        (SlurmSection(), {}, 1),
        (SlurmSection(cpus_per_task=8), {}, 8),
        (SlurmSection(cpus_per_task=8), {"threads_per_trial": 3}, 2),
        (SlurmSection(cpus_per_task=2), {"threads_per_trial": 4}, 1),
        (SlurmSection(cpus_per_task=8), {"devices_per_trial": 4, "threads_per_trial": 2}, 1),
        (SlurmSection(gpus_per_node=4, cpus_per_task=16), {}, 4),
        (SlurmSection(gpus_per_node=4), {"trials_per_device": 2}, 8),
        (SlurmSection(gpus_per_node="a100:2", cpus_per_task=16), {}, 2),
        (SlurmSection(gpus_per_node=4), {"devices_per_trial": 2}, 2),
        (SlurmSection(gpus_per_node=3), {"devices_per_trial": 2, "trials_per_device": 2}, 2),
        (SlurmSection(gpus_per_node=6), {"devices_per_trial": 4, "trials_per_device": 2}, 2),
    ],
)
def test_a_job_trains_as_many_trials_as_it_has_places_for(section, resources, expected) -> None:
    assert slurm.trials_at_once(ResourcesSection(slurm=section, **resources)) == expected


@pytest.mark.parametrize(
    ("minutes", "grace", "expected"), [(None, 30.0, 90), (60, 30.0, 90), (60, 300.0, 360), (1, 30.0, 15), (2, 1e4, 30)]
)
def test_the_warning_leaves_time_to_save_and_at_most_a_quarter_of_the_jobs_time(minutes, grace, expected) -> None:
    resources = ResourcesSection(grace_seconds=grace, slurm=SlurmSection(time_minutes=minutes))
    assert slurm_submission.warning_seconds(resources) == expected


def test_the_number_of_jobs_at_a_time_is_the_studys_or_a_default(start) -> None:
    assert start(SlurmSection(array_parallelism=3)).engine.most == 3
    assert start().engine.most == MOST_WORKERS


def test_more_workers_than_an_array_may_have_are_submitted_in_several(start, monkeypatch) -> None:
    monkeypatch.setattr(slurm_submission, "LARGEST_ARRAY", 2)
    case = start()
    case.engine.submit(5)
    assert sorted(case.engine.jobs()) == ["101_0", "101_1", "102_0", "102_1", "103_0"]


def test_what_sbatch_says_is_the_error(start, fake, capsys) -> None:
    case = start()
    fake.fail("sbatch", "sbatch: error: invalid partition specified: gpu\nsbatch: error: Batch job submission failed\n")
    with pytest.raises(
        TunectlError, match=r"^sbatch: invalid partition specified: gpu; Batch job submission failed; see"
    ):
        case.engine.submit(2)
    assert case.engine.jobs() == {}
    assert capsys.readouterr() == ("", "")


def test_a_folder_whose_name_submitit_would_change_is_refused_before_anything_is_submitted(start, fake) -> None:
    case = start()
    for name in ("50%job", "back\\slash"):
        engine = SlurmEngine(replace(case.order, folder=case.order.study / name), lambda: 0.0)
        with pytest.raises(TunectlError, match="rename the folder"):
            engine.submit(1)
    assert fake.calls("sbatch") == []


def test_states_and_reasons_are_those_that_squeue_gives(start, fake) -> None:
    case = start()
    case.engine.submit(4)
    lines = [
        squeue_line("101_0", "RUNNING"),
        squeue_line("101_[1-2%4]", "PENDING", reason="QOSMaxJobsPerUserLimit"),
        squeue_line("101_3", "OUT_OF_MEMORY", code="125", reason="OutOfMemory"),
    ]
    fake.answer("squeue", "\n".join(lines))
    case.asked_again()
    assert case.state("101_0") == ("running", "")
    assert case.state("101_1") == case.state("101_2") == ("queued", "QOSMaxJobsPerUserLimit")
    assert case.state("101_3") == ("ended", "OUT_OF_MEMORY")
    assert [case.knows(job) for job in ("101_0", "101_1", "101_3")] == [True, True, False]


def test_where_all_jobs_wait_for_a_while_slurms_reason_is_said_once(start, fake) -> None:
    case = start()
    case.engine.submit(2)
    case.said.clear()
    waits = "\n".join(squeue_line(f"101_{task}", "PENDING", reason="Priority") for task in range(2))
    fake.answer("squeue", waits)
    case.asked_again()
    assert case.said == []
    for _ in range(3):
        case.now += WAITING_SECONDS
        case.asked_again()
    assert case.said == ["slurm: 2 jobs in the queue: Priority"]
    fake.answer("squeue", waits.replace("Priority", "QOSLimit", 1))
    case.asked_again()
    assert case.said[1:] == ["slurm: 2 jobs in the queue: Priority, QOSLimit"]


def test_where_a_job_runs_it_is_not_said_that_others_wait(start, fake) -> None:
    case = start()
    case.engine.submit(2)
    case.said.clear()
    fake.answer("squeue", squeue_line("101_0", "RUNNING") + "\n" + squeue_line("101_1", "PENDING", reason="Priority"))
    for _ in range(3):
        case.now += WAITING_SECONDS
        case.asked_again()
    assert case.said == []


def test_a_job_that_squeue_no_longer_lists_has_ended(start, fake) -> None:
    case = start()
    case.engine.submit(1)
    fake.answer("squeue", squeue_line("101_0", "RUNNING"))
    case.asked_again()
    fake.answer("squeue", "")
    case.asked_again()
    assert case.state("101_0") == ("ended", "")
    assert case.knows("101_0") is False


def test_a_job_that_was_submitted_after_squeue_was_called_is_not_missing_from_its_answer(start, fake) -> None:
    case = start()
    case.now += ASK_SECONDS
    case.engine.jobs()
    fake.until_called("squeue", 2)
    case.now += 1
    case.engine.submit(1)
    case.until_answered()
    assert case.state("101_0") == ("queued", "")
    case.asked_again()
    assert case.state("101_0") == ("ended", "")


def test_while_squeue_fails_jobs_are_as_they_were_known_and_soon_nothing_is_known_of_them(start, fake) -> None:
    case = start()
    case.engine.submit(2)
    fake.answer("squeue", squeue_line("101_0", "RUNNING") + "\n" + squeue_line("101_1", "TIMEOUT"))
    case.asked_again()
    fake.fail("squeue", UNREACHABLE)
    case.said.clear()
    case.asked_again()
    case.asked_again()
    assert case.state("101_0") == ("running", "")
    assert case.knows("101_0") is True, "squeue has listed it seconds ago"
    case.now += FRESH_SECONDS
    assert case.knows("101_0") is None
    assert case.knows("101_1") is False, "what has ended stays so"
    assert case.said == [f"slurm: {UNREACHABLE}; the jobs count as they were last known"], "it is said once"
    fake.answer("squeue", squeue_line("101_0", "RUNNING"))
    case.asked_again()
    assert case.knows("101_0") is True


def test_jobs_are_asked_for_in_hidden_partitions_and_in_the_whole_federation_too(start, fake) -> None:
    case = start()
    case.engine.submit(1)
    fake.answer("squeue-jobs", squeue_line("500", "RUNNING"))
    assert case.knows("500") is True
    case.asked_again()
    assert fake.calls("squeue")
    assert all("--all" in call and "--federation" in call for call in fake.calls("squeue"))


def test_a_job_that_has_lost_its_name_is_found_by_its_id_and_has_not_ended(start, fake) -> None:
    case = start()
    case.engine.submit(2)
    fake.answer("squeue", squeue_line("101_0", "RUNNING"))
    script = str(case.order.folder / ".submission_file_1.sh")
    renamed = squeue_line("101_1", "PENDING", reason="Priority", name="by a site", command=script)
    fake.answer("squeue-jobs", squeue_line("101_0", "RUNNING", command=script) + "\n" + renamed)
    case.asked_again()
    assert case.state("101_1") == ("queued", "Priority")
    assert case.knows("101_1") is True
    assert fake.calls("squeue")[-1].endswith(f",Command:4096 --user={os.getuid()} --jobs=101")
    case.engine.cancel()
    assert fake.calls("scancel")[1:] == [f"scancel --quiet --user={os.getuid()} 101_1"]
    assert start().state("101_1") == ("queued", "Priority"), "a later run finds it, too"


def test_a_folder_that_was_copied_neither_counts_the_jobs_of_the_other_one_nor_cancels_them(
    start, fake, tmp_path
) -> None:
    first = start()
    first.engine.submit(2)
    copy = tmp_path / "runs" / "copy"
    shutil.copytree(first.order.study, copy)
    known = [squeue_line(f"101_{task}", "RUNNING", name=first.name) for task in range(2)]
    fake.answer("squeue-jobs", "\n".join(known))  # and no job has the name that the copy's would have
    case = Case(fake, replace(first.order, study=copy, folder=copy / "workers"), [])
    case.asked_again()
    assert case.engine.jobs() == {}
    assert case.knows("101_0") is False, "no trial of the copy waits for a worker of the other folder"
    case.engine.cancel()
    assert fake.calls("scancel") == [f"scancel --user={os.getuid()} --name={case.name}"]
    assert case.name != first.name
    case.engine.close()


@pytest.mark.parametrize("command", ["", "/home/ada/train.sh"])
def test_another_job_with_the_id_of_an_earlier_one_is_none_of_the_study(start, fake, command) -> None:
    start().engine.submit(2)
    # The ids of the cluster have begun again, or it is another cluster.
    others = [squeue_line(f"101_{task}", "RUNNING", name="train", command=command) for task in range(2)]
    fake.answer("squeue-jobs", "\n".join(others))
    case = start()
    case.asked_again()
    assert {state.state for state in case.engine.jobs().values()} == {"ended"}
    case.engine.cancel()
    assert len(fake.calls("scancel")) == 1, "by the name alone"
    assert fake.calls("sacct") == [], "its reason would be that of the other job"


@pytest.mark.parametrize(
    ("error", "state"),
    [(UNREACHABLE, "running"), ("slurm_load_jobs error: Invalid job id specified", "ended")],
)
def test_a_job_that_is_not_listed_has_ended_only_when_slurm_says_that_it_has_no_such_job(
    start, fake, error, state
) -> None:
    case = start()
    case.engine.submit(1)
    fake.answer("squeue", squeue_line("101_0", "RUNNING"))
    case.asked_again()
    fake.answer("squeue", "")
    fake.fail("squeue-jobs", error)
    case.asked_again()
    assert case.state("101_0")[0] == state


def test_slurm_that_cannot_say_whether_the_jobs_of_an_earlier_run_exist_is_an_error(start, fake) -> None:
    start().engine.submit(1)
    fake.fail("squeue-jobs", UNREACHABLE)
    with pytest.raises(TunectlError, match="Unable to contact slurm controller"):
        start()


def test_a_submission_that_failed_though_slurm_has_taken_it_is_not_repeated(start, fake) -> None:
    case = start()
    fake.fail("sbatch", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    fake.answer("squeue", "\n".join(squeue_line(f"300_{task}", "PENDING") for task in range(2)))
    case.engine.submit(2)
    assert sorted(case.engine.jobs()) == ["300_0", "300_1"]
    assert len(fake.calls("sbatch")) == 1
    assert case.said[-1].endswith(
        "Socket timed out on send/recv operation; but 2 workers of this submission are in the queue"
    )


def test_while_it_is_not_known_whether_a_submission_was_taken_nothing_is_submitted(start, fake) -> None:
    case = start()
    fake.fail("sbatch", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    fake.fail("squeue", UNREACHABLE)
    with pytest.raises(TunectlError, match=r"whether it was submitted is not known: .*Unable to contact"):
        case.engine.submit(2)
    with pytest.raises(TunectlError, match=r"whether it was submitted is not known: .*Unable to contact"):
        case.engine.submit(2)
    assert len(fake.calls("sbatch")) == 1
    fake.answer("squeue", squeue_line("300_0", "RUNNING"))
    case.engine.submit(1)
    assert len(fake.calls("sbatch")) == 1, "the one that is wanted is there"
    assert list(case.engine.jobs()) == ["300_0"]
    assert not list(case.order.folder.glob(".submission_file_*"))


def test_an_array_with_the_id_of_an_earlier_one_is_a_new_one(start, fake) -> None:
    start().engine.submit(3)
    case = start()
    assert {job.state for job in case.engine.jobs().values()} == {"ended"}
    (fake.folder / "number").write_text("100")
    case.engine.submit(2)
    assert {life: job.state for life, job in case.engine.jobs().items()} == {"101_0": "queued", "101_1": "queued"}


@pytest.mark.parametrize(
    "limit",
    ["QOSMaxSubmitJobPerUserLimit", "AssocMaxSubmitJobLimit", "AssocGrpSubmitJobsLimit", "QOSGrpSubmitJobsLimit"],
)
def test_where_a_limit_allows_fewer_jobs_fewer_are_submitted(start, fake, limit) -> None:
    case = start()
    refusal = f"sbatch: error: {limit}"
    fake.refuse_arrays_above(3, refusal)
    case.engine.submit(16)
    assert sorted(case.engine.jobs()) == ["101_0", "101_1"]
    fake.refuse_arrays_above(0, refusal)
    with pytest.raises(TunectlError, match=limit):
        case.engine.submit(14)


def test_what_the_environment_says_to_sbatch_neither_renames_the_jobs_nor_gives_them_ids_of_another(
    start, fake, monkeypatch
) -> None:
    hidden = {
        *(
            "SBATCH_JOB_NAME",
            "SBATCH_ARRAY_INX",
            "SBATCH_SIGNAL",
            "SBATCH_NO_REQUEUE",
            "SBATCH_WAIT",
            "SBATCH_TIMELIMIT",
        ),
        *(
            "SBATCH_QOS",
            "SLURM_JOB_ID",
            "SLURM_ARRAY_TASK_ID",
            "SLURM_RESTART_COUNT",
            "SLURM_CPUS_PER_TASK",
            "TUNECTL_JOB",
        ),
        *("SBATCH_GPUS", "SBATCH_GPUS_PER_TASK", "SBATCH_GPUS_PER_NODE", "SBATCH_GRES"),
    }
    kept = {"SLURM_CONF", "SBATCH_RESERVATION", "SBATCH_PARTITION"}
    for name in hidden | kept:
        monkeypatch.setenv(name, "1")
    start(SlurmSection(time_minutes=5, gpus_per_node=2, additional={"qos": "high"})).engine.submit(1)
    seen = set(fake.environment("101"))
    assert (hidden & seen, kept - seen) == (set(), set())


@pytest.mark.parametrize("text", ["squeue: something new", "12_[3-7,"])
def test_an_answer_that_cannot_be_read_ends_no_job(start, fake, text) -> None:
    case = start()
    case.engine.submit(1)
    fake.answer("squeue", text)
    case.asked_again()
    assert case.state("101_0") == ("queued", "")
    assert "squeue printed something unknown" in case.said[-1]


def test_a_squeue_that_does_not_answer_holds_up_nothing_and_has_failed_after_a_while(start, fake) -> None:
    case = start()
    case.engine.submit(1)
    fake.hang("squeue")
    case.now += ASK_SECONDS
    case.engine.jobs()
    fake.until_called("squeue", 2)
    assert case.state("101_0") == ("queued", "")
    case.now += ANSWER_SECONDS
    assert case.state("101_0") == ("queued", "")
    assert case.said[-1].startswith("slurm: squeue did not answer within 60 seconds")
    assert case.knows("101_0") is None


def test_without_accounting_a_reason_that_squeue_does_not_give_is_not_known(start, fake) -> None:
    case = start()
    case.engine.submit(2)
    fake.fail("sacct", "Slurm accounting storage is disabled")
    fake.answer("squeue", squeue_line("101_0", "CANCELLED"))
    case.asked_again()
    fake.until_called("sacct", 1)
    wait_until(lambda: (case.engine.jobs(), not case.engine._accounting.is_on)[1], "sacct has answered")
    assert case.state("101_0") == ("ended", "CANCELLED")
    assert case.state("101_1") == ("ended", "")
    case.now += PAUSE_SECONDS
    case.asked_again()
    assert len(fake.calls("sacct")) == 1


def test_accounting_says_what_squeue_does_not_know(start, fake) -> None:
    case = start()
    case.engine.submit(3)
    fake.answer(
        "sacct",
        f"101_0|CANCELLED by 4000000|0:15|{case.name}|None\n101_1|NODE_FAIL|0:0|{case.name}|NodeDown\n"
        f"101_2|RUNNING|0:0|{case.name}|\n101_0|FAILED|1:0|a job before the ids began again|None\n",
    )
    fake.answer("squeue", squeue_line("101_0", "CANCELLED") + "\n" + squeue_line("101_2", "RUNNING"))
    case.asked_again()
    wait_until(lambda: case.state("101_1") == ("ended", "NODE_FAIL"), "sacct has answered")
    assert case.state("101_0") == ("ended", "CANCELLED by user 4000000")
    assert case.state("101_2") == ("running", "")
    asked = ",".join(call.rpartition("--jobs=")[2] for call in fake.calls("sacct")).split(",")
    # 101_1 may be in the answer about 101_0.
    assert sorted(asked) in (["101_0"], ["101_0", "101_1"]), "not twice for one"


def explained(case: Case, seconds: float) -> str:
    """The reason of job 101_0 after sacct was asked, or could have been, at this time."""
    case.now += seconds
    case.engine.jobs()
    wait_until(lambda: (case.engine.jobs(), not case.engine._accounting.is_open)[1], "sacct has answered")
    return case.state("101_0")[1]


def test_accounting_that_is_late_is_asked_again_a_few_times(start, fake) -> None:
    case = start()
    case.engine.submit(1)
    fake.answer("sacct", f"101_0|RUNNING|0:0|{case.name}|None\n")
    fake.answer("squeue", squeue_line("101_0", "CANCELLED"))
    case.asked_again()
    assert explained(case, 0.0) == "CANCELLED"
    assert explained(case, 1.0) == "CANCELLED"
    assert len(fake.calls("sacct")) == 1, "not at every look"
    fake.answer("sacct", f"101_0|CANCELLED by 4000000|0:0|{case.name}|None\n")
    assert explained(case, AGAIN_SECONDS) == "CANCELLED by user 4000000"
    explained(case, AGAIN_SECONDS)
    assert len(fake.calls("sacct")) == 2


def test_accounting_that_never_knows_a_job_is_asked_for_it_a_few_times(start, fake) -> None:
    case = start()
    case.engine.submit(1)
    fake.answer("squeue", squeue_line("101_0", "CANCELLED"))
    case.asked_again()
    for _ in range(MOST_TRIES + 3):
        explained(case, AGAIN_SECONDS)
    assert len(fake.calls("sacct")) == MOST_TRIES


def test_accounting_that_fails_once_is_asked_again_after_a_pause(start, fake) -> None:
    case = start()
    case.engine.submit(1)
    fake.fail(
        "sacct", "sacct: error: slurm_persist_conn_open: failed to open connection to db:6819: Connection refused"
    )
    fake.answer("squeue", squeue_line("101_0", "CANCELLED"))
    case.asked_again()
    assert explained(case, 0.0) == "CANCELLED"
    fake.answer("sacct", f"101_0|CANCELLED by 4000000|0:0|{case.name}|None\n")
    assert explained(case, AGAIN_SECONDS) == "CANCELLED"
    assert explained(case, PAUSE_SECONDS) == "CANCELLED by user 4000000"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("CANCELLED AT 2026-11-28T09:09:10 ***", "CANCELLED"),
        ("CANCELLED AT 2026-11-28T09:09:10 DUE TO TIME LIMIT ***", "TIMEOUT"),
        ("CANCELLED AT 2026-11-28T09:09:10 DUE TO PREEMPTION ***", "PREEMPTED"),
        ("", ""),
    ],
)
def test_of_a_job_that_is_about_to_end_its_log_says_why(start, fake, end, expected) -> None:
    case = start()
    case.engine.submit(1)
    case.order.folder.joinpath("101_0.log").write_text(f"trial 0: claimed\nslurmstepd: error: *** JOB 5 ON n1 {end}\n")
    fake.answer("squeue", squeue_line("101_0", "RUNNING"))
    case.asked_again()
    assert case.state("101_0") == ("running", "")
    fake.answer("squeue", squeue_line("101_0", "COMPLETING"))
    case.asked_again()
    assert case.state("101_0") == ("running", expected)


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING", "FAILED", "COMPLETED"])
def test_a_job_in_its_time_of_grace_is_preempted_also_where_it_then_ends_by_itself(start, fake, state) -> None:
    case = start()
    case.engine.submit(1)
    fake.answer("squeue", squeue_line("101_0", state, code="130:0", preempted="2026-11-28T09:10:00"))
    case.asked_again()
    assert case.state("101_0")[1] == "PREEMPTED"


def test_a_job_that_slurm_starts_again_is_another_worker_and_its_earlier_life_has_ended(start, fake) -> None:
    case = start()
    case.engine.submit(1)
    fake.answer("squeue", squeue_line("101_0", "RUNNING"))
    case.asked_again()
    fake.answer("squeue", squeue_line("101_0", "PENDING", restarts=1, reason="BeginTime"))
    case.asked_again()
    assert case.state("101_0") == ("ended", "REQUEUED")
    assert case.state("101_0r1") == ("queued", "BeginTime")
    assert (case.knows("101_0"), case.knows("101_0r1")) == (False, True)
    assert case.engine.jobs()["101_0r1"].log == case.engine.jobs()["101_0"].log


def test_the_engine_of_a_later_run_finds_the_jobs_again(start, fake) -> None:
    start().engine.submit(3)
    fake.answer("squeue", squeue_line("101_1", "RUNNING") + "\n" + squeue_line("101_2", "PREEMPTED"))
    later = start()
    assert [later.state(f"101_{task}") for task in range(3)] == [("ended", ""), ("running", ""), ("ended", "PREEMPTED")]


def test_jobs_are_found_by_their_name_where_the_run_was_killed_before_it_knew_their_ids(start, fake) -> None:
    fake.answer("squeue", squeue_line("77_0", "RUNNING"))
    case = start()
    assert case.state("77_0") == ("running", "")
    assert f"--name={case.name}" in fake.calls("squeue")[0]


def test_two_study_folders_have_jobs_of_different_names_without_odd_characters(tmp_path) -> None:
    names = set()
    for folder in ("a/x", "b/x", "a/größe, 1", "a/" + "x" * 200):
        (tmp_path / folder).mkdir(parents=True)
        names.add(job_name(study_mark(tmp_path / folder / "workers", tmp_path / folder), tmp_path / folder))
    (tmp_path / "a").rename(tmp_path / "before")
    (tmp_path / "a" / "x").mkdir(parents=True)  # as the same path on another host
    names.add(job_name(study_mark(tmp_path / "a" / "x" / "workers", tmp_path / "a" / "x"), tmp_path / "a" / "x"))
    assert len(names) == 5
    assert all(name.replace("-", "").isascii() and "," not in name and len(name) < 100 for name in names)


def test_slurm_that_does_not_answer_at_the_start_is_an_error(start, fake) -> None:
    fake.fail("squeue", UNREACHABLE)
    with pytest.raises(TunectlError, match="Unable to contact slurm controller"):
        start()


def test_a_machine_without_slurm_is_said_before_anything_is_made(start, monkeypatch) -> None:
    order = start().order
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match=r"^backend slurm: sbatch, squeue, scancel, srun are not on the PATH of "):
        slurm.check(order.resources)


def test_a_squeue_that_waits_for_something_says_for_what(start, fake, monkeypatch) -> None:
    monkeypatch.setattr(slurm, "_FIRST_SECONDS", 0.2)
    fake.hang("squeue", "squeue: error: s_p_parse_file: cannot stat file /c/slurm.conf: No such file, retrying")
    with pytest.raises(TunectlError, match=r"within 0 seconds \(s_p_parse_file: cannot stat file /c/slurm\.conf"):
        start()


def test_the_job_of_a_worker_that_a_person_started_is_asked_for_by_its_id(start, fake) -> None:
    case = start()
    fake.answer("squeue-jobs", squeue_line("500", "RUNNING"))
    assert case.knows("500") is True
    case.now += ASK_SECONDS
    fake.fail("squeue-jobs", UNREACHABLE)
    assert case.knows("500") is None
    case.now += ASK_SECONDS
    fake.fail("squeue-jobs", "slurm_load_jobs error: Invalid job id specified")
    assert case.knows("500") is False
    assert sum(call.endswith("--jobs=500") for call in fake.calls("squeue")) == 3
    assert "500" not in case.engine.jobs()
    case.now += 3600
    assert case.knows("500") is False, "what has ended stays so"


def test_of_a_job_that_slurm_never_shows_the_heartbeat_alone_says_whether_it_is_alive(start, fake) -> None:
    case = start()
    fake.fail("squeue-jobs", "slurm_load_jobs error: Invalid job id specified")

    def silent_for(seconds: float) -> list[bool | None]:
        seen = [case.knows("500")]
        for _ in range(int(seconds / 10)):
            case.now += 10
            seen.append(case.knows("500"))
        return seen

    assert silent_for(LATE_SECONDS - 10) == [None] * 6
    case.now += LATE_SECONDS  # the worker was heard of, and no question was asked; then it is silent again
    assert silent_for(LATE_SECONDS) == [*[None] * 6, False]


@pytest.mark.parametrize("job", ["ray-5", "", "somewhere"])
def test_what_is_no_job_of_slurm_is_not_known(start, job) -> None:
    assert start().knows(job) is False


def test_jobs_are_cancelled_by_their_name_and_a_failure_is_said_with_the_command(start, fake) -> None:
    case = start()
    case.engine.cancel()
    name = case.name
    assert fake.calls("scancel") == [f"scancel --user={os.getuid()} --name={name}"]
    fake.fail("scancel", "scancel: error: Unable to contact slurm controller")
    case.engine.cancel()
    assert case.said[-1].endswith(f"use: scancel --name={name}")


def test_filters_that_a_user_has_for_squeue_hide_no_job() -> None:
    environ = {"SQUEUE_PARTITION": "gpu", "SACCT_FORMAT": "x", "SLURM_CONF": "/c", "SBATCH_CLUSTERS": "alps"}
    given = {"SLURM_CONF": "/c", "SBATCH_CLUSTERS": "alps"}
    assert slurm_environment(environ) == {**given, "SLURM_CLUSTERS": "alps", "SLURM_BITSTR_LEN": "0"}


def test_without_submitit_the_command_that_installs_it_is_said(start, monkeypatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    order = start().order
    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(UsageError, match=r"submitit is not installed; pip install .*\[slurm\]"):
        slurm.make(order)


def test_a_damaged_script_of_an_earlier_run_is_a_link_or_nothing(start) -> None:
    case = start()
    (case.order.folder / "7_submission.sh").symlink_to("/etc/passwd")
    with pytest.raises(FolderError, match=r"7_submission\.sh"):
        start()
