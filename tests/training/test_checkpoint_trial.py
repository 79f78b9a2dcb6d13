"""Tests training/checkpoint_trial.py: what a trial measured while it trained is measured again at checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_builders import StopAt, make_request, never, plain_workload, stochastic_workload, train_trial
from trial_records import ended, lines_in

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.core.trial_checkpoints import TrialCheckpoints
from tunectl.training.checkpoint_trial import NOT_MEASURED, run_checkpoints
from tunectl.workloads.workload import Workload

EVALUATED = (0, 7, 14, 21, 28, 30)
SETTINGS = CurvatureSettings(at=EVALUATED, examples=40)
Factory = Callable[..., Workload]


def trained(place: Path, factory: Factory, **changes: Any) -> tuple[TrialRequest, StudyFolder]:
    """A trial that measured its curvature at every evaluation, and kept its three best checkpoints."""
    request, folder = make_request(trial=0, curvature=SETTINGS, **changes), StudyFolder(place / "trained")
    folder.trial(0).path.mkdir(parents=True)
    assert ended(train_trial(request, folder.trial(0), factory)).state == "completed"
    return request, folder


def asked_again(request: TrialRequest, folder: StudyFolder) -> TrialRequest:
    files = {path.name: "" for path in sorted(folder.trial(0).checkpoints.glob("*.pt"))}
    assert len(files) == 3
    kept = TrialCheckpoints(str(folder.path), 0, files)
    return replace(request, workload_kind="curvature", checkpoints=kept, curvature=replace(SETTINGS, at=()))


def measured(
    request: TrialRequest, place: Path, factory: Factory, stop: Callable[[], bool] = never
) -> tuple[TrialResult | None, dict[int, dict[str, float]]]:
    folder = StudyFolder(place / "measured").trial(0)
    folder.path.mkdir(parents=True, exist_ok=True)
    result = run_checkpoints(request, folder, factory, device="cpu", stop=stop, seconds=TrialSeconds())
    return result, {line["step"]: line["metrics"] for line in lines_in(folder.measurements)}


@pytest.mark.parametrize(
    ("factory", "changes"),
    [
        (plain_workload, {}),
        (plain_workload, {"optimizer": "adamw", "weight_decay": 0.1, "weight_decay_scope": "all"}),
        (plain_workload, {"optimizer": "rmsprop", "weight_decay": 0.01, "learning_rate": 0.005}),
        (plain_workload, {"schedule": "cosine", "warmup_steps": 5}),
        (plain_workload, {"polyak_decay": 0.9}),
        (stochastic_workload, {"optimizer": "nadam"}),
    ],
)
def test_a_checkpoint_gives_what_the_trial_measured_at_its_step(
    tmp_path: Path, factory: Factory, changes: dict[str, Any]
) -> None:
    request, folder = trained(tmp_path, factory, **changes)
    result, found = measured(asked_again(request, folder), tmp_path, factory)
    assert ended(result).state == "completed"
    assert ended(result).notes == {}
    before = {
        line["step"]: line["metrics"]
        for line in lines_in(folder.trial(0).measurements)
        if line["kind"] == "curvature" and line["step"] in found
    }
    assert len(found) == 3
    for step, metrics in found.items():
        # How a search begins, and so how many products it takes, depends on the measurement before it.
        searches = ("seconds", "products", "residual", "cold", "passes")
        names = {name for name in metrics if not name.endswith(searches)}
        assert names == {name for name in before[step] if not name.endswith(searches)}
        assert {"curvature/lambda_1", "curvature/bound", "curvature/ratio"} <= names
        for name in names:
            # The critical rate is bisected to 1/16 from where the search began.
            tolerance = 0.13 if "critical" in name else 2e-3
            assert metrics[name] == pytest.approx(before[step][name], rel=tolerance), (step, name)


def test_a_value_does_not_depend_on_which_other_checkpoints_are_there(tmp_path: Path) -> None:
    request, folder = trained(tmp_path, plain_workload)
    asked = asked_again(request, folder)
    _, found = measured(asked, tmp_path, plain_workload)
    last = max(asked.checkpoints.files if asked.checkpoints else {})
    assert asked.checkpoints is not None
    alone = replace(asked, checkpoints=replace(asked.checkpoints, files={last: ""}))
    _, single = measured(alone, tmp_path / "alone", plain_workload)
    ((step, metrics),) = single.items()
    without_time = {name for name in metrics if not name.endswith("seconds")}
    assert {name: metrics[name] for name in without_time} == {name: found[step][name] for name in without_time}


def test_checkpoints_that_cannot_be_used_are_named_and_the_others_are_measured(tmp_path: Path) -> None:
    request, folder = trained(tmp_path, plain_workload)
    asked = asked_again(request, folder)
    first, second, third = sorted(folder.trial(0).checkpoints.glob("*.pt"))
    first.write_bytes(first.read_bytes()[:-30])
    second.unlink()
    result, found = measured(asked, tmp_path, plain_workload)
    assert ended(result).state == "completed"
    assert [*found] == [int(third.stem.removeprefix("step-"))]
    notes = ended(result).notes
    assert [*notes] == [f"{first.name} was passed over", f"{second.name} was passed over"]
    assert "is damaged" in notes[f"{first.name} was passed over"]
    assert "cannot be read" in notes[f"{second.name} was passed over"]

    # The model of another workload: none of them fits, and no number is made up.
    result, found = measured(asked, tmp_path / "other", lambda: plain_workload(width=9))
    assert (ended(result).state, ended(result).reason) == ("infeasible", NOT_MEASURED)
    assert "it does not fit the workload" in ended(result).message
    assert found == {}


def test_a_stopped_measurement_begins_again_and_measures_the_same(tmp_path: Path) -> None:
    request, folder = trained(tmp_path, plain_workload)
    asked = asked_again(request, folder)
    stopped, some = measured(asked, tmp_path, plain_workload, stop=StopAt(1))
    assert stopped is None
    assert len(some) == 1
    result, found = measured(asked, tmp_path, plain_workload)
    assert ended(result).state == "completed"
    assert len(found) == 3
    (step,) = some
    assert found[step]["curvature/lambda_1"] == some[step]["curvature/lambda_1"]
    assert torch.is_grad_enabled()
