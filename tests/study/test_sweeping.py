"""`tunectl lr-sweep` as a whole: what its folder holds, and that it goes on where it was left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from study_calls import Called

Write = Callable[..., Path]
Call = Callable[..., Called]


def test_a_sweep_concludes_goes_on_where_it_was_left_and_belongs_to_one_request(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study, folder = write_study(), tmp_path / "sweep"
    grid = ("--low", "0.01", "--high", "0.1", "--points", "2", "--steps", "20", "--no-follow-up")
    called = tunectl("lr-sweep", study, "--dir", folder, *grid)
    assert called.code == 0, called.err
    conclusion = json.loads((folder / "conclusion.json").read_text())
    assert set(conclusion) == {
        *("best_learning_rate", "unstable_base_learning_rate", "edge_of_stability", "at_boundary"),
        *("early_instability", "max_train_steps", "verdict"),
    }
    assert conclusion["verdict"] in called.out
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"plots/learning-rate.png", "plots/learning-rate.svg", "tables/trials.csv", "tables/lr-sweep.csv"} <= names
    plan = [json.loads(line) for line in (folder / "plan.jsonl").read_text().splitlines()]
    assert {(line["kind"], line["training"]["max_train_steps"]) for line in plan} == {("sweep", 20)}
    assert len({line["seed"] for line in plan}) == 3, "equal repeats share their seed"

    # Lost: one trial, and the conclusion; the same command trains that trial alone and says the same.
    shutil.rmtree(folder / "trials" / "00001")
    for name in ("conclusion.json", "study.db"):
        (folder / name).unlink()
    again = tunectl("lr-sweep", study, "--dir", folder, *grid, "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["best_learning_rate"] == conclusion["best_learning_rate"]
    assert json.loads((folder / "conclusion.json").read_text()) == conclusion
    assert "(1 trial)" in again.err

    other = tunectl("lr-sweep", study, "--dir", folder, "--low", "0.02", *grid[2:])
    assert other.code == 3
    assert "was asked otherwise before" in other.err
    assert tunectl("run", study, "--dir", folder).code == 3


def test_a_study_that_is_not_settled_or_a_failing_trial_gives_no_conclusion(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    varied = write_study(more="  behaviour: {role: nuisance, values: [good, exception]}")
    called = tunectl("lr-sweep", varied, "--dir", tmp_path / "a")
    assert called.code == 2
    assert "behaviour: good, exception" in called.err
    assert not (tmp_path / "a").exists()
    at = ("--at", "behaviour=exception", "--points", "2", "--low", "0.01", "--high", "0.1")
    failing = tunectl("lr-sweep", varied, "--dir", tmp_path / "b", *at)
    assert failing.code == 1
    assert "the model broke" in failing.err
    assert not (tmp_path / "b" / "conclusion.json").exists()
