"""Reading the output of a trained trial of own code again, in another way."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trial_records import ended

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import (
    Checkpoints,
    CommandRequest,
    FunctionRequest,
    InfeasibleEnds,
    MetricSource,
    Program,
)
from tunectl.core.records import AttemptEnd, TrialResult, WorkloadReference
from tunectl.programs.reread_trial import read_again
from tunectl.programs.unread_output import Beginning, note_beginning
from tunectl.store.trial_files import (
    append_attempt,
    read_trial,
    trial_state,
    write_measurements,
    write_request,
    write_result,
)

TRAIN = MetricSource("regex", r"step (?P<step>\d+) train (?P<loss>\S+)")
VALID = MetricSource("regex", r"step (?P<step>\d+) train \S+ valid (?P<loss>\S+)")
PROGRAM = Program((sys.executable, "{lr}"), "/", (TRAIN,))

FUNCTION = WorkloadReference("a:b", workload_kind="function")


class Trial:
    """A trial folder as a program left it."""

    def __init__(self, home: Path) -> None:
        self.folder = TrialFolder(home / "00007")
        self.folder.files.mkdir(parents=True)

    def request(self, program: Program = PROGRAM, attempt: int = 1) -> CommandRequest:
        return CommandRequest("s", 7, 1, program, {"lr": 1}, Objective("loss", "minimize"), 9, 2, attempt=attempt)

    def left(self, log: str, measured: dict[int, float], result: TrialResult | None, attempt: int = 1) -> None:
        self.folder.log.write_text(log)
        write_measurements(self.folder, [Measurement(s, {"loss": x}, elapsed_seconds=s) for s, x in measured.items()])
        write_request(self.folder, self.request(attempt=attempt))
        if result is not None:
            write_result(self.folder, result)

    def again(self, **changed: Any) -> bool:
        before = self.request()
        return read_again(before, replace(before, program=replace(before.program, **changed)), self.folder)

    def measured(self) -> dict[int, float]:
        return {item.step: item.metrics["loss"] for item in read_trial(self.folder).measurements}

    def state(self) -> tuple[str, str]:
        return trial_state(read_trial(self.folder))[:2]


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path)


def lines(first: int, last: int, valid: str = "0.{step}") -> str:
    return "".join(f"step {step} train 5 valid {valid.format(step=step)}\n" for step in range(first, last + 1))


COMPLETED = TrialResult(7, "completed", final_step=3, train_seconds=9.0, device="cuda:1", exit_code=0)


def test_a_completed_trial_keeps_its_times_and_its_device(trial: Trial) -> None:
    trial.left(lines(1, 3), {1: 5, 2: 5, 3: 5}, COMPLETED)
    assert trial.again(sources=(VALID,))
    assert trial.measured() == {1: 0.1, 2: 0.2, 3: 0.3}
    files = read_trial(trial.folder)
    assert [item.elapsed_seconds for item in files.measurements] == [1, 2, 3]
    assert files.result is not None
    assert replace(files.result, message="", notes={}) == COMPLETED
    # Read again in the same way, nothing is written but the request.
    assert trial.again(sources=(VALID,))
    assert [path.name for path in trial.folder.earlier.iterdir()] == ["1"]


def test_a_trial_that_was_stopped_early_stays_stopped_with_the_values_that_are_read_now(trial: Trial) -> None:
    trial.left(lines(1, 3), {1: 5, 2: 5, 3: 5}, TrialResult(7, "stopped", "stopped_early", final_step=3))
    assert trial.again(sources=(VALID,))
    assert trial.measured() == {1: 0.1, 2: 0.2, 3: 0.3}
    assert trial.state() == ("stopped", "stopped_early")


def test_a_trial_that_resumed_from_a_checkpoint_is_read_attempt_by_attempt(trial: Trial) -> None:
    first, second, third = lines(1, 4, "9"), lines(3, 5, "1"), lines(5, 6, "2")
    trial.left(first + second + third, {}, replace(COMPLETED, attempt=3), attempt=3)
    note_beginning(trial.folder, Beginning(None, 0))
    note_beginning(trial.folder, Beginning(2, len(first)))
    note_beginning(trial.folder, Beginning(2, len(first), failures=1))
    note_beginning(trial.folder, Beginning(4, len(first + second)))
    assert trial.again(sources=(VALID,))
    # Step 5 of the second attempt was gone back behind.
    assert trial.measured() == {1: 9, 2: 9, 3: 1, 4: 1, 5: 2, 6: 2}


def test_only_the_last_attempt_counts_of_a_trial_that_started_over(trial: Trial) -> None:
    first = lines(1, 4, "9")
    trial.left(first + lines(1, 2), {}, replace(COMPLETED, attempt=2), attempt=2)
    note_beginning(trial.folder, Beginning(None, 0))
    note_beginning(trial.folder, Beginning(None, len(first)))
    assert trial.again(sources=(VALID,))
    assert trial.measured() == {1: 0.1, 2: 0.2}


def test_a_trial_with_several_attempts_that_cannot_be_found_in_the_log_is_unchanged(trial: Trial) -> None:
    trial.left(lines(1, 4), {1: 5}, replace(COMPLETED, attempt=2), attempt=2)
    assert not trial.again(sources=(VALID,))
    assert trial.measured() == {1: 5}
    assert not trial.folder.earlier.exists()


def test_a_trial_whose_log_was_lost_in_a_power_cut_is_unchanged(trial: Trial) -> None:
    """What was measured of its first attempt is not in the log."""
    first = lines(1, 2)
    trial.left(first + lines(5, 6), dict.fromkeys(range(1, 7), 5.0), COMPLETED, attempt=2)
    note_beginning(trial.folder, Beginning(None, 0))
    note_beginning(trial.folder, Beginning(4, len(first), lost=True))
    assert not trial.again(sources=(VALID,))
    assert trial.measured() == dict.fromkeys(range(1, 7), 5.0)


def test_a_trial_that_another_metric_ended_early_goes_on(trial: Trial) -> None:
    nan = TrialResult(7, "infeasible", "nan_metric", "gap is NaN at step 2", infeasible_step=2)
    trial.left(lines(1, 2), {1: 5}, nan)
    assert trial.again(sources=(VALID,))
    assert trial.state() == ("cancelled", "cancelled")
    assert [(item.attempt, item.reason) for item in read_trial(trial.folder).attempts] == [(1, "cancelled")]
    assert (trial.folder.earlier / "1" / "result.json").is_file()


def test_a_trial_that_ended_by_itself_does_not_go_on(trial: Trial) -> None:
    nan = TrialResult(7, "infeasible", "nan_metric", "gap is NaN at step 2", infeasible_step=2, exit_code=0)
    trial.left(lines(1, 2), {1: 5}, nan)
    assert trial.again(sources=(VALID,))
    assert trial.state() == ("completed", "")


def test_a_nan_is_found_when_it_is_read(trial: Trial) -> None:
    trial.left(lines(1, 2) + "step 3 train 5 valid nan\n", {1: 5}, COMPLETED)
    assert trial.again(sources=(VALID,))
    assert trial.state() == ("infeasible", "nan_metric")


def test_an_expression_that_matches_nothing_makes_a_completed_trial_a_failed_one(trial: Trial) -> None:
    trial.left(lines(1, 2), {1: 5}, COMPLETED)
    assert trial.again(sources=(replace(VALID, where=r"nothing (?P<loss>\S+)"),))
    assert trial.state() == ("failed", "no_metric")
    assert trial.again(sources=(VALID,))
    assert trial.state() == ("completed", "")


@pytest.mark.parametrize(
    ("result", "ends", "state"),
    [
        (TrialResult(7, "failed", "exit_code_3"), InfeasibleEnds((3,)), ("infeasible", "exit_code_3")),
        (TrialResult(7, "failed", "exit_code_3"), InfeasibleEnds((4,)), ("failed", "exit_code_3")),
        (TrialResult(7, "infeasible", "exit_code_3"), InfeasibleEnds(), ("failed", "exit_code_3")),
        (TrialResult(7, "failed", "exit_code_3"), InfeasibleEnds((), ("exploded",)), ("infeasible", "it exploded")),
        (TrialResult(7, "failed", "error"), InfeasibleEnds((), ("exploded",)), ("failed", "error")),
        (COMPLETED, InfeasibleEnds((), ("exploded",)), ("completed", "")),
    ],
)
def test_changed_infeasible_ends_are_applied_again(
    trial: Trial, result: TrialResult, ends: InfeasibleEnds, state: tuple[str, str]
) -> None:
    trial.left(lines(1, 2) + "it exploded\n", {1: 5, 2: 5}, result)
    assert trial.again(infeasible=ends)
    assert trial.state() == state


def test_a_program_killed_by_a_signal_has_a_result_only_if_a_pattern_matches(trial: Trial) -> None:
    trial.left(lines(1, 2) + "CUDA out of memory\n", {1: 5, 2: 5}, None)
    append_attempt(trial.folder, AttemptEnd(1, "crashed", "was killed by SIGABRT", True))
    assert trial.again(sources=(VALID,))
    assert trial.state() == ("failed", "crashed")
    assert trial.measured() == {1: 0.1, 2: 0.2}
    assert trial.again(infeasible=InfeasibleEnds((), ("out of memory",)))
    assert trial.state() == ("infeasible", "out_of_memory")


def test_checkpoints_by_another_pattern_get_other_names_and_none_is_removed(trial: Trial) -> None:
    trial.left(lines(1, 6), dict.fromkeys(range(1, 7), 5.0), COMPLETED)
    for epoch in (1, 2, 3):
        (trial.folder.files / f"{epoch}.pt").write_text(str(epoch))
    assert trial.again(checkpoints=Checkpoints("{trial.dir}/{step}.pt"))
    before = replace(trial.request().program, checkpoints=Checkpoints("{trial.dir}/{step}.pt"))
    now = replace(before, checkpoints=Checkpoints("{trial.dir}/{step}.pt", every=2))
    assert read_again(trial.request(before), trial.request(now), trial.folder)
    named = {item.step: item.checkpoint for item in read_trial(trial.folder).measurements if item.checkpoint}
    assert named == {2: "step-00000002.pt", 4: "step-00000004.pt", 6: "step-00000006.pt"}
    assert [(trial.folder.checkpoints / name).read_text() for name in named.values()] == ["1", "2", "3"]


def test_the_metrics_of_a_function_are_read_under_another_objective(trial: Trial) -> None:
    metric = Objective("val", "minimize")
    before = FunctionRequest("s", 7, 1, WorkloadReference("a:b", workload_kind="function"), {}, metric, 9, 2)
    write_measurements(trial.folder, [Measurement(1, {"loss": 0.5})])
    write_result(trial.folder, TrialResult(7, "failed", "no_metric", "the function never recorded val"))
    assert read_again(before, replace(before, objective=Objective("loss", "minimize")), trial.folder)
    assert trial.state() == ("completed", "")


def test_a_function_s_metric_only_at_step_0_is_no_value_of_another_objective(trial: Trial) -> None:
    before = FunctionRequest("s", 7, 1, FUNCTION, {}, Objective("val", "minimize"), 9, 2)
    write_measurements(trial.folder, [Measurement(0, {"loss": 0.5}), Measurement(1, {"other": 0.5})])
    write_result(trial.folder, TrialResult(7, "failed", "no_metric", "the function never recorded val"))
    assert read_again(before, replace(before, objective=Objective("loss", "minimize")), trial.folder)
    assert trial.state() == ("failed", "no_metric")
    assert "only at step 0" in ended(read_trial(trial.folder).result).message


DEAD = [Measurement(step, {"loss": 0.5, "train/loss": 9.0 if step < 3 else 2.3}) for step in range(1, 41)]
"""A training loss that falls once, to 2.3, and stays: dead where that is the loss of a constant prediction."""


def function_trial(trial: Trial, measured: list[Measurement], result: TrialResult, **request: Any) -> FunctionRequest:
    write_measurements(trial.folder, measured)
    write_result(trial.folder, result)
    base = FunctionRequest("s", 7, 1, FUNCTION, {}, Objective("loss", "minimize"), 9, 2)
    return replace(base, **request)


def test_a_function_is_judged_again_when_a_baseline_is_added_or_removed(trial: Trial) -> None:
    done = replace(COMPLETED, final_step=40, exit_code=None)
    before = function_trial(trial, DEAD, done)
    now = replace(before, baseline_loss=2.3)
    assert read_again(before, now, trial.folder)
    assert trial.state() == ("infeasible", "no_progress")
    assert ended(read_trial(trial.folder).result).baseline_loss == 2.3
    forgiving = replace(now, no_progress=False)
    assert read_again(now, forgiving, trial.folder)
    assert trial.state() == ("completed", "")
    assert read_again(forgiving, now, trial.folder)
    assert trial.state() == ("infeasible", "no_progress")
    assert read_again(now, before, trial.folder)
    assert read_trial(trial.folder).result == done
    assert list(read_trial(trial.folder).measurements) == DEAD


@pytest.mark.parametrize("reason", ["no_progress", "diverged", "out_of_memory"])
def test_a_function_that_raised_infeasible_stays_so_under_another_baseline(trial: Trial, reason: str) -> None:
    raised = TrialResult(7, "infeasible", reason, reason, infeasible_step=40, baseline_loss=2.3)
    before = function_trial(trial, DEAD, raised, baseline_loss=2.3)
    assert read_again(before, replace(before, baseline_loss=9.0, no_progress=False), trial.folder)
    assert trial.state() == ("infeasible", reason)


def log_of(measured: list[Measurement]) -> str:
    return "".join(f"step {m.step} train {m.metrics['train/loss']} valid {m.metrics['loss']}\n" for m in measured)


TOLD = MetricSource("regex", r"step (?P<step>\d+) train (?P<train__loss>\S+) valid (?P<loss>\S+)")


@pytest.mark.parametrize("exit_code", [0, None])  # not known of a program that was stopped as it ended
@pytest.mark.parametrize("has_log", [True, False])
def test_a_program_is_judged_again_when_a_baseline_is_added_or_removed(
    trial: Trial, has_log: bool, exit_code: int | None
) -> None:
    plain = trial.request(replace(PROGRAM, sources=(TOLD,)))
    done = replace(COMPLETED, final_step=40, exit_code=exit_code)
    write_measurements(trial.folder, DEAD)
    write_result(trial.folder, done)
    if has_log:
        trial.folder.log.write_text(log_of(DEAD))
    given = replace(plain, baseline_loss=2.3)
    assert read_again(plain, given, trial.folder)
    assert trial.state() == ("infeasible", "no_progress")
    assert read_again(given, replace(given, no_progress=False), trial.folder)
    assert trial.state() == ("completed", "")
    assert read_again(replace(given, no_progress=False), given, trial.folder)
    assert trial.state() == ("infeasible", "no_progress")
    assert read_again(given, plain, trial.folder)
    assert read_trial(trial.folder).result == done
    assert [item.metrics for item in read_trial(trial.folder).measurements] == [item.metrics for item in DEAD]


def test_a_program_is_judged_by_another_baseline_even_if_its_attempts_are_not_known(trial: Trial) -> None:
    trial.left(log_of(DEAD), {}, replace(COMPLETED, attempt=2), attempt=2)
    write_measurements(trial.folder, DEAD)
    plain = trial.request(replace(PROGRAM, sources=(TOLD,)), attempt=2)
    assert read_again(plain, replace(plain, baseline_loss=2.3), trial.folder)
    assert trial.state() == ("infeasible", "no_progress")


def test_a_matched_pattern_stays_an_infeasible_end_under_another_baseline(trial: Trial) -> None:
    said = replace(PROGRAM, sources=(TOLD,), infeasible=InfeasibleEnds((), ("no_progress",)))
    result = TrialResult(7, "infeasible", "no_progress", "it said: no_progress", final_step=40, exit_code=3)
    before = trial.request(said)
    write_measurements(trial.folder, DEAD)
    write_result(trial.folder, result)
    trial.folder.log.write_text(log_of(DEAD) + "no_progress\n")
    assert read_again(before, replace(before, baseline_loss=9.0), trial.folder)
    assert trial.state() == ("infeasible", "no_progress")
    trial.folder.log.unlink()
    assert read_again(replace(before, baseline_loss=9.0), replace(before, no_progress=False), trial.folder)
    assert trial.state() == ("infeasible", "no_progress")
