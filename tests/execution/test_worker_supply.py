"""How many workers an engine is asked for. Tests worker_supply.py and engines/__init__.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tunectl.core.errors import TunectlError
from tunectl.execution.engines import time_limit
from tunectl.execution.worker_engine import TIME_IS_SHORT, EngineJob, WorkerOrder
from tunectl.execution.worker_supply import JOBS_PER_RESULT, WorkerSupply, is_excused
from tunectl.language.study_spec import ResourcesSection, SlurmSection


@dataclass
class FakeEngine:
    """Its jobs are queued until the test changes them."""

    name: str = "slurm"
    can_be_left: bool = True
    most: int | None = None
    trials_at_once: int = 1
    known: dict[str, EngineJob] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    refuses: str = ""

    def submit(self, workers: int) -> None:
        if self.refuses:
            raise TunectlError(self.refuses)
        self.asked.append(workers)
        for _ in range(workers):
            self.known[str(len(self.known))] = EngineJob("queued")

    def jobs(self) -> Mapping[str, EngineJob]:
        return self.known

    def knows(self, job: str) -> bool | None:
        return self.known[job].state != "ended"

    def end(self, reason: str = "", log: Path | None = None) -> None:
        self.known = dict.fromkeys(self.known, EngineJob("ended", reason, log))

    def cancel(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Case:
    engine: FakeEngine
    said: list[str] = field(default_factory=list)
    now: float = 0.0
    time_limit: str = ""

    def supply(self, slots: int | None = None) -> WorkerSupply:
        return WorkerSupply(self.engine, slots, self.said.append, lambda: self.now, self.time_limit)


@pytest.mark.parametrize(
    ("trials", "most", "at_once", "slots", "workers"),
    [
        (3, None, 1, None, 3),
        (100, 8, 1, None, 8),
        (9, None, 4, None, 3),
        (100, 8, 4, 6, 2),
        (2, 8, 4, 100, 1),
    ],
)
def test_as_many_workers_are_asked_for_as_the_trials_need_within_the_limits(
    trials: int, most: int | None, at_once: int, slots: int | None, workers: int
) -> None:
    case = Case(FakeEngine(most=most, trials_at_once=at_once))
    supply = case.supply(slots)
    supply.look(trials, 0)
    supply.look(trials, 0)
    assert case.engine.asked == [workers]


def test_a_worker_that_ended_is_replaced_while_trials_are_offered() -> None:
    case = Case(FakeEngine(most=2))
    supply = case.supply()
    supply.look(10, 0)
    supply.trial_claimed("0")
    case.engine.known["0"] = EngineJob("ended", "TIMEOUT")
    supply.look(9, 1)
    assert case.engine.asked == [2, 1]
    supply.look(0, 2)
    assert case.engine.asked == [2, 1]


def test_workers_that_end_without_a_trial_stop_the_run_with_the_reason_and_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "0.out"
    log.write_text("Traceback\nModuleNotFoundError: No module named 'mine'\n")
    case = Case(FakeEngine(most=1))
    supply = case.supply()
    for _ in range(3):
        supply.look(5, 0)
        case.engine.end("FAILED", log)
    with pytest.raises(TunectlError, match="3 workers that slurm started ended without having begun a trial") as caught:
        supply.look(5, 0)
    assert "ended: FAILED" in str(caught.value)
    assert "No module named 'mine'" in str(caught.value)
    assert case.engine.asked == [1, 1, 1]


@pytest.mark.parametrize(
    ("minutes", "words"), [(1, "time_minutes is 1; let it be longer"), (None, "is not set, so that the partition sets")]
)
def test_workers_that_had_no_time_to_begin_a_trial_stop_the_run_with_their_time_limit(
    tmp_path: Path, minutes: int | None, words: str
) -> None:
    limit = time_limit("slurm", ResourcesSection(slurm=SlurmSection(time_minutes=minutes)))
    log = tmp_path / "0.out"
    log.write_text(f"0 trials ended, 0 released: {TIME_IS_SHORT}, as its batch system has warned\n")
    case = Case(FakeEngine(most=1), time_limit=limit)
    supply = case.supply()
    for _ in range(3):
        supply.look(5, 0)
        case.now += 60.0
        case.engine.end("", log)
    with pytest.raises(TunectlError, match="3 workers that slurm started were near their time limit before") as caught:
        supply.look(5, 0)
    assert words in str(caught.value)
    assert "as its batch system has warned" in str(caught.value)


def test_on_ray_a_worker_has_no_time_limit() -> None:
    assert time_limit("ray", ResourcesSection()) == ""


def test_workers_that_end_without_a_trial_are_only_a_warning_while_another_one_is_at_work() -> None:
    case = Case(FakeEngine(most=4))
    supply = case.supply()
    supply.look(9, 0)
    supply.trial_claimed("0")
    case.engine.known |= {job: EngineJob("ended", "FAILED") for job in ("1", "2", "3")}
    supply.look(9, 1)
    supply.look(9, 1)
    assert case.engine.asked == [4]
    assert len(case.said) == 1
    assert case.said[0].endswith("no further ones are started")


def test_a_pre_emption_is_no_failure_of_a_worker() -> None:
    case = Case(FakeEngine(most=1))
    supply = case.supply()
    for _ in range(10):
        supply.look(5, 0)
        case.engine.end("PREEMPTED")
    assert len(case.engine.asked) == 10
    assert [is_excused(word) for word in ("PREEMPTED", "CANCELLED by 0", "NODE_FAIL", "OUT_OF_MEMORY", "")] == [
        *(True, True, False, False, False)
    ]


def test_workers_that_claim_and_never_bring_a_trial_to_its_end_are_not_started_without_end() -> None:
    case = Case(FakeEngine(most=1))
    supply = case.supply()
    for number in range(JOBS_PER_RESULT + 1):
        supply.look(5, 0)
        supply.trial_claimed(str(number))
        case.engine.end("TIMEOUT")
    with pytest.raises(TunectlError, match="brought no trial to its end"):
        supply.look(5, 0)
    supply = case.supply()
    for number in range(JOBS_PER_RESULT * 3):
        supply.look(5, 0)
        supply.trial_claimed(str(len(case.engine.known) - 1))
        case.engine.end("TIMEOUT")
        if number % 10 == 0:
            supply.trial_ended()


def test_a_trial_that_goes_on_over_many_short_jobs_is_no_reason_to_start_no_more() -> None:
    case = Case(FakeEngine(most=1))
    supply = case.supply()
    for number in range(JOBS_PER_RESULT * 3):
        supply.look(1, 0)
        supply.trial_claimed(str(number))
        case.engine.end("TIMEOUT")
        supply.trial_left(0, progress=number // 20)
    assert len(case.engine.asked) == JOBS_PER_RESULT * 3


def test_workers_that_ended_well_as_others_had_taken_all_trials_are_no_sign_of_a_fault() -> None:
    case = Case(FakeEngine(most=6))
    supply = case.supply()
    supply.look(6, 0)
    supply.trial_claimed("0")
    case.now = 100.0
    supply.look(0, 1)
    # They were idle for a minute; then the trial of the first one is released, and offered again.
    case.now = 101.0
    case.engine.end()
    supply.look(1, 0)
    assert (case.engine.asked, case.said) == ([6, 1], [])


def test_workers_that_end_well_while_a_trial_is_offered_all_the_time_do_not_do_their_work() -> None:
    case = Case(FakeEngine(most=1))
    supply = case.supply()
    for _ in range(3):
        supply.look(1, 0)
        case.now += 60.0
        case.engine.end()
    with pytest.raises(TunectlError, match="ended without having begun a trial"):
        supply.look(1, 0)
    assert len(case.engine.asked) == 3


def test_an_engine_that_refuses_stops_a_run_of_which_nothing_is_at_work_and_is_asked_again_otherwise() -> None:
    case = Case(FakeEngine(refuses="sbatch: error: invalid account"))
    with pytest.raises(TunectlError, match="invalid account"):
        case.supply().look(5, 0)
    supply = case.supply()
    supply.look(5, 1)
    supply.look(5, 1)
    assert len(case.said) == 1
    case.engine.refuses, case.now = "", 60.0
    supply.look(5, 1)
    assert case.engine.asked == [6]


def test_the_command_of_a_worker_runs_in_this_python_and_ends_by_itself(tmp_path: Path) -> None:
    order = WorkerOrder(tmp_path, ResourcesSection(), print, tmp_path / "workers", ("python3", "-P"))
    assert order.command("--slots", "2") == [
        *("python3", "-P", "-m", "tunectl", "worker", str(tmp_path), "--idle-seconds", "60", "--slots", "2")
    ]


def test_the_ends_of_jobs_that_an_earlier_run_has_started_are_no_sign_that_workers_cannot_start() -> None:
    engine = FakeEngine(known={str(number): EngineJob("ended", "FAILED (signal 9)") for number in range(5)})
    engine.known["5"] = EngineJob("running")
    case = Case(engine)
    supply = case.supply()
    supply.look(2, 0)
    engine.end("FAILED (signal 9)")
    supply.look(2, 0)
    assert engine.asked == [1, 2]
    assert case.said == []
