"""Tests report/trial_details.py: what a trial opens to on the page."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import numpy as np

from tunectl.analysis.results.runs import Run
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import CommandRequest, Program
from tunectl.core.records import AttemptEnd, PlannedTrial, TrialOutcome
from tunectl.report.trial_details import trial_commands, trial_detail
from tunectl.store.trial_files import append_attempt

LOSS = Objective("valid/loss", "minimize")
PLAN = PlannedTrial(7, 1, 3, 0, (), {"learning_rate": 0.1, "optimizer": "sgd"}, seed=11)
OUTCOME = TrialOutcome(
    PLAN,
    "completed",
    message="said at the end",
    best_step=10,
    best_value=0.25,
    final_step=20,
    final_value=0.5,
    best_checkpoint="trials/00007/checkpoints/step-00000010.pt",
    train_seconds=12.34567,
    eval_seconds=1.5,
    device="cuda:0",
    attempts=2,
)
CURVE = (np.arange(1000.0), np.linspace(1, 0.25, 1000))
RUN = Run(PLAN, "completed", best_value=0.25, best_step=10, curves={"valid/loss": CURVE})


def test_a_trial_has_its_best_and_last_values_its_checkpoint_and_its_times(tmp_path):
    folder = StudyFolder(tmp_path)
    folder.trial(7).path.mkdir(parents=True)
    folder.trial(7).log.write_text("the end of the log\n")
    detail = trial_detail(folder, RUN, OUTCOME, LOSS, varying={"learning_rate"})
    facts = dict(detail.facts)
    assert facts["best"] == "0.25 at step 10"
    assert facts["last"] == "0.5 at step 20"
    assert facts["checkpoint"] == str(tmp_path / "trials/00007/checkpoints/step-00000010.pt")
    assert (facts["training time"], facts["evaluation time"]) == ("12.3 s", "1.5 s")
    assert "start time" not in facts, "what is not known is left out"
    assert (facts["device"], facts["attempts"]) == ("cuda:0", "2")
    assert facts["folder"] == str(tmp_path / "trials" / "00007")
    assert detail.message == "said at the end"
    assert detail.varying == ["learning_rate"]
    assert detail.log_tail == "the end of the log\n"


def test_why_earlier_attempts_of_a_trial_ended_is_beside_their_number(tmp_path):
    folder = StudyFolder(tmp_path)
    for attempt, reason in ((1, "released (PREEMPTED)"), (2, "lost (NODE_FAIL)")):
        append_attempt(folder.trial(7), AttemptEnd(attempt, reason, "its worker had to end"))
    facts = dict(trial_detail(folder, RUN, replace(OUTCOME, attempts=3), LOSS).facts)
    assert facts["attempts"] == "3: released (PREEMPTED), lost (NODE_FAIL)"


def test_long_curves_are_thinned_with_both_ends(tmp_path):
    steps, values = trial_detail(StudyFolder(tmp_path), RUN, OUTCOME, LOSS).curves["valid/loss"]
    assert len(steps) == len(values) == 200
    assert (steps[0], steps[-1], values[-1]) == (0.0, 999.0, 0.25)


def test_a_trial_without_an_outcome_or_a_folder_still_opens(tmp_path):
    detail = trial_detail(StudyFolder(tmp_path / "gone"), RUN, None, LOSS)
    assert detail.log_tail == ""
    assert dict(detail.facts)["seed"] == "11"


def test_the_commands_about_a_trial_can_be_copied_whatever_the_folder_is_called(tmp_path):
    folder = StudyFolder(tmp_path / "a 'quoted' name with ANYTRIAL")
    for before, after in trial_commands(folder):
        words = shlex.split(f"{before}7{after}")
        assert words[0] == "tunectl"
        assert words[2:4] == [str(folder.path), "7"]


def test_the_program_of_a_trial_is_shown_as_it_was_called(tmp_path):
    folder = StudyFolder(tmp_path)
    home = folder.trial(7)
    home.path.mkdir(parents=True)
    program = Program(
        ("python", "train.py", "--lr={learning_rate}", "--out={trial.dir}", "a word"), folder="/code", sources=()
    )
    request = CommandRequest("s", 7, 11, program, {"learning_rate": 0.1}, LOSS, max_train_steps=20, keep_checkpoints=1)
    home.request.write_text(json.dumps(request.to_json()))
    called = trial_detail(folder, RUN, OUTCOME, LOSS).called
    assert shlex.split(called) == ["python", "train.py", "--lr=0.1", f"--out={home.files}", "a word"]
    home.request.write_text("{")
    assert trial_detail(folder, RUN, OUTCOME, LOSS).called == "", "a damaged request is no reason to show no trial"
