"""Which running trials are found to be hopeless, by the lines that they write. Tests session/early_stopping.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from builders import NUISANCE_RATE, study

from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial, Scalar, TrialOutcome
from tunectl.execution.devices import CPU
from tunectl.execution.jobs import Tick, TrialEnded, TrialRetried, TrialStarted
from tunectl.execution.slots import make_slots
from tunectl.language.study_spec import StudySpec
from tunectl.session.early_stopping import EarlyStopping, comparable, early_stopping
from tunectl.space.trial_plan import plan_trials

(SLOT,) = make_slots([CPU], count=1)


def spec_of(rule: str = "{rule: median, grace: 0.1, min_trials: 2}", **hyperparameters: Any) -> StudySpec:
    return study({"learning_rate": NUISANCE_RATE, **hyperparameters}, search=f"{{trials: 5, stop_early: {rule}}}")


@dataclass
class Run:
    """A run of a study whose trials write what a test wants, on a clock that every look moves on."""

    spec: StudySpec
    folder: StudyFolder
    stopping: EarlyStopping
    now: float = 0.0

    def clock(self) -> float:
        self.now += 1
        return self.now

    def starts(self, *trials: int) -> None:
        for trial in trials:
            self.stopping.take(TrialStarted(trial, SLOT, 1, 100 + trial))

    def writes(self, trial: int, values: dict[int, float]) -> None:
        home = self.folder.trial(trial)
        home.path.mkdir(parents=True, exist_ok=True)
        lines = [
            Measurement(step, {self.spec.objective.metric: value}, elapsed_seconds=step / 10)
            for step, value in values.items()
        ]
        with home.measurements.open("a") as file:
            file.writelines(jsontext.encode(line.to_json()) + "\n" for line in lines)

    def looks(self) -> dict[int, int]:
        """The hopeless trials after another look, each with its step."""
        self.stopping.take(Tick(1, 0))
        return {trial: item.step for trial, item in self.stopping.hopeless.items()}

    def ends(self, trial: int, state: Any = "completed") -> None:
        self.stopping.take(TrialEnded(trial, state, "", "", 1.0, 1))


def run_of(place: Path, spec: StudySpec, before: tuple[TrialOutcome, ...] = ()) -> Run:
    folder, trials = StudyFolder(place), {trial.trial: trial for trial in plan_trials(spec)}
    stopping = early_stopping(folder, spec, trials, before)
    assert stopping is not None
    run = Run(spec, folder, stopping)
    stopping.clock = run.clock
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_of(tmp_path, spec_of())


def test_without_a_rule_nothing_is_followed(tmp_path: Path) -> None:
    assert early_stopping(StudyFolder(tmp_path), study(), {}, ()) is None


def test_a_trial_that_is_worse_than_others_at_its_step_is_hopeless_and_says_why(run: Run) -> None:
    run.starts(0, 1, 2)
    for trial, value in ((0, 0.1), (1, 0.2), (2, 0.9)):
        run.writes(trial, {0: 1.0, 300: value})
    assert run.looks() == {2: 300}
    found = run.stopping.hopeless[2]
    assert found.message == "at step 300 its best valid/error_rate 0.9 is worse than 0.2, the median of 2 trials there"
    assert found.seconds == 30.0


def test_a_trial_is_compared_only_at_its_new_evaluations(run: Run) -> None:
    run.starts(0, 1, 2)
    run.writes(2, {300: 0.9})
    assert run.looks() == {}
    run.writes(0, {300: 0.1})
    run.writes(1, {300: 0.1})
    assert run.looks() == {}, "trial 2 has made no new evaluation"
    run.writes(2, {400: 0.9})
    run.writes(0, {400: 0.1})
    run.writes(1, {400: 0.1})
    assert run.looks() == {2: 400}


def test_ended_trials_of_this_run_and_of_earlier_ones_are_compared_with(tmp_path: Path) -> None:
    spec = spec_of()
    plans = plan_trials(spec)
    before = run_of(tmp_path, spec)
    before.writes(0, {300: 0.1, 2000: 0.1})
    run = run_of(tmp_path, spec, (TrialOutcome(plans[0], "completed"), TrialOutcome(plans[3], "pending")))
    run.starts(1)
    run.writes(1, {300: 0.2, 2000: 0.2})
    run.ends(1)
    run.starts(2)
    run.writes(2, {300: 0.9})
    assert run.looks() == {2: 300}
    run.ends(2, "stopped")
    assert run.looks() == {}


def test_trials_that_workers_have_given_back_are_compared_with(run: Run) -> None:
    claims = [run.folder.claimed / f"{trial:05d}.vm-5-0a1b" for trial in range(3)]
    for claim in claims:
        claim.mkdir(parents=True)
    run.folder.trials.mkdir()
    run.starts(0, 1, 2)
    for trial in (0, 1):
        run.writes(trial, {300: 0.1})
        run.looks()
        run.writes(trial, {400: 0.1})
        claims[trial].rename(run.folder.home(trial).path)
        run.looks()
        run.ends(trial)
    run.writes(2, {400: 0.9})
    assert run.looks() == {2: 400}


def test_failed_and_cancelled_trials_are_not_compared_with(run: Run) -> None:
    run.starts(0, 1, 2, 3)
    for trial in range(3):
        run.writes(trial, {300: 0.1})
    run.ends(0, "failed")
    run.ends(1, "cancelled")
    run.stopping.take(TrialRetried(2, "crashed", "", 1))
    run.writes(3, {300: 0.9})
    assert run.looks() == {}


def test_a_resumed_trial_counts_with_what_its_file_has_then(run: Run) -> None:
    run.starts(0, 1, 2)
    run.writes(0, {300: 0.1})
    run.writes(1, {300: 0.1})
    run.writes(2, {200: 0.05, 250: 0.05})
    run.looks()
    run.folder.trial(2).measurements.unlink()
    run.writes(2, {200: 0.9, 300: 0.9})
    assert run.looks() == {2: 300}


def planned(**changes: Any) -> PlannedTrial:
    (plan, *_) = plan_trials(spec_of())
    return replace(plan, **changes)


SAME = planned(trial=3, point=3, hyperparameters={"optimizer": "sgd", "learning_rate": 0.3})
COSINE: dict[str, Scalar] = {"optimizer": "sgd", "learning_rate": 0.3, "schedule": "cosine"}


@pytest.mark.parametrize(
    ("other", "are"),
    [
        (SAME, True),
        (replace(SAME, setting=1), False),
        (replace(SAME, stage=1), False),
        (replace(SAME, training={"max_train_steps": 4000}), False),
        (replace(SAME, hyperparameters=COSINE), False),
        (replace(SAME, hyperparameters={**SAME.hyperparameters, "warmup_steps": 10}), False),
        (replace(SAME, training={"decay_steps": 100}), False),
        (replace(SAME, hyperparameters={**SAME.hyperparameters, "batch_size": 8}), True),
    ],
)
def test_only_trials_of_one_setting_length_and_schedule_are_compared(other: PlannedTrial, are: bool) -> None:
    spec = spec_of()
    assert (comparable(spec, planned()) == comparable(spec, other)) is are


def test_trials_must_also_agree_in_what_the_study_names() -> None:
    spec = spec_of("{rule: median, same: [batch_size]}", batch_size="{role: nuisance, values: [8, 16]}")
    small, large = (replace(SAME, hyperparameters={**SAME.hyperparameters, "batch_size": size}) for size in (8, 16))
    assert comparable(spec, small) != comparable(spec, large)
    assert comparable(spec, small) == comparable(
        spec, replace(small, hyperparameters={**small.hyperparameters, "learning_rate": 1.0})
    )


def test_only_trials_of_the_search_are_stopped(tmp_path: Path) -> None:
    spec = spec_of()
    trials = {plan.trial: replace(plan, trial_kind="retrain") for plan in plan_trials(spec)}
    stopping = early_stopping(StudyFolder(tmp_path), spec, trials, ())
    assert stopping is not None
    run = Run(spec, StudyFolder(tmp_path), stopping)
    stopping.clock = run.clock
    run.starts(0, 1, 2)
    for trial, value in ((0, 0.1), (1, 0.2), (2, 0.9)):
        run.writes(trial, {300: value})
    assert run.looks() == {}
