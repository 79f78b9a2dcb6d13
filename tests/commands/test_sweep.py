"""`tunectl lr-sweep` as a whole: what its folder holds, and that it goes on where it was left.

Tests commands/sweep.py, session/procedure_request.py and session/conclusions.py.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from html import escape
from pathlib import Path

import pytest
from study_calls import Called

from tunectl.commands.sweep import planned_trials
from tunectl.core.errors import UsageError
from tunectl.core.records import FactorySignature, Scalar
from tunectl.language.study_reader import parse_study
from tunectl.procedures.clip_sweep import CLIP_SWEEP, ClipSweepOptions
from tunectl.procedures.lr_options import LrSweepOptions
from tunectl.procedures.lr_sweep import LR_SWEEP
from tunectl.session.procedure_request import ProcedureRequest, sweep_spec

Write = Callable[..., Path]
Call = Callable[..., Called]


def test_a_sweep_concludes_goes_on_where_it_was_left_and_belongs_to_one_request(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study, folder = write_study(), tmp_path / "sweep"
    grid = ("--low", "0.01", "--high", "0.1", "--points", "2", "--steps", "20", "--no-follow-up")
    called = tunectl("lr-sweep", study, "--dir", folder, *grid)
    assert called.code == 0, called.messages
    assert "lr-sweep: takes about 4 to 6 trainings of 20 steps in all\n" in called.messages
    conclusion = json.loads((folder / "conclusion.json").read_text())
    assert set(conclusion) == {
        "crc32",
        *("best_learning_rate", "unstable_base_learning_rate", "edge_of_stability", "at_boundary"),
        *("early_instability", "max_train_steps", "verdict", "better_than_constant", "unstable_when", "confirmed"),
        *("seeds", "lost_seeds", "not_distinguishable", "fastest_constant_rate", "max_train_steps_resolution"),
        *("predicted_unstable_learning_rate", "curvature"),
    }
    assert conclusion["verdict"] in " ".join(called.out.split())
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"plots/learning-rate.png", "plots/learning-rate.svg", "tables/trials.csv", "tables/lr-sweep.csv"} <= names
    page = (folder / "report.html").read_text()
    assert "<h2>Conclusion</h2>" in page
    assert escape(conclusion["verdict"].split(". ")[0]) in page
    assert page.count("data-plot=") == len(list((folder / "plots").glob("*.svg")))
    # `report` shows its trials beside the page, which stays; the folder is one to go on with.
    shown = tunectl("report", folder, "--json")
    assert json.loads(shown.out)["page"] == str(folder / "report.trials.html"), shown.messages
    assert (folder / "report.html").read_text() == page
    plan = [json.loads(line) for line in (folder / "plan.jsonl").read_text().splitlines()]
    assert {(line["kind"], line["training"]["max_train_steps"]) for line in plan} == {("sweep", 20)}
    assert len({line["seed"] for line in plan}) == 3, "equal repeats share their seed"

    ends = [line for line in (folder / "events.jsonl").read_text().splitlines() if '"run_ended"' in line]
    assert [json.loads(line)["command"] for line in ends] == ["lr-sweep"]

    # Lost: one trial, and the conclusion; the same command trains that trial alone and says the same.
    shutil.rmtree(folder / "trials" / "00001")
    for name in ("conclusion.json", "study.db"):
        (folder / name).unlink()
    again = tunectl("lr-sweep", study, "--dir", folder, *grid, "--json")
    assert again.code == 0, again.messages
    assert json.loads(again.out)["best_learning_rate"] == conclusion["best_learning_rate"]
    assert json.loads((folder / "conclusion.json").read_text()) == conclusion
    assert "(1 trial)" in again.messages
    assert "takes about" not in again.messages

    # Damaged: the updates of a trial, on which the conclusion rests; nothing is trained, and it is said once.
    steps = folder / "trials" / "00000" / "steps.jsonl"
    steps.write_bytes(b"{}\n" + steps.read_bytes().split(b"\n", 1)[1])
    damaged = tunectl("lr-sweep", study, "--dir", folder, *grid, "--json")
    line = "trial 0: trials/00000/steps.jsonl: 1 damaged line left out (line 1); none of its 20 updates is used"
    assert damaged.json()["damage"] == [line]
    assert damaged.messages.splitlines() == [f"warning: {line}"]

    other = tunectl("lr-sweep", study, "--dir", folder, "--low", "0.02", *grid[2:])
    assert other.code == 3
    assert "was made with other options" in other.messages
    assert tunectl("run", study, "--dir", folder).code == 3


@pytest.mark.slow
def test_a_range_test_and_a_sweep_of_one_configuration_beside_each_other_are_compared(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study = write_study()
    grid = ("--low", "0.01", "--high", "0.1", "--points", "2", "--no-follow-up")
    sweep = tunectl("lr-sweep", study, "--dir", tmp_path / "a", *grid)
    assert sweep.code == 0, sweep.messages
    best = json.loads((tmp_path / "a" / "conclusion.json").read_text())["best_learning_rate"]
    assert best is not None
    assert f"learning_rate: {best:g}" in sweep.out
    tested = tunectl("range-test", study, "--dir", tmp_path / "b", "--steps", "100")
    assert tested.code == 0, tested.messages
    assert f"lr-sweep found {best:g}" in " ".join(tested.out.split())
    assert json.loads((tmp_path / "b" / "conclusion.json").read_text())["sweep_best_learning_rate"] == best
    # Another configuration, and what cannot be read, are not compared.
    asked = tmp_path / "a" / "procedure.json"
    asked.write_text(json.dumps({**json.loads(asked.read_text()), "values": {"batch_size": 17}}))
    again = tunectl("range-test", study, "--dir", tmp_path / "b", "--steps", "100")
    assert "lr-sweep found" not in again.out
    asked.write_text("{")
    assert tunectl("range-test", study, "--dir", tmp_path / "b", "--steps", "100").code == 0


@pytest.mark.slow
def test_the_first_steps_are_those_of_the_study_s_own_schedule_at_its_own_length(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    study = write_study(steps=40, more="  schedule: cosine\n  warmup_steps: 4")
    called = tunectl("lr-sweep", study, "--dir", tmp_path / "a", "--low", "0.01", "--high", "0.1", "--points", "2")
    assert called.code == 0, called.messages
    plan = [json.loads(line) for line in (tmp_path / "a" / "plan.jsonl").read_text().splitlines()]
    early = [line for line in plan if line.get("training", {}).get("eval_every") == 1]
    assert len(early) == 3
    for line in early:
        trial = tmp_path / "a" / "trials" / f"{line['trial']:05d}"
        blocks = map(json.loads, (trial / "steps.jsonl").read_text().splitlines())
        rates = [rate for block in blocks for rate in block["learning_rate"]]
        base = line["hyperparameters"]["learning_rate"]
        expected = [base * (1 + math.cos(math.pi * step / 40)) / 2 for step in range(40)]
        assert rates[4:] == pytest.approx(expected, rel=1e-9), "all of them, where max_train_steps is below 500"
        measured = (trial / "measurements.jsonl").read_text().splitlines()
        assert [json.loads(item)["step"] for item in measured] == [0, *range(4, 45)]


def test_what_may_regularise_and_cannot_be_judged_is_asked_for_before_anything_is_created(
    tunectl: Call, tmp_path: Path
) -> None:
    study = tmp_path / "own.yaml"
    text = OWN.replace('"{learning_rate}"]', '"{learning_rate}", "{gamma}", "{dropout_rate}"]')
    study.write_text(text.replace("search:", "  gamma: 2.0\n  dropout_rate: 0.3\nsearch:"))
    called = tunectl("lr-sweep", study, "--dir", tmp_path / "out", "--find-max-train-steps")
    assert called.code == 2
    assert "gamma: --find-max-train-steps trains without regularisation" in " ".join(called.messages.split())
    assert "--off gamma=2.0 if it does not regularise" in " ".join(called.messages.split())
    assert "dropout_rate" not in called.messages
    assert not (tmp_path / "out").exists()


def test_a_study_that_is_not_settled_or_a_failing_trial_gives_no_conclusion(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    varied = write_study(more="  behaviour: {role: nuisance, values: [good, exception]}")
    called = tunectl("lr-sweep", varied, "--dir", tmp_path / "a")
    assert called.code == 2
    assert "behaviour: good, exception" in called.messages
    assert not (tmp_path / "a").exists()
    at = ("--at", "behaviour=exception", "--points", "2", "--low", "0.01", "--high", "0.1")
    failing = tunectl("lr-sweep", varied, "--dir", tmp_path / "b", *at)
    assert failing.code == 1
    assert "the model broke" in failing.messages
    assert not (tmp_path / "b" / "conclusion.json").exists()


OWN = """\
study: own
workload:
  command: [python, -c, "pass", "{learning_rate}"]
  metrics: [{regex: '(?P<step>x) (?P<valid__loss>y)'}]
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 10}
hyperparameters:
  learning_rate: {role: nuisance, range: [1e-2, 1], scale: log}
search: {trials: 1}
"""


@pytest.mark.parametrize(
    ("procedure", "said"),
    [
        ("warmup-sweep", "lacks a hyperparameter warmup_steps, a metric train/loss"),
        ("clip-sweep", "lacks a hyperparameter grad_clip_norm, a metric gradient_norm"),
        ("range-test", "works only in tunectl's own training loop, and"),
        ("batch-size", "works only in tunectl's own training loop, and"),
    ],
)
def test_on_own_code_a_procedure_names_what_it_lacks_before_anything_is_created(
    tunectl: Call, tmp_path: Path, procedure: str, said: str
) -> None:
    study = tmp_path / "own.yaml"
    study.write_text(OWN)
    called = tunectl(procedure, study, "--dir", tmp_path / "out")
    assert called.code == 2
    assert f"{procedure}: " in called.messages
    assert said in called.messages
    assert not (tmp_path / "out").exists()


def test_a_command_that_always_takes_what_a_procedure_leaves_out_is_refused_before_anything_is_created(
    tunectl: Call, tmp_path: Path
) -> None:
    text = OWN.replace('"{learning_rate}"]', '"{learning_rate}", "--clip={grad_clip_norm}"]')
    text = text.replace("(?P<valid__loss>y)", "(?P<valid__loss>y) (?P<gradient_norm>z)")
    study = tmp_path / "own.yaml"
    study.write_text(text.replace("search:", "  grad_clip_norm: 1.0\nsearch:"))
    called = tunectl("clip-sweep", study, "--dir", tmp_path / "out", "--at", "learning_rate=0.1")
    assert called.code == 2
    assert 'into a list, which is left out in these trials: ["--clip={grad_clip_norm}"]' in " ".join(
        called.messages.split()
    )
    assert not (tmp_path / "out").exists()


def test_on_own_code_a_sweep_changes_what_the_study_declares_and_nothing_else(tmp_path: Path) -> None:
    spec = parse_study(OWN, tmp_path / "own.yaml")
    sweep = sweep_spec(LR_SWEEP, spec, ProcedureRequest(LrSweepOptions(constant=True, steps=3), {}))
    assert sweep.own_code
    trials = planned_trials(spec, sweep, LR_SWEEP, {}, ())
    assert trials
    assert {tuple(trial.hyperparameters) for trial in trials} == {("learning_rate",)}
    assert all(trial.training == {} for trial in trials)


def written_conclusion(folder: Path, recipe: dict[str, object]) -> Path:
    content = {"recipe": recipe, "best_learning_rate": 0.1, "unstable_base_learning_rate": 0.3}
    folder.mkdir()
    (folder / "conclusion.json").write_text(json.dumps(content))
    return folder


def test_a_recipe_settles_what_varies_in_the_study_and_one_that_the_study_does_not_take_is_refused(
    write_study: Write, tmp_path: Path
) -> None:
    text = write_study(more="  warmup_steps: {role: nuisance, range: [1, 9], type: int}").read_text()
    spec = parse_study(text, tmp_path / "s.yaml")
    before = written_conclusion(tmp_path / "warmup", {"learning_rate": 0.1, "warmup_steps": 3})
    sweep = sweep_spec(CLIP_SWEEP, spec, ProcedureRequest(ClipSweepOptions(), {}, before))
    assert "warmup_steps" not in sweep.values
    trials = planned_trials(spec, sweep, CLIP_SWEEP, {}, ())
    assert {trial.hyperparameters["warmup_steps"] for trial in trials} == {3}
    with pytest.raises(UsageError, match="warmup_steps"):
        sweep_spec(CLIP_SWEEP, spec, ProcedureRequest(ClipSweepOptions(), {}))
    own = parse_study(OWN, tmp_path / "own.yaml")
    with pytest.raises(UsageError, match=r"its recipe sets warmup_steps, and .*own\.yaml has no such name"):
        sweep_spec(LR_SWEEP, own, ProcedureRequest(LrSweepOptions(), {}, before))


def test_the_conclusion_of_an_older_sweep_is_refused_before_anything_is_created(
    write_study: Write, tunectl: Call, tmp_path: Path
) -> None:
    old = tmp_path / "warmup"
    old.mkdir()
    (old / "conclusion.json").write_text('{"base_learning_rate": 0.15, "warmup_steps": 300, "adopt": true}')
    called = tunectl("clip-sweep", write_study(), "--from", old, "--dir", tmp_path / "out", "--at", "learning_rate=0.1")
    assert called.code == 2
    assert "by an older warmup-sweep" in called.messages
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "defaults", "expected"),
    [
        ("  init_scale: 2.0", {"init_scale": 1.0}, 2.0),
        ("", {"init_scale": 1.0}, 1.0),
        ("", {}, None),
        ("", {"init_scale": "small"}, None),
    ],
)
def test_the_scale_of_the_initial_weights_is_the_study_s_or_the_factory_s_default(
    write_study: Write, tmp_path: Path, more: str, defaults: dict[str, Scalar], expected: float | None
) -> None:
    spec = parse_study(write_study(more=more).read_text(), tmp_path / "s.yaml")
    signature = FactorySignature(("init_scale",), defaults=defaults)
    assert sweep_spec(LR_SWEEP, spec, ProcedureRequest(LrSweepOptions(), {}), signature).init_scale == expected


UNDER_A = "{role: nuisance, when: {o: a}, range: [0.1, 1]}"


@pytest.mark.parametrize(
    ("entry", "at", "expected"),
    [
        (
            "[{role: nuisance, when: {o: a}, range: [0.1, 1]}, {role: nuisance, when: {o: b}, range: [2, 3]}]",
            "b",
            (2, 3),
        ),
        ("{role: nuisance, values: [0.5, 0.1, 0.2]}", "a", (0.1, 0.5)),
        (UNDER_A, "b", None),
    ],
)
def test_the_rates_of_a_sweep_are_those_of_the_alternative_that_is_settled(
    tmp_path: Path, entry: str, at: str, expected: tuple[float, float] | None
) -> None:
    text = OWN.replace(
        "{role: nuisance, range: [1e-2, 1], scale: log}", entry + "\n  o: {role: scientific, values: [a, b]}"
    )
    spec = parse_study(text.replace(', "{learning_rate}"', ', ["{learning_rate}"]'), tmp_path / "own.yaml")
    sweep = sweep_spec(LR_SWEEP, spec, ProcedureRequest(LrSweepOptions(), {"o": at}))
    assert sweep.learning_rates == expected
    if expected is None:
        with pytest.raises(UsageError, match="no learning_rate has a value or a range here; give --low and --high"):
            LR_SWEEP.problems(sweep)
