"""Tests what `training:` may say about evaluations: evaluation_checks.py, and its keys in sections.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.core.errors import StudyError
from tunectl.core.example_predictions import PredictionSettings
from tunectl.language.study_reader import parse_study

WORKLOAD = "workload: tunectl.workloads.digits:mlp"
COMMAND = """workload:
  command: [python, train.py, --lr, '{learning_rate}']
  metrics: {regex: 'step (?P<step>\\d+) (?P<valid__loss>\\S+)'}"""
TEXT = """{workload}
objective: {{metric: {metric}, direction: minimize}}
training: {{max_train_steps: 20, eval_every: 5, {training}}}
hyperparameters: {{{hyperparameters}}}
"""
OF_WORKLOAD = "optimizer: sgd, batch_size: 8, learning_rate: 0.1"


def read(training: str, metric: str = "valid/loss"):
    text = TEXT.format(workload=WORKLOAD, metric=metric, training=training, hyperparameters=OF_WORKLOAD)
    return parse_study(text, Path("/s.yaml")).training


def problems(training: str, *, workload: str = WORKLOAD, metric: str = "valid/loss") -> list[str]:
    given = OF_WORKLOAD if workload == WORKLOAD else "learning_rate: 0.1"
    with pytest.raises(StudyError) as error:
        parse_study(
            TEXT.format(workload=workload, metric=metric, training=training, hyperparameters=given), Path("/s.yaml")
        )
    return [f"{problem.path}: {problem.message}" for problem in error.value.problems]


def test_layers_that_are_synchronised_between_devices_are_not_compiled():
    text = TEXT.format(
        workload=WORKLOAD,
        metric="valid/loss",
        training="sync_batch_norm: true, compile: true",
        hyperparameters=OF_WORKLOAD,
    )
    assert parse_study(text, Path("/s.yaml")).training.sync_batch_norm
    with pytest.raises(StudyError) as error:
        parse_study(f"{text}resources: {{devices_per_trial: 2}}\n", Path("/s.yaml"))
    (problem,) = error.value.problems
    assert problem.path == "training.compile"
    assert problem.message.startswith("expected false with sync_batch_norm")


def test_predictions_have_their_defaults_and_a_list_keeps_its_order():
    assert read("predictions: {}").predictions == PredictionSettings("valid", 16)
    assert read("predictions: {split: train, examples: 3}").predictions == PredictionSettings("train", 3)
    assert read("predictions: {examples: [9, 2]}").predictions == PredictionSettings("valid", (9, 2))
    assert read("seed: 1").predictions is None
    assert read("seed: 1").split_examples == {}
    assert read("split_examples: {valid: 5000, hard: 10}").split_examples == {"valid": 5000, "hard": 10}


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ("predictions: {split: test}", "training.predictions.split: expected another split"),
        ("predictions: {split: 3}", "training.predictions.split: expected text, got 3"),
        ("predictions: {examples: 0}", "expected a whole number from 1 to 256, or a list of examples, got 0"),
        ("predictions: {examples: 257}", "expected a whole number from 1 to 256, or a list of examples, got 257"),
        ("predictions: {examples: true}", "expected a whole number from 1 to 256, or a list of examples, got true"),
        ("predictions: {examples: []}", "training.predictions.examples: expected at least one"),
        ("predictions: {examples: [1, 1]}", "expected each one once (1 is there 2 times)"),
        ("predictions: {examples: [-1]}", "expected whole numbers from 0 on, the examples' places in the split (-1 is"),
        (f"predictions: {{examples: {list(range(300))}}}", "expected at most 256 examples (they are 300)"),
        ("predictions: {exmples: 3}", "training.predictions.exmples: no such key; did you mean examples?"),
        ("predictions: 16", "training.predictions: expected a mapping of keys, got 16"),
        ("split_examples: {test: 3}", "training.split_examples: expected no test split"),
        ("split_examples: {train: 3}", "expected other splits than train (of which train_examples are evaluated)"),
        ("split_examples: {valid: 0}", "training.split_examples.valid: expected at least 1, got 0"),
        ("split_examples: 5000", "training.split_examples: expected a mapping of keys, got 5000"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(training, message):
    (found,) = problems(training)
    assert message in found


@pytest.mark.parametrize("metric", ["valid_whole/loss", "valid_sample_error/loss"])
def test_the_whole_split_is_no_objective_and_the_remedy_is_named(metric):
    (found,) = problems("split_examples: {valid: 9}", metric=metric)
    assert found.startswith("objective.metric: expected valid/loss, the metric of the sample")
    assert "to judge by the whole split, leave it out of training.split_examples" in found
    # Without a sample it may be the name of a split of the workload.
    read("seed: 1", metric=metric)
    read("split_examples: {hard: 9}", metric=metric)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ("predictions: {}", "training.predictions: only tunectl's own training loop keeps predictions"),
        ("split_examples: {valid: 9}", "training.split_examples: only tunectl's own training loop evaluates a sample"),
        ("batch_norm_statistics: {batches: 3}", "only tunectl's own training loop gathers statistics"),
        ("sync_batch_norm: true", "training.sync_batch_norm: only tunectl's own training loop synchronises"),
    ],
)
def test_own_code_evaluates_by_itself(training, message):
    (found,) = problems(training, workload=COMMAND)
    assert message in found
    assert "a command trains by itself; leave it out" in found


def test_no_checkpoint_may_be_kept_but_not_where_whole_splits_are_evaluated_at_them():
    assert read("keep_checkpoints: 0").keep_checkpoints == 0
    assert problems("keep_checkpoints: 0, split_examples: {valid: 8}") == [
        "training.keep_checkpoints: expected at least 1 with split_examples, which evaluates whole splits at the kept "
        "checkpoints; got 0"
    ]
