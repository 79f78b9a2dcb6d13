"""How many workers an engine is asked for. Tests worker_supply.py and engines/__init__.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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


def with_fruitless_workers() -> tuple[Case, WorkerSupply]:
    """Of four workers one is at work, and three have ended without having claimed a trial."""
    case = Case(FakeEngine(most=4))
    supply = case.supply()
    supply.look(9, 0)
    supply.trial_claimed("0")
    case.engine.known |= {job: EngineJob("ended", "FAILED") for job in ("1", "2", "3")}
    supply.look(9, 1)
    return case, supply


def test_workers_that_end_without_a_trial_are_only_a_warning_while_another_one_is_at_work() -> None:
    case, supply = with_fruitless_workers()
    supply.look(9, 1)
    assert case.engine.asked == [4]
    assert len(case.said) == 1
    assert case.said[0].endswith("another one is tried in 60 s")


def test_while_others_are_at_work_one_worker_is_tried_again_after_pauses_that_grow_until_one_claims() -> None:
    case = Case(FakeEngine(most=4))
    supply = case.supply()
    supply.look(9, 0)
    supply.trial_claimed("0")
    case.engine.known |= {job: EngineJob("ended", "FAILED") for job in ("1", "2", "3")}
    tried: list[float] = []
    while case.now < 4 * 3600.0:
        supply.trial_ended()  # of the one that works, which is no reason to wear out a bad node faster
        supply.look(9, 1)
        if len(case.engine.asked) > len(tried) + 1:
            tried.append(case.now)
            case.engine.known[str(len(case.engine.known) - 1)] = EngineJob("ended", "FAILED")
        case.now += 30.0
    assert tried == [60.0, 180.0, 420.0, 900.0, 1860.0, 3780.0, 7380.0, 10980.0]
    assert case.engine.asked == [4, *[1] * 8]
    supply.trial_claimed("11")
    supply.look(9, 2)
    assert case.engine.asked[-1] == 3, "all that are missing, at once"


def test_a_node_that_was_bad_hours_ago_ends_no_run_whose_other_workers_reach_their_time_limit() -> None:
    case = Case(FakeEngine(most=4))
    supply = case.supply()
    supply.look(50, 0)
    for job in ("0", "1", "2"):
        supply.trial_claimed(job)
    case.engine.known["3"] = EngineJob("ended", "NODE_FAIL")
    for _ in range(2):
        supply.look(47, 3)
        case.engine.known[str(len(case.engine.known) - 1)] = EngineJob("ended", "NODE_FAIL")
    supply.look(47, 3)
    supply.trial_ended()
    case.engine.end()
    supply.look(40, 0)
    assert case.engine.asked == [4, 1, 1, 4]
    case.engine.end("FAILED")
    with pytest.raises(TunectlError, match="4 workers that slurm started ended without"):
        supply.look(40, 0)


def test_workers_that_run_and_take_no_trial_are_named_once_with_a_log(tmp_path: Path) -> None:
    """As where they wait for a GPU that others use: nothing else of the run says that."""
    case = Case(FakeEngine(most=3))
    supply = case.supply()
    supply.look(9, 0)
    case.engine.known = {str(job): EngineJob("running", log=tmp_path / f"{job}.out") for job in range(3)}
    supply.trial_claimed("0")
    while case.now < 3600.0:
        supply.look(8, 1)
        case.now += 30.0
    assert case.said == [
        "note: in 300 s 2 workers of slurm took no trial, though some are offered; the log of one says why: "
        f"{tmp_path / '1.out'}"
    ]


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
    with pytest.raises(TunectlError, match=r"51 workers .* none brought a trial to its end"):
        supply.look(5, 0)
    supply = case.supply()
    for number in range(JOBS_PER_RESULT * 3):
        supply.look(5, 0)
        supply.trial_claimed(str(len(case.engine.known) - 1))
        case.engine.end("TIMEOUT")
        if number % 10 == 0:
            supply.trial_ended()


def test_of_many_workers_the_first_that_is_lost_is_replaced_however_few_trials_have_ended() -> None:
    case = Case(FakeEngine(most=4 * JOBS_PER_RESULT))
    supply = case.supply()
    supply.look(500, 0)
    for job in case.engine.known:
        supply.trial_claimed(job)
    case.engine.known["7"] = EngineJob("ended", "NODE_FAIL")
    supply.trial_left(7, 0)
    supply.look(301, 199)
    assert (case.engine.asked, case.said) == ([200, 1], [])


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
    for _ in range(5):
        supply.look(5, 1)
        case.now += 60.0
    assert len(case.said) == 1
    case.engine.refuses = "sbatch: error: another one"
    supply.look(5, 1)
    assert len(case.said) == 2
    case.engine.refuses, case.now = "", 1000.0
    supply.look(5, 1)
    assert case.engine.asked == [6]


def test_a_run_that_is_left_soon_after_a_refusal_asks_once_more_and_says_what_is_missing() -> None:
    case = Case(FakeEngine(refuses="sbatch: error: QOSMaxSubmitJobPerUserLimit"))
    supply = case.supply()
    supply.look(5, 1)
    supply.look(5, 1, leaves=True)
    assert case.said[1:] == [
        "warning: slurm started no further workers: sbatch: error: QOSMaxSubmitJobPerUserLimit; the same command asks "
        "again"
    ]
    with pytest.raises(TunectlError, match="QOSMaxSubmit"):
        supply.look(5, 0, leaves=True)
    case.engine.refuses = ""
    supply.look(5, 1, leaves=True)
    assert case.engine.asked == [6]


def test_a_run_that_is_left_while_its_workers_begin_no_trial_says_so_whether_one_more_is_tried_or_not() -> None:
    case, supply = with_fruitless_workers()
    supply.look(9, 1, leaves=True)
    case.now += 60.0
    supply.look(9, 1, leaves=True)
    assert case.engine.asked == [4, 1]
    assert [line.rpartition("; ")[2] for line in case.said] == [
        "another one is tried in 60 s",
        *["no further ones are started"] * 2,
    ]


@pytest.mark.parametrize(
    ("slots", "workers", "each"), [(None, 25, 4), (2, 1, 2), (4, 1, 4), (6, 2, 3), (7, 2, 3), (8, 2, 4), (1, 1, 1)]
)
def test_no_more_trials_run_at_a_time_than_the_run_may_have(
    tmp_path: Path, slots: int | None, workers: int, each: int
) -> None:
    case = Case(FakeEngine(trials_at_once=4))
    case.supply(slots).look(100, 0)
    assert case.engine.asked == [workers]
    order = WorkerOrder(tmp_path, ResourcesSection(), print, tmp_path / "workers", slots=slots)
    assert order.command("--slots", "4")[-2:] == ["--slots", str(each)]
    assert slots is None or workers * each <= slots


def test_the_command_of_a_worker_runs_in_this_python_and_ends_by_itself(tmp_path: Path) -> None:
    order = WorkerOrder(tmp_path, ResourcesSection(), print, tmp_path / "workers", ("python3", "-P"))
    assert order.command("--slots", "2") == [
        *("python3", "-P", "-m", "tunectl", "worker", str(tmp_path), "--idle-seconds", "60", "--slots", "2")
    ]
    assert replace(order, waits=False).command()[-1] == "--no-wait"


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
