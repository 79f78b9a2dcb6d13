"""`tunectl batch-scaling` as a whole: what its folder holds, and what the study's own samples are tuned to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from study_calls import Called

from tunectl.language.study_reader import parse_study
from tunectl.procedures.batch_scaling import BATCH_SCALING
from tunectl.procedures.batch_scaling_options import BatchScalingOptions, candidates_in
from tunectl.procedures.procedure import covered_settings
from tunectl.session.procedure_request import ProcedureRequest, sweep_spec

Call = Callable[..., Called]


def test_batch_sizes_are_compared_by_steps_and_a_lost_conclusion_is_drawn_again(
    write_study: Callable[..., Path], tunectl: Call, tmp_path: Path
) -> None:
    study, folder = write_study(), tmp_path / "scaling"
    asked = ("--low", "2", "--high", "4", "--points", "2", "--seeds", "1", "--steps", "20", "--steps-to", "1e9")
    called = tunectl("batch-scaling", study, "--dir", folder, *asked)
    assert called.code == 0, called.messages
    conclusion = json.loads((folder / "conclusion.json").read_text())
    assert conclusion["verdict"] in " ".join(called.out.split())
    assert max(map(len, called.out.split(str(conclusion["verdict"])[:9])[1].splitlines())) <= 100
    assert conclusion["target"] == {"metric": "valid/distance", "direction": "minimize", "value": 1e9}
    (setting,) = conclusion["settings"]
    assert [item["batch_size"] for item in setting["batch_sizes"]] == [2, 4]
    assert all(item["seconds_per_step"] > 0 for item in setting["batch_sizes"])
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    plots = {f"plots/{name}.png" for name in ("steps-by-batch", "learning-rate-by-batch", "steps-by-rate")}
    assert {*plots, "tables/trials.csv", "tables/batch-scaling.csv"} <= names
    result = json.loads((folder / "trials" / "00000" / "result.json").read_text())
    assert result["train_examples"] > 0

    (folder / "conclusion.json").unlink()
    again = tunectl("batch-scaling", study, "--dir", folder, *asked, "--json")
    assert again.code == 0, again.messages
    assert json.loads((folder / "conclusion.json").read_text()) == conclusion
    assert json.loads(again.out)["settings"] == conclusion["settings"]


TUNED = """
study: tuned
goal: Which batch size saves steps?
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 100, eval_every: 10}
hyperparameters:
  optimizer: momentum
  normalization: {role: scientific, values: [batch, none]}
  learning_rate: {role: nuisance, range: [1e-2, 1], scale: log}
  momentum: {role: nuisance, range: [0.8, 0.99], scale: one_minus_log}
  batch_size: {role: scientific, values: [16, 64]}
search: {trials: 5}
"""


def test_all_that_a_study_samples_is_tuned_in_each_setting_but_the_batch_size(tmp_path: Path) -> None:
    spec = parse_study(TUNED, tmp_path / "tuned.yaml")
    request = ProcedureRequest(BatchScalingOptions(steps_to=0.1, points=3), {})
    sweep = sweep_spec(BATCH_SCALING, spec, request)
    assert sweep.batch_sizes == (16.0, 64.0)
    settings = covered_settings(sweep)
    assert [setting.name for setting in settings] == ["normalization batch", "normalization none"]
    for setting in settings:
        candidates = candidates_in(sweep, setting)
        assert len(candidates) == 3
        assert all(set(item.others) == {"momentum"} and 0.01 <= item.rate <= 1 for item in candidates)
        assert not {"momentum", "learning_rate", "batch_size"} & set(setting.values)
    # A value that the user gives is not tuned, and what is left is the learning rate: a grid.
    given = sweep_spec(BATCH_SCALING, spec, ProcedureRequest(BatchScalingOptions(steps_to=0.1), {"momentum": 0.9}))
    first = covered_settings(given)[0]
    assert first.values["momentum"] == 0.9
    assert first.points == ()
    assert [item.rate for item in candidates_in(given, first)][::6] == [0.01, 1]
