"""What a study folder belongs to: what may change between two calls, and what may not."""

from __future__ import annotations

import pytest
from builders import study
from each_case import each_case

from tunectl.language.identity import differences

BASE = {
    "optimizer": "{role: scientific, values: [nesterov, adam]}",
    "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.99]}",
    "width": "64",
}
SECTIONS = {"study": "a", "search": "{trials: 4}"}


def changes(hyperparameters=None, **sections):
    old = study(BASE, **SECTIONS)
    return refused(old, study({**BASE, **(hyperparameters or {})}, **{**SECTIONS, **sections}))


def refused(old, new):
    """What may not change where a trial has completed."""
    found = differences(old, new)
    return [*found.results, *found.objective]


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"search": "{trials: 5}"},
        {"goal": "another", "notes": "more"},
        {"resources": "{devices: cpu, trials_per_device: 3, retries: 0, grace_seconds: 1}"},
        {"training": "{max_train_steps: 2000, eval_every: 100, keep_checkpoints: 9}"},
        {"training": "{max_train_steps: 2000, eval_every: 100, curvature: {every: 10}}"},
        # what was a default may be written out
        {"training": "{max_train_steps: 2000, eval_every: 100, seed: 0, no_progress: true}"},
        {"search": "{sampler: halton, trials: 4, seed: 0}"},
        {"objective": "{direction: minimize, checkpoint: best, metric: valid/error_rate}"},
    ],
)
def test_trials_upwards_resources_goal_notes_and_keep_checkpoints_may_change(sections):
    assert changes(**sections) == []


def test_curvature_may_be_added_changed_and_removed():
    def with_curvature(content):
        return study(BASE, **SECTIONS, training=f"{{max_train_steps: 2000, eval_every: 100{content}}}")

    kinds = [with_curvature(text) for text in ("", ", curvature: {every: 10}", ", curvature: {at: [0, 5], mode: eval}")]
    assert [refused(old, new) for old in kinds for new in kinds] == [[]] * 9


def test_the_same_hyperparameter_may_be_written_in_another_way():
    assert changes({"width": "{role: fixed, value: 64}"}) == []
    assert changes({"learning_rate": "{scale: log, range: [0.001, 1.0], type: float, role: nuisance}"}) == []


@each_case(
    ("hyperparameters", "sections", "line"),
    [
        ({}, {"search": "{trials: 3}"}, "search.trials: was 4, is 3; it may only be raised"),
        ({}, {"search": "{trials: 4, seed: 1}"}, "search.seed: was 0, is 1"),
        ({}, {"search": "{trials: 4, sampler: random}"}, "search.sampler: was halton, is random"),
        ({}, {"study": "b"}, "study: was a, is b"),
        ({}, {"workload": "tunectl.workloads.digits:cnn"}, "workload: was tunectl.workloads.digits:mlp, is"),
        ({}, {"training": "{max_train_steps: 2001, eval_every: 100}"}, "training.max_train_steps: was 2000, is 2001"),
        ({}, {"training": "{max_train_steps: 2000, eval_every: 50}"}, "training.eval_every: was 100, is 50"),
        ({}, {"training": "{max_train_steps: 2000, eval_every: 100, seed: 1}"}, "training.seed: was 0, is 1"),
        ({}, {"training": "{max_train_steps: 2000, eval_every: 100, no_progress: false}"}, "training.no_progress: was true"),
        ({}, {"training": "{max_train_steps: 2000, eval_every: 100, train_examples: 5}"}, "training.train_examples: was not there"),
        ({}, {"training": "{max_train_steps: 2000, eval_every: 100, recovery: {}}"}, "training.recovery.max_recoveries: was not there, is 3"),
        ({}, {"objective": "{metric: valid/loss, direction: minimize}"}, "objective.metric: was valid/error_rate"),
        ({}, {"objective": "{metric: valid/error_rate, direction: maximize}"}, "objective.direction: was minimize"),
        ({}, {"objective": "{metric: valid/error_rate, direction: minimize, checkpoint: final}"}, "objective.checkpoint: was best"),
        ({}, {"objective": "{metric: valid/error_rate, direction: minimize, steps_to: 0.1}"}, "objective.steps_to: was not there, is 0.1"),
        ({"width": "65"}, {}, "hyperparameters.width.value: was 64, is 65"),
        ({"width": "64.0"}, {}, "hyperparameters.width.value: was 64, is 64.0"),
        ({"width": "'64'"}, {}, "hyperparameters.width.value: was 64, is '64'"),
        ({"width": "{role: nuisance, values: [64, 128]}"}, {}, "hyperparameters.width.role: was fixed, is nuisance"),
        ({"width": None}, {}, "hyperparameters.width.role: was fixed, is not there"),
        ({"depth": "2"}, {}, "hyperparameters.depth.role: was not there, is fixed"),
        ({"learning_rate": "{role: nuisance, range: [1e-3, 2], scale: log}"}, {}, "hyperparameters.learning_rate.range: was [0.001, 1.0], is [0.001, 2.0]"),
        ({"learning_rate": "{role: nuisance, range: [1e-3, 1]}"}, {}, "hyperparameters.learning_rate.scale: was log, is linear"),
        ({"learning_rate": "{role: scientific, range: [1e-3, 1], scale: log}"}, {}, "hyperparameters.learning_rate.role"),
        ({"optimizer": "{role: scientific, values: [adam, nesterov]}"}, {}, "hyperparameters.optimizer.values"),
        ({"momentum": "{role: nuisance, range: [0.8, 0.99]}"}, {}, "hyperparameters.momentum.when.optimizer: was [nesterov], is not there"),
    ],
)  # fmt: skip
def test_any_other_difference_is_listed_by_its_path(hyperparameters, sections, line):
    found = changes(hyperparameters, **sections)
    assert any(item.startswith(line) for item in found), found


def test_alternatives_of_a_name_are_numbered_in_the_order_of_the_list():
    alternatives = (
        "[{role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 1]}, {when: {optimizer: adam}, value: 0.1}]"
    )
    found = changes({"learning_rate": alternatives})
    assert "hyperparameters.learning_rate[1].value: was not there, is 0.1" in found
    assert "hyperparameters.learning_rate[0].scale: was log, is linear" in found


def test_the_order_of_the_hyperparameters_belongs_to_the_study_since_it_gives_the_coordinates():
    old = study(BASE, **SECTIONS)
    turned = study({"optimizer": BASE["optimizer"], "learning_rate": BASE["learning_rate"], "width": "64", "momentum": BASE["momentum"]}, **SECTIONS)  # fmt: skip
    assert any(line.startswith("order of hyperparameters") for line in refused(old, turned))


@pytest.mark.parametrize(
    ("old", "new"), [("[0, 1]", "[false, true]"), ("[1, 2]", "[1.0, 2.0]"), ("[1, 2]", "['1', '2']")]
)
def test_values_that_python_takes_for_equal_are_other_values(old, new):
    before, after = (
        study({"x": f"{{role: scientific, values: {values}}}"}, search="{trials: 1}") for values in (old, new)
    )
    assert refused(before, after) != []


def test_points_by_hand_belong_to_the_study():
    varies = {"learning_rate": "{role: nuisance, range: [1e-3, 1]}"}
    one = study(varies, search="{points: [{learning_rate: 0.1}]}")
    two = study(varies, search="{points: [{learning_rate: 0.1}, {learning_rate: 0.2}]}")
    assert refused(one, one) == []
    assert refused(one, two) == ["search.points[1].learning_rate: was not there, is 0.2"]


OWN = """\
command: [python, train.py, "{x}"]
  metrics: [{regex: '(?P<step>.) (?P<loss>.)', offset: 1}]
  environment: {DATA: here}
  checkpoints: "{trial.dir}/{step}.pt"
  infeasible: {exit_codes: [3], patterns: [diverged]}
"""
BASELINE = ("}\n  baseline_loss: 2.3\n", ", baseline_loss: 2.3}")


def own(text=OWN, **sections):
    fields = {
        "workload": f"\n  {text}",
        "objective": "{metric: loss, direction: minimize}",
        "training": "{max_train_steps: 4}",
        "search": "{trials: 2}",
    }
    return study(
        {"optimizer": None, "learning_rate": None, "x": "{role: nuisance, range: [1, 2]}"}, **{**fields, **sections}
    )


@pytest.mark.parametrize(
    ("was", "now", "lines"),
    [
        ("offset: 1", "offset: 2", ["workload.metrics[0].offset: was 1, is 2"]),
        ("offset: 1", "names: {loss: valid/loss}, offset: 1", ["workload.metrics[0].names: was {}, is not there", "workload.metrics[0].names.loss: was not there, is valid/loss"]),
        ("regex: '(?P<step>.) (?P<loss>.)', offset: 1", "json_lines: stdout, offset: 1", ["workload.metrics[0].regex: was (?P<step>.) (?P<loss>.), is not there", "workload.metrics[0].json_lines: was not there, is stdout"]),
        ("/{step}.pt", "/at-{step}.pt", ["workload.checkpoints.path: was {trial.dir}/{step}.pt, is {trial.dir}/at-{step}.pt"]),
        ("[3]", "[4]", ["workload.infeasible.exit_codes: was [3], is [4]"]),
        ("[diverged]", "[]", ["workload.infeasible.patterns: was [diverged], is []"]),
    ],
)  # fmt: skip
def test_how_a_program_is_read_may_change(was, now, lines):
    found = differences(own(), own(OWN.replace(was, now)))
    assert list(found.reading) == lines
    assert (found.results, found.objective, found.environment) == ((), (), ())


@pytest.mark.parametrize("workload", [OWN, "{function: './a.py:b'}"])
def test_how_the_end_of_own_code_is_judged_may_change(workload):
    plain, given = own(workload), own(workload.rstrip("}\n") + BASELINE[workload[0] == "{"])
    strict = own(workload, training="{max_train_steps: 4, no_progress: false}")
    found = differences(plain, given)
    assert (found.results, found.reading) == ((), ("workload.baseline_loss: was not there, is 2.3",))
    assert differences(given, plain).reading == ("workload.baseline_loss: was 2.3, is not there",)
    found = differences(plain, strict)
    assert (found.results, found.reading) == ((), ("training.no_progress: was true, is false",))


def test_the_environment_of_a_program_may_change_and_is_named_by_variable():
    found = differences(own(), own(OWN.replace("{DATA: here}", "{DATA: there}")))
    assert found.environment == ("workload.environment.DATA: was here, is there",)
    assert (found.results, found.objective, found.reading) == ((), (), ())


@pytest.mark.parametrize(
    ("text", "sections", "line"),
    [
        (
            OWN.replace("train.py", "other.py"),
            {},
            "workload.command: was [python, train.py, {x}], is [python, other.py, {x}]",
        ),
        (OWN + '  folder: "{trial.dir}"\n', {}, "workload.folder: was one for all trials, is {trial.dir}"),
        (OWN, {"training": "{max_train_steps: 5}"}, "training.max_train_steps: was 4"),
        (OWN, {"resources": "{devices_per_trial: 2}"}, "resources.devices_per_trial: was 1, is 2"),
    ],
)
def test_what_a_program_is_trained_with_belongs_to_the_study(text, sections, line):
    found = differences(own(), own(text, **sections))
    assert any(item.startswith(line) for item in found.results), found
