"""`show`: a trial in words and as JSON, its command, and the study that trains it again; also the copy of a study.

Tests commands/show.py, session/frozen_trial.py, frozen_workload.py, stored_study.py and stored_agreement.py there, and
session/request_differences.py, cli/printed_answer.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import NUISANCE_RATE, study_text
from made_up_folders import NOW, made_up_folder
from narrowing import as_number
from study_calls import Called

from tunectl import open_study
from tunectl.commands.report import report_study
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import AttemptEnd, PlannedTrial, TrialResult
from tunectl.language.study_reader import load_study, parse_study
from tunectl.session.checked_study import check_study
from tunectl.session.frozen_trial import frozen_study
from tunectl.session.promoted_trials import promoted
from tunectl.session.snapshot import study_snapshot
from tunectl.session.stored_agreement import check_as_run
from tunectl.session.study_evidence import ObjectiveChoice
from tunectl.session.trial_requests import trial_request
from tunectl.space.trial_plan import plan_trials
from tunectl.store.provenance import append_provenance, describe_run
from tunectl.store.trial_files import append_attempt, read_trial

Call = Callable[..., Called]

SETTINGS = study_text(
    {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
        "batch_size": "32",
    },
    goal="Which one is it?",
    search="{trials: 6}",
)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A finished study of two settings, of which sgd, with trial 10, is the best; trial 3 is infeasible."""

    def value(plan: PlannedTrial) -> float | None:
        return None if plan.trial == 3 else 0.5 - plan.trial / 100 + 0.3 * (plan.setting == 1)

    again = plan_trials(parse_study(SETTINGS, Path("study.yaml")))[10]
    more = PlannedTrial(12, 0, again.point, 1, (), again.hyperparameters, 99, "retrain")
    return made_up_folder(tmp_path / "runs" / "small", SETTINGS, value, more=(more,), file=tmp_path / "small.yaml")


def test_without_a_number_it_is_the_best_trial_after_the_answer_and_the_varying_values_come_first(folder, tunectl):
    called = tunectl("show", folder.path)
    assert called.code == 0, called.err
    lines = called.out.splitlines()
    assert lines[0].startswith("answer: sgd is better than adam (0.69): its best trial reaches 0.4")
    assert "trial 10 of small: completed; valid/error_rate 0.4 at step 50, rank 1 of 11" in called.out
    assert called.out.index("optimizer ") < called.out.index("learning_rate ") < called.out.index("batch_size ")
    assert "nuisance 0.001 to 1, log" in called.out
    assert f"best checkpoint: {folder.path}/trials/00010/checkpoints/step-00000050.pt" in called.out
    assert "retrains: 12, mean 0.38" in called.out
    assert max(len(line) for line in lines if "/" not in line) <= 100


def test_show_and_python_give_one_answer_with_what_makes_it_doubtful(tmp_path, tunectl):
    text = study_text({"learning_rate": NUISANCE_RATE}, search="{trials: 16}")
    folder = made_up_folder(
        tmp_path / "runs" / "low", text, lambda plan: 0.5 - as_number(plan.hyperparameters["learning_rate"])
    )
    study = open_study(folder.path)
    answer, shown = study.answer(), tunectl("show", folder.path, "--json").json()["answer"]
    assert answer.doubts == ("search-boundary",)
    assert (answer.sentence, answer.certainty, answer.command) == (
        shown["sentence"],
        shown["certainty"],
        shown["command"],
    )
    assert ([*answer.basis], [*answer.doubts], [*answer.varying]) == (
        shown["basis"],
        shown["doubts"],
        shown["best"]["varying"],
    )
    assert answer.best == study.best()
    assert "\nin doubt: see search-boundary\n" in tunectl("show", folder.path).out
    report_study(folder.path, ObjectiveChoice(), draw=False)
    assert json.loads((folder.path / "findings.json").read_text())["answer"] == shown


def test_a_checkpoint_that_was_removed_is_said_to_be(folder, tunectl):
    assert tunectl("clean", folder.path, "--best", 1, "--yes").code == 0
    place = "trials/00006/checkpoints/step-00000050.pt"
    assert f"\nbest checkpoint: removed; it was {folder.path}/{place}\n" in tunectl("show", folder.path, 6).out
    found = tunectl("show", folder.path, 6, "--json").json()
    assert (found["checkpoint"], found["removed_checkpoint"]) == (None, place)
    best = tunectl("show", folder.path, "--json").json()
    assert best["checkpoint"] is not None
    assert best["removed_checkpoint"] is None


def test_the_verdict_of_a_procedure_is_in_lines_of_80_characters(folder, tunectl):
    folder.procedure.write_text("{}")
    verdict = "The best learning rate is 0.1, and it is confirmed by three seeds. " * 4
    folder.conclusion.write_text(json.dumps({"verdict": verdict.strip()}))
    called = tunectl("show", folder.path)
    assert called.code == 2
    first, *lines = called.err.splitlines()
    assert first.endswith(f"have no best one; name a trial, as {folder.path}/0")
    assert " ".join(" ".join(lines).split()) == f"its verdict: {verdict.strip()}"
    assert max(map(len, lines)) <= 80


def test_a_trial_is_named_by_its_number_or_its_place_and_one_that_is_not_there_is_refused(folder, tunectl):
    by_number, by_place = (tunectl("show", *words, "--json") for words in ((folder.path, 3), (f"{folder.path}/3",)))
    assert by_number.json() == by_place.json()
    found = by_number.json()
    assert (found["state"], found["reason"], found["rank"], found["answer"]) == ("infeasible", "nan_loss", None, None)
    assert found["curve"]["valid/error_rate"] == {"0": 1.0, "50": 1.0, "100": 1.1}
    assert tunectl("show", f"{folder.path}/12", "--json").json()["retrain_of"] == 10
    for words, message in (
        ((folder.path, 13), "trial 13 not found: expected one from 0 to 12"),
        ((f"{folder.path}/3", 4), "expected one trial, got 3 and 4"),
        ((folder.path, 3, "--command", "--freeze", "a.yaml"), "expected one of them, got both"),
    ):
        called = tunectl("show", *words)
        assert (called.code, message in called.err) == (2, True), called.err


def test_the_answer_is_in_findings_json_at_the_head_of_the_page_and_at_the_end_of_a_run(folder, tunectl):
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    found = json.loads(json.dumps(report.to_json()["answer"]))
    assert found["best"]["trial"] == 10
    assert json.loads((folder.path / "findings.json").read_text())["answer"] == found
    page = (folder.path / "report.html").read_text()
    assert page.index('<section class="answer"') < page.index('<section id="findings"')
    assert '"answer":{' in page
    (folder.path.parent.parent / "small.yaml").unlink()  # the copy in the folder is run
    printed = tunectl("run", folder.study).out
    assert "\ngoal: Which one is it?\nanswer: sgd is better than adam" in printed
    assert printed.index("answer: ") > printed.index("note ")
    assert f"    {folder.path}/{found['best']['checkpoint']}\n" in printed  # a path from here, as in the commands
    assert tunectl("run", folder.study, "--json").json()["answer"] == found


def test_where_no_trial_has_a_value_none_is_the_best_and_a_number_is_asked_for(tmp_path, tunectl):
    lost = made_up_folder(tmp_path / "runs" / "lost", SETTINGS, lambda _: None)
    called = tunectl("show", lost.path)
    assert called.code == 2
    assert "No trial completed with a value" in called.err
    assert tunectl("show", lost.path, 0).code == 0


# The studies of which every trial is frozen, without training: what a trial is asked for must be the same.
CONDITIONS = {
    "optimizer": "{role: scientific, values: [nesterov, adam]}",
    "speed": "{role: nuisance, range: [1e-1, 3], scale: log}",
    "learning_rate": "{formula: speed / 10}",
    "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.99]}",
    "beta1": "{value: 0.95, when: {optimizer: adam}}",
    "decays": "{role: scientific, values: [false, true]}",
    "weight_decay": "{role: nuisance, when: {decays: true}, range: [1e-5, 1e-2], scale: log}",
    "schedule": "linear",
    "decay_steps": "{role: nuisance, range: [10, 20], type: int}",
    "width": "16",
}
OWN_CODE = """
class Lion:
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99)): ...


def halving(step, total_steps, *, halvings=4): ...
"""
STAGES = "{trials: 2, promote: [{keep: 1, max_train_steps: 400, eval_every: 50}]}"
TRAINING = "{max_train_steps: 200, eval_every: 100, seed: 3, train_examples: 50, no_progress: false}"
COMMAND = """{command: [python, -S, "{tag}", [--m, "{momentum}"], {when: {fast: true}, arguments: [--fast]}, \
"--id={trial.id}", {when: {trial.resume: true}, arguments: [--resume, "{trial.resume}"]}, "--seed={trial.seed}"], \
checkpoints: "{trial.dir}/{step}.pt", metrics: [{regex: 'step (?P<step>\\d+) loss (?P<loss>\\S+)'}], \
environment: {M: "{momentum}", BRACES: "{{}}"}}"""
CODE = {
    "optimizer": "{role: scientific, values: ['./mine.py:Lion', adam]}",
    "learning_rate": "0.1",
    "beta1": "{role: nuisance, range: [0.8, 0.99]}",
    "schedule": "./mine.py:halving",
    "halvings": "2",
}
OWN = {
    "optimizer": None,
    "learning_rate": None,
    "tag": "{role: nuisance, values: ['a;b $x', '{c}']}",
    "fast": "{role: scientific, values: [false, true]}",
    "weight": "{role: scientific, values: [light, heavy]}",
    "momentum": "{role: nuisance, when: {weight: heavy}, range: [0.8, 0.99]}",
}


@pytest.mark.parametrize(
    "text",
    [
        study_text(CONDITIONS, training=TRAINING, search="{trials: 2}"),
        study_text(CONDITIONS, training=TRAINING, search=STAGES),
        study_text(CODE, training=TRAINING, search="{trials: 2}"),
        study_text(
            OWN, workload=COMMAND, objective="{metric: loss, direction: minimize}",
            training="{max_train_steps: 7}", search="{trials: 2}",
        ),
    ],
    ids=["conditions", "stages", "code", "command"],
)  # fmt: skip
def test_every_trial_is_frozen_with_what_it_was_asked_for(tmp_path, text):
    file = tmp_path / "project" / "study.yaml"
    file.parent.mkdir()
    file.write_text(text)
    file.with_name("mine.py").write_text(OWN_CODE)
    checked = check_study(file, tmp_path)
    more = []
    if checked.spec.search.promote:
        search = plan_trials(checked.spec)
        more = [promoted(checked.spec, trial, len(search) + place) for place, trial in enumerate(search)]
    made = made_up_folder(tmp_path / "runs" / "made", text, lambda _: 0.5, more=tuple(more), file=file)
    with study_snapshot(made.path) as study:
        for outcome in study.outcomes:
            plan = outcome.plan
            asked = trial_request(checked.spec, checked.reference, checked.signature, plan)
            made.trial(plan.trial).request.write_text(json.dumps(asked.to_json()))
            frozen = frozen_study(study, outcome, tmp_path / "frozen.yaml", tmp_path)
            (tmp_path / "frozen.yaml").write_text(frozen.text)
            again = check_study(tmp_path / "frozen.yaml", tmp_path)
            (planned,) = plan_trials(again.spec)
            now = trial_request(again.spec, again.reference, again.signature, planned).to_json()
            before = asked.to_json()
            for request in (now, before):  # the same file, named from another folder
                for item in ("optimizer", "schedule") if "./mine.py" in text else ():
                    code = request["configuration"].get(f"{item}_code")
                    if code is not None:
                        assert code["reference"].pop("file") == str(file.with_name("mine.py"))
                        del code["reference"]["text"], code["reference"]["search_path"]
                        request["configuration"][item] = "mine"
            differing = {"study", "trial", "workload", "program", "hyperparameters"}
            assert {key: now[key] for key in now if key not in differing} == {
                key: before[key] for key in before if key not in differing
            }
            # Its number is another one, which a program that takes it may notice.
            expected = (f"the program gets trial.id 0, not {plan.trial}",) if checked.spec.program else ()
            assert frozen.differences == expected


def test_a_frozen_trial_says_that_its_own_optimizer_has_changed_and_is_refused_where_that_is_gone(tmp_path):
    file = tmp_path / "project" / "study.yaml"
    file.parent.mkdir()
    text = study_text(CODE, training=TRAINING, search="{trials: 2}")
    file.write_text(text)
    mine = file.with_name("mine.py")
    mine.write_text(OWN_CODE)
    made = made_up_folder(tmp_path / "runs" / "made", text, lambda _: 0.5, file=file)
    run = describe_run([], workload_file=None, study_file=file, study_folder=made.path, now=NOW, code_files=[mine])
    append_provenance(made, run)
    for content, differs in ((OWN_CODE, False), (OWN_CODE + "# changed\n", True)):
        mine.write_text(content)
        with study_snapshot(made.path) as study:
            frozen = frozen_study(study, study.outcomes[0], tmp_path / "frozen.yaml", tmp_path)
        assert (
            f"{mine} is not, or not always was, as it was when {made.path} was run" in frozen.differences
        ) is differs
    mine.unlink()
    with study_snapshot(made.path) as study, pytest.raises(UsageError, match=r"cannot be frozen:\n.*mine\.py"):
        frozen_study(study, study.outcomes[0], tmp_path / "frozen.yaml", tmp_path)


def measured(home: TrialFolder) -> list[tuple[Any, ...]]:
    return [(item.step, dict(item.metrics), item.gradient_norm) for item in read_trial(home).measurements]


def test_the_copy_of_a_study_runs_from_its_folder_and_a_frozen_trial_trains_the_same_numbers_bit_for_bit(
    write_study, tunectl, tmp_path
):
    project = tmp_path / "project"
    project.mkdir()
    study = write_study(trials=2)
    shutil.move(tmp_path / "misbehaving.py", project / "misbehaving.py")
    shutil.move(study, project / "small.yaml")
    # A study folder whose trials are all to come; the user's file is gone, its folder with the workload is not.
    file = project / "small.yaml"
    small = made_up_folder(tmp_path / "runs" / "small", file.read_text(), lambda _: 1.0, file=file)
    for path in (small.trials, small.index, file):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    called = tunectl("run", small.study)
    assert called.code == 0, called.err
    line = tunectl("show", "runs/small/1", "--command").out.strip()
    assert line == (
        "tunectl show runs/small 1 --freeze project/small-trial-1.yaml && tunectl run project/small-trial-1.yaml"
    )
    assert tunectl("show", "runs/small/1", "--freeze", "elsewhere.yaml").out == "tunectl run elsewhere.yaml\n"
    assert 'workload: "./project/misbehaving.py:regression"' in (tmp_path / "elsewhere.yaml").read_text()
    called = tunectl("run", "elsewhere.yaml")
    assert called.code == 0, called.err
    assert "answer: The only trial reaches" in called.out
    first, again = small.trial(1), StudyFolder(tmp_path / "runs" / "small-trial-1").trial(0)
    assert len(measured(first)) == 5
    assert measured(again) == measured(first)
    called = tunectl("show", "runs/small/1", "--freeze", "elsewhere.yaml")
    assert (called.code, "already exists" in called.err) == (2, True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials: 6", "trials: 5", "trial 10 is not planned by it"),
        ("trials: 6", "trials: 6, seed: 1", "trial 0 would have other values"),
        ("[1e-3, 1]", "[1e-3, 2]", "trial 0 would have other values"),
        ("max_train_steps: 2000", "max_train_steps: 2001", "max_train_steps is 2001 here and was 2000 in the trial"),
        ("digits:mlp", "mnist1d:mlp", "workload is tunectl.workloads.mnist1d:mlp here and was"),
        ("minimize", "maximize", "direction is maximize here and was minimize in the trial"),
    ],
)
def test_a_copy_that_was_changed_is_not_run_as_the_study_of_its_folder(folder, tmp_path, old, new, message):
    checked = check_study(tmp_path / "small.yaml", tmp_path)
    asked = trial_request(checked.spec, checked.reference, checked.signature, plan_trials(checked.spec)[0])
    folder.trial(0).request.write_text(json.dumps(asked.to_json()))
    check_as_run(folder, check_study(folder.study, tmp_path))
    folder.study.write_text(folder.study.read_text().replace("trials: 6", "trials: 7"))
    check_as_run(folder, check_study(folder.study, tmp_path))
    folder.study.write_text(folder.study.read_text().replace("trials: 7", "trials: 6").replace(old, new))
    with pytest.raises(FolderError, match="the copy of the study was changed") as refused:
        check_as_run(folder, check_study(folder.study, tmp_path))
    assert message in str(refused.value)


PROGRAM = """\
import json, os, random, sys
r = random.Random(int(sys.argv[2]))
print("step 1 loss", r.random() + float(sys.argv[1]))
json.dump([os.environ["KEY"], os.environ["TUNECTL_LR"], os.getcwd()], open(sys.argv[3] + "/seen.json", "w"))
"""
OWN_STUDY = """\
study: own
workload:
  command: [python, -S, "./pro gram.py", "{lr}", "{trial.seed}", "{trial.dir}"]
  environment: {KEY: "a 'b' $c"}
  metrics: [{regex: 'step (?P<step>\\d+) loss (?P<loss>\\S+)'}]
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 1}
hyperparameters: {lr: {role: nuisance, range: [0.1, 1]}}
search: {trials: 1}
"""


def test_the_line_of_a_program_trains_it_by_hand_and_writes_beside_nothing_of_the_trial(tunectl, tmp_path, environment):
    (tmp_path / "pro gram.py").write_text(PROGRAM)
    (tmp_path / "own.yaml").write_text(OWN_STUDY)
    environment |= {"SECRET": "do not print", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    assert tunectl("run", "own.yaml").code == 0
    home = tmp_path / "runs" / "own" / "trials" / "00000"
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    line = tunectl("show", "runs/own", 0, "--command").out
    assert "do not print" not in line
    ran = subprocess.run(["sh"], input=line, capture_output=True, text=True, check=True, cwd="/", env=environment)
    assert ran.stdout.splitlines()[-1] == (home / "log.txt").read_text().splitlines()[-1]
    assert (tmp_path / "own-trial-0" / "seen.json").read_bytes() == (home / "files" / "seen.json").read_bytes()
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    # Of a trial that has not begun it is what it will be asked for.
    (home / "request.json").unlink()
    assert tunectl("show", "runs/own", 0, "--command").out == line


def test_a_seed_of_its_own_is_for_a_study_of_one_trial(tmp_path):
    text = study_text({"learning_rate": "0.1"}, training="{max_train_steps: 20, eval_every: 10, trial_seed: 77}")
    file = tmp_path / "one.yaml"
    file.write_text(text)
    (trial,) = plan_trials(load_study(file))
    assert trial.seed == 77


def test_a_trial_that_the_next_run_continues_is_interrupted_and_one_stopped_for_good_is_cancelled(folder, tunectl):
    for trial, reason in ((4, "cancelled"), (5, "stopped")):
        home = folder.trial(trial)
        home.result.unlink()
        append_attempt(home, AttemptEnd(1, "cancelled", final=reason == "stopped"))
    assert "interrupted (the next run continues it)" in tunectl("show", folder.path, 4).out
    assert "trial 5 of small: cancelled (stopped)" in tunectl("show", folder.path, 5).out
    assert "1 interrupted, 1 cancelled; no runner is at work" in tunectl("status", folder.path).out


def test_why_the_earlier_attempts_of_a_trial_ended_is_shown(folder, tunectl):
    message = "its worker was asked to stop"
    append_attempt(folder.trial(4), AttemptEnd(1, "released (PREEMPTED)", message))
    assert f"attempt 1: released (PREEMPTED): {message}\n" in tunectl("show", folder.path, 4).out
    (attempt,) = json.loads(tunectl("show", folder.path, 4, "--json").out)["unfinished_attempts"]
    assert (attempt["attempt"], attempt["reason"]) == (1, "released (PREEMPTED)")


def test_a_frozen_trial_that_was_stopped_says_that_it_is_trained_to_its_end_now(folder, tunectl):
    home = folder.trial(4)
    home.result.unlink()
    append_attempt(home, AttemptEnd(1, "cancelled", final=True))
    home = folder.trial(5)
    home.result.write_text(json.dumps(TrialResult(5, "stopped", "stopped_early", final_step=50).to_json()))
    for trial, said in (
        (4, "trial 4: the trial was stopped by `tunectl stop` after step 100, and this study trains it to its end"),
        (5, "trial 5: the trial was stopped by stop_early after step 100, and this study trains it to its end"),
    ):
        called = tunectl("show", folder.path, trial, "--freeze", f"{trial}.yaml")
        assert called.code == 0, called.err
        assert said in called.messages
        assert f"# - {said.split(': ', 1)[1]}" in (folder.path.parents[1] / f"{trial}.yaml").read_text()
    assert "to its end" not in tunectl("show", folder.path, 6, "--freeze", "6.yaml").messages
