"""`tunectl curvature` as a whole, of a study and of the folder of a finished one; and sweeps that measure curvature.

Tests commands/checkpoint_curvature.py, session/study_checkpoints.py, cli/curvature.py and the settings of
session/procedure_request.py.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_folders import made_up_folder
from study_calls import Called

from tunectl.core.errors import UsageError
from tunectl.language.study_reader import parse_study
from tunectl.procedures.curvature import CURVATURE_SWEEP
from tunectl.procedures.curvature_options import CurvatureOptions
from tunectl.session.procedure_request import ProcedureRequest, sweep_spec

Write = Callable[..., Path]
Call = Callable[..., Called]


def content(folder: Path) -> dict[str, str]:
    """Every file of a folder, with the hash of its bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines(folder: Path, trial: int) -> list[dict[str, Any]]:
    text = (folder / "trials" / f"{trial:05d}" / "measurements.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == "curvature"]


@pytest.mark.slow
def test_a_study_is_measured_and_a_lost_trial_alone_is_measured_again(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study, folder = write_study(), tmp_path / "out"
    grid = ("--low", "0.01", "--high", "3", "--points", "3", "--steps", "20", "--seeds", "3", "--dir", folder)
    called = tunectl("curvature", study, *grid)
    assert called.code == 0, called.messages
    assert "curvature: takes about 12 to 22 trainings of 20 steps in all\n" in called.messages
    conclusion = json.loads((folder / "conclusion.json").read_text())
    (setting,) = conclusion["settings"]
    # The loss is quadratic: its Hessian is 2 E[xx'] with the bias, near 2; momentum is unstable above 3.8 / that.
    assert setting["lambda_1_at_init"]["median"] == pytest.approx(2.0, rel=0.5)
    assert setting["predicted_rate"] == pytest.approx(3.8 / setting["lambda_1_at_init"]["median"])
    assert setting["largest_rate_that_trained"] == pytest.approx(0.173205)
    assert setting["smallest_rate_that_diverged"] == 3
    assert setting["measured_over_predicted"] == 1.0
    assert conclusion["warmup_steps"] == 2
    assert conclusion["verdict"] in " ".join(called.out.split())
    assert max(len(line) for line in called.out.splitlines() if "─" in line) <= 80
    names = content(folder).keys()
    drawn = ("lambda-1-at-initialisation", "lambda-1-at-step", "eigenvalue-by-step")
    assert {f"plots/{name}.png" for name in drawn} <= names
    assert {"plots/learning-rate.svg", "plots/loss-by-step.svg", "tables/curvature.csv"} <= names
    assert [line["step"] for line in lines(folder, 0)] == [0]

    # Lost: one trial, and the conclusion; the same command trains that trial alone and says the same.
    shutil.rmtree(folder / "trials" / "00004")
    for name in ("conclusion.json", "study.db"):
        (folder / name).unlink()
    again = tunectl("curvature", study, *grid, "--json")
    assert again.code == 0, again.messages
    assert json.loads((folder / "conclusion.json").read_text()) == conclusion
    assert "(1 trial)" in again.messages


def kept_checkpoints(finished: Path, trial: int) -> dict[int, Path]:
    """The kept checkpoints of a trial, by step."""
    paths = (finished / "trials" / f"{trial:05d}" / "checkpoints").iterdir()
    return {int(path.stem.removeprefix("step-")): path for path in sorted(paths)}


def test_kept_checkpoints_of_a_finished_study_are_measured_and_its_folder_keeps_every_byte(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study, finished = write_study(trials=4), tmp_path / "runs" / "small"
    assert tunectl("run", study).code == 0
    shutil.rmtree(finished / "trials" / "00002" / "checkpoints")
    damaged = min(kept_checkpoints(finished, 3).values())
    damaged.write_bytes(damaged.read_bytes()[:-40])
    before = content(finished)

    called = tunectl("curvature", finished, "--trials", "0,2-3")
    assert called.code == 0, called.messages
    assert content(finished) == before
    assert "trial 2 is passed over: it has no kept checkpoint" in called.messages
    out = tmp_path / "runs" / "small.curvature"
    conclusion = json.loads((out / "conclusion.json").read_text())
    found = [(item["trial"], item["step"]) for item in conclusion["checkpoints"]]
    steps = {number: [*kept_checkpoints(finished, number)] for number in (0, 1, 3)}
    assert found == [*((0, step) for step in steps[0]), (3, steps[3][1])], "the damaged one is left out"
    assert [*conclusion["passed_over"]] == ["trial 2", "trial 3"]
    assert conclusion["passed_over"]["trial 3"] == f"{damaged.name} is damaged"
    for item in conclusion["checkpoints"]:
        assert item["lambda_1"] == pytest.approx(2.0, rel=0.5)
        assert item["converged"] == 1
        assert item["ratio"] == pytest.approx(item["lambda_1"] / item["bound"])
    assert "at 3 checkpoints of 2 trials, all of them below the optimizer's bound" in " ".join(called.out.split())
    assert {"tables/curvature.csv", "tables/trials.csv", "plots/curvature-lambda-1.png"} <= content(out).keys()

    # Another trial later: it alone is measured, and the conclusion has all.
    measured = {name: value for name, value in content(out).items() if name.startswith("trials/")}
    later = tunectl("curvature", finished, "--trials", "1", "--json")
    assert later.code == 0, later.messages
    assert [(item["trial"], item["step"]) for item in later.json()["checkpoints"]] == sorted(
        [*found, *((1, step) for step in steps[1])]
    )
    assert measured.items() <= content(out).items()
    assert content(finished) == before

    other = tunectl("curvature", study, "--points", "2")
    assert other.code == 3
    assert "procedure: curvature of checkpoints in the folder, curvature now" in other.messages
    assert "give another --dir" in other.messages


@pytest.mark.slow
def test_a_checkpoint_that_has_changed_since_it_was_measured_is_measured_again(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    finished = tmp_path / "runs" / "small"
    assert tunectl("run", write_study(trials=2)).code == 0
    (whole, *_), (first, second) = kept_checkpoints(finished, 0).items(), kept_checkpoints(finished, 1).items()
    first[1].write_bytes(first[1].read_bytes()[:-40])
    assert tunectl("curvature", finished, "--trials", "0-1").code == 0

    first[1].unlink()
    shutil.copy(whole[1], first[1].with_name(whole[1].name))
    again = tunectl("curvature", finished, "--trials", "0-1", "--json")
    assert again.code == 0, again.messages
    assert again.json()["trials"] == 3, "trial 0 is not measured again"
    found = {(item["trial"], item["step"]) for item in again.json()["checkpoints"]}
    assert {(1, whole[0]), (1, second[0])} <= found


def test_trials_that_cannot_be_measured_are_named_before_anything_is_created(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study, finished = write_study(), tmp_path / "runs" / "small"
    made_up_folder(finished, study.read_text(), lambda _: 0.5, file=study)
    unknown = tunectl("curvature", finished, "--trials", "7")
    assert unknown.code == 2
    assert "--trials 7: expected trials from 0 to 1" in unknown.messages
    for trial in (0, 1):
        shutil.rmtree(finished / "trials" / f"{trial:05d}" / "checkpoints")
    none = tunectl("curvature", finished, "--trials", "0-1")
    assert none.code == 2
    assert "none of these trials has a checkpoint that can be measured" in none.messages
    assert "trial 1 is passed over: it has no kept checkpoint" in none.messages
    assert not (tmp_path / "runs" / "small.curvature").exists()
    same = tunectl("curvature", finished, "--trials", "0-1", "--dir", finished)
    assert same.code == 2


OWN = """\
study: own
workload:
  command: [python, -c, "print('step 10: loss 0.5')", "{learning_rate}"]
  metrics: [{regex: 'step (?P<step>\\d+): loss (?P<valid__loss>\\S+)'}]
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 10}
hyperparameters:
  learning_rate: {role: nuisance, range: [1e-2, 1], scale: log}
search: {trials: 1}
"""


def test_the_trials_of_a_command_are_named_and_a_study_of_one_is_refused(tunectl: Call, tmp_path: Path) -> None:
    study = tmp_path / "own.yaml"
    study.write_text(OWN)
    assert tunectl("run", study).code == 0
    called = tunectl("curvature", tmp_path / "runs" / "own", "--trials", "0")
    assert called.code == 2
    assert "trial 0 is passed over: it is the trial of a command" in called.messages
    procedure = tunectl("curvature", study)
    assert procedure.code == 2
    assert "curvature: works only in tunectl's own training loop" in procedure.messages


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("folder",), "--trials: expected the trials of folder whose checkpoints to measure"),
        (("folder", "--trials", "a"), "--trials a: expected the numbers of trials, such as 3,7 or 0-4"),
        (("folder", "--trials", "4-2"), "--trials 4-2: expected the numbers of trials"),
        (("folder", "--trials", "0-99999"), "--trials 0-99999: expected at most 10,000 trials"),
        (
            ("folder", "--trials", "3", "--low", "1", "--seeds", "3"),
            "--low, --seeds: only for a study file, and folder is a folder; give --trials alone",
        ),
        (("study.yaml", "--trials", "3"), "--trials: expected the folder of a finished study, got study.yaml"),
    ],
)
def test_options_of_the_other_use_are_refused(tunectl: Call, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "study.yaml").write_text(OWN)
    called = tunectl("curvature", *words)
    assert called.code == 2
    assert said in called.messages


UNMEASURABLE = """\
import torch
from torch.autograd.function import once_differentiable
from tunectl import Workload
import misbehaving


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.log1p(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient / (1 + ctx.saved_tensors[0])


def regression():
    made = misbehaving.regression()
    return Workload(made.model, made.data, lambda model, batch: Once.apply(made.loss(model, batch)), made.metrics)
"""


@pytest.mark.slow
def test_lr_sweep_of_a_model_that_cannot_be_measured_trains_all_the_same_and_curvature_is_refused(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study = write_study()
    (tmp_path / "once.py").write_text(UNMEASURABLE)
    study.write_text(study.read_text().replace("./misbehaving.py", "./once.py"))
    grid = ("--low", "0.01", "--high", "0.1", "--points", "2", "--steps", "20")
    called = tunectl("lr-sweep", study, "--dir", tmp_path / "a", *grid, "--no-follow-up")
    assert called.code == 0, called.messages
    conclusion = json.loads((tmp_path / "a" / "conclusion.json").read_text())
    assert conclusion["best_learning_rate"] is not None
    assert conclusion["curvature"] is None
    refused = tunectl("curvature", study, "--dir", tmp_path / "b", *grid)
    assert refused.code == 2
    assert "the curvature of this workload cannot be measured" in refused.messages
    assert not (tmp_path / "b").exists()


SETTINGS = """\
study: settings
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 100, eval_every: 10}
hyperparameters:
  optimizer: {role: scientific, values: [sgd, adam]}
  width: {role: scientific, values: [8, 16]}
  warmup_steps: {role: scientific, values: [0, 10]}
  learning_rate:
    - {role: nuisance, when: {optimizer: sgd}, range: [0.1, 1], scale: log}
    - {role: nuisance, when: {optimizer: adam}, range: [1e-4, 1e-2], scale: log}
  beta1: {role: nuisance, when: {optimizer: adam}, range: [0.8, 0.99]}
  batch_size: 64
search: {trials: 2}
"""


def asked(tmp_path: Path, values: dict[str, Any], of_trial: dict[str, Any] | None = None) -> Any:
    spec = parse_study(SETTINGS, tmp_path / "s.yaml")
    request = ProcedureRequest(CurvatureOptions(), values, trial_values=of_trial or {})
    return sweep_spec(CURVATURE_SWEEP, spec, request)


def test_every_setting_of_the_scientific_hyperparameters_is_covered_with_its_own_range_of_rates(tmp_path: Path) -> None:
    sweep = asked(tmp_path, {"beta1": 0.9})
    found = [(setting.name, setting.learning_rates, "beta1" in setting.values) for setting in sweep.settings]
    # The warmup is swept, so that settings which differ only in it are one.
    assert found == [
        ("optimizer sgd, width 8", (0.1, 1.0), False),
        ("optimizer sgd, width 16", (0.1, 1.0), False),
        ("optimizer adam, width 8", (1e-4, 1e-2), True),
        ("optimizer adam, width 16", (1e-4, 1e-2), True),
    ]
    assert sweep.values == sweep.settings[0].values


def test_at_chooses_settings_and_a_finished_trial_gives_values_of_the_others_alone(tmp_path: Path) -> None:
    chosen = asked(tmp_path, {"beta1": 0.9, "optimizer": "adam"})
    assert [setting.name for setting in chosen.settings] == ["optimizer adam, width 8", "optimizer adam, width 16"]
    trial = {"optimizer": "adam", "width": 8, "beta1": 0.85, "learning_rate": 1e-3, "batch_size": 64}
    assert len(asked(tmp_path, {}, trial).settings) == 4
    assert asked(tmp_path, {}, trial).settings[-1].values["beta1"] == 0.85
    with pytest.raises(UsageError, match="these have several:\n  beta1"):
        asked(tmp_path, {})
    with pytest.raises(UsageError, match=r"--at width=9: no setting of .* has these values"):
        asked(tmp_path, {"width": 9})
