"""What becomes of formulas in a procedure, which sets hyperparameters by itself.

Tests session/swept_formulas.py, and formulas in session/base_configuration.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from builders import study

from tunectl.core.errors import UsageError
from tunectl.core.records import FactorySignature
from tunectl.procedures.batch_scaling import BATCH_SCALING
from tunectl.procedures.batch_scaling_options import BatchScalingOptions
from tunectl.procedures.lr_options import LrSweepOptions
from tunectl.procedures.lr_sweep import LR_SWEEP
from tunectl.session.base_configuration import base_configuration
from tunectl.session.procedure_request import ProcedureRequest, sweep_spec
from tunectl.session.swept_formulas import unused_formulas

DERIVED = {
    "optimizer": "nesterov",
    "effective_rate": "{role: nuisance, range: [0.1, 10], scale: log}",
    "momentum": "{role: nuisance, range: [0.8, 0.99], scale: one_minus_log}",
    "learning_rate": "{formula: effective_rate * (1 - momentum)}",
}
FACTORY = FactorySignature(("width",), ())
SEARCH = "{trials: 4}"


def sweep(hyperparameters: dict[str, str], *, trial: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    spec = study({**DERIVED, **hyperparameters}, search=SEARCH)
    request = ProcedureRequest(LrSweepOptions(), values, trial_values=trial or {})
    return dict(sweep_spec(LR_SWEEP, spec, request, FACTORY).values)


def test_a_sweep_sets_a_derived_learning_rate_and_leaves_out_what_only_its_formula_uses():
    assert sweep({}, momentum=0.9) == {"optimizer": "nesterov", "momentum": 0.9}
    assert unused_formulas(study(DERIVED, search=SEARCH), LR_SWEEP.swept) == [
        "learning_rate = effective_rate * (1 - momentum)"
    ]
    with pytest.raises(UsageError, match="--at effective_rate: only the formula of learning_rate uses it"):
        sweep({}, momentum=0.9, effective_rate=1)


def test_the_range_of_a_sweep_is_what_the_formula_gives_with_the_known_values():
    spec = study(DERIVED, search=SEARCH)
    request = ProcedureRequest(LrSweepOptions(), {"momentum": 0.9})
    assert sweep_spec(LR_SWEEP, spec, request, FACTORY).learning_rates == (0.01, 1.0)


def test_a_sweep_from_a_trial_has_its_momentum_and_its_rate_alone():
    trial = {"optimizer": "nesterov", "effective_rate": 1.0, "momentum": 0.9, "learning_rate": 0.1}
    assert sweep({}, trial=trial) == {"optimizer": "nesterov", "momentum": 0.9, "learning_rate": 0.1}


def test_what_a_formula_computes_from_values_that_are_known_is_computed_again():
    decay = {"weight_decay": "{formula: (1 - momentum) / 100}", "learning_rate": "0.1"}
    trial = {"momentum": 0.9, "weight_decay": 0.5, "effective_rate": 1.0}
    found = sweep(decay, trial=trial, momentum=0.8)
    assert found["weight_decay"] == (1 - 0.8) / 100
    with pytest.raises(UsageError, match=r"--at weight_decay=0.5: the study computes it: \(1 - momentum\) / 100 is"):
        sweep(decay, effective_rate=1, momentum=0.8, weight_decay=0.5)
    with pytest.raises(UsageError) as caught:
        sweep(decay)
    assert "momentum: [0.8, 0.99]" in str(caught.value)
    assert "weight_decay" not in str(caught.value)


def test_a_formula_over_what_a_sweep_sets_is_refused():
    with pytest.raises(UsageError, match=r"sets learning_rate by itself, and .* computes weight_decay from it"):
        sweep({"weight_decay": "{formula: learning_rate / 100}"}, momentum=0.9)


def test_a_formula_without_a_value_for_the_given_ones_is_refused():
    with pytest.raises(UsageError, match="weight_decay, which is 1 / momentum, has no value here: division by 0"):
        sweep({"weight_decay": "{formula: 1 / momentum}", "learning_rate": "0.1"}, momentum=0, effective_rate=1)


def test_batch_scaling_refuses_what_varies_by_a_formula():
    spec = study(DERIVED, search=SEARCH)
    request = ProcedureRequest(BatchScalingOptions(), {})
    with pytest.raises(UsageError, match="computes learning_rate by a formula"):
        sweep_spec(BATCH_SCALING, spec, request, FACTORY)


def test_a_study_that_is_fixed_is_settled_with_what_it_computes():
    spec = study({**DERIVED, "effective_rate": "1", "momentum": "0.5"})
    values = base_configuration(spec, frozenset(), {}, "batch-size")
    assert values == {"optimizer": "nesterov", "learning_rate": 0.5, "effective_rate": 1, "momentum": 0.5}
