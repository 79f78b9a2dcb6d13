"""What varies in a study, as it is exported."""

from __future__ import annotations

from builders import study

from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.exchange.exported_study import Dimension, ExportedStudy, ExportedTrial, dimensions, values_by_key
from tunectl.space.domains import Range, ValueSet


def exported(spec, *values):
    """The study with a trial for each of these configurations."""
    plans = [PlannedTrial(number, 0, number, 0, (), item, number) for number, item in enumerate(values)]
    return ExportedStudy(spec, "/runs/s", [ExportedTrial(TrialOutcome(plan, "completed")) for plan in plans])


RATES = {
    "optimizer": "{role: scientific, values: [momentum, adam]}",
    "learning_rate": (
        "[{role: nuisance, when: {optimizer: momentum}, range: [1e-2, 1], scale: log}, "
        "{role: nuisance, when: {optimizer: adam}, range: [1e-4, 1e-1], scale: log}]"
    ),
}


def test_each_alternative_of_a_name_is_a_dimension_of_its_own():
    spec = study(RATES, search="{trials: 1}")
    found = dimensions(exported(spec))
    assert found == (
        Dimension("optimizer", "optimizer", ValueSet(("momentum", "adam"))),
        Dimension("learning_rate[optimizer=momentum]", "learning_rate", Range(1e-2, 1, "log")),
        Dimension("learning_rate[optimizer=adam]", "learning_rate", Range(1e-4, 1e-1, "log")),
    )
    trial = PlannedTrial(0, 0, 0, 0, (), {"optimizer": "adam", "learning_rate": 0.01}, 0)
    assert values_by_key(spec, trial) == {"optimizer": "adam", "learning_rate[optimizer=adam]": 0.01}


def test_what_is_fixed_is_no_dimension_unless_something_else_swept_it():
    spec = study({"batch_size": 64})
    fixed = {"optimizer": "sgd", "learning_rate": 0.1, "batch_size": 64}
    assert dimensions(exported(spec, fixed)) == ()
    swept = exported(spec, fixed, {**fixed, "learning_rate": 0.4}, {**fixed, "batch_size": 32})
    assert dimensions(swept) == (
        Dimension("learning_rate", "learning_rate", Range(0.1, 0.4, "log")),
        Dimension("batch_size", "batch_size", Range(32, 64, "log", integer=True)),
    )


def test_a_hyperparameter_that_the_study_does_not_name_is_exported_as_it_was_swept():
    spec = study()
    base = {"optimizer": "sgd", "learning_rate": 0.1}
    swept = exported(spec, {**base, "warmup_steps": 0}, {**base, "warmup_steps": 10})
    assert dimensions(swept) == (Dimension("warmup_steps", "warmup_steps", Range(0, 10, "linear", integer=True)),)
    texts = exported(spec, {**base, "schedule": "constant"}, {**base, "schedule": "cosine"})
    assert dimensions(texts) == (Dimension("schedule", "schedule", ValueSet(("constant", "cosine"))),)


def test_a_range_that_values_lie_outside_of_is_widened_and_keeps_its_scale_where_it_can():
    spec = study({"learning_rate": "{role: nuisance, range: [1e-2, 1], scale: log}"}, search="{trials: 1}")
    wide = exported(spec, {"optimizer": "sgd", "learning_rate": 1e-3})
    assert dimensions(wide)[0].domain == Range(1e-3, 1, "log")
    none = exported(spec, {"optimizer": "sgd", "learning_rate": 0.0})
    assert dimensions(none)[0].domain == Range(0.0, 1, "linear")


def test_true_and_one_stay_two_values():
    spec = study({"num_layers": "{role: nuisance, values: [1, 2]}"}, search="{trials: 1}")
    found = dimensions(exported(spec, {"optimizer": "sgd", "learning_rate": 0.1, "num_layers": True}))
    assert isinstance(found[0].domain, ValueSet)
    assert [type(value) for value in found[0].domain.values] == [int, int, bool]


def test_what_a_formula_computes_is_exported_as_the_range_of_its_values():
    spec = study(
        {"base": "{role: nuisance, range: [1, 2]}", "learning_rate": "{formula: base / 10}"}, search="{trials: 1}"
    )
    found = dimensions(exported(spec, {"base": 1.0, "learning_rate": 0.1}, {"base": 1.5, "learning_rate": 0.15}))
    assert found == (
        Dimension("learning_rate", "learning_rate", Range(0.1, 0.15, "log")),
        Dimension("base", "base", Range(1.0, 2.0)),
    )
    (only,) = dimensions(exported(spec, {"base": 1.0, "learning_rate": 0.1}))
    assert only.name == "base"
