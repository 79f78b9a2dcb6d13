"""Calling a factory, and what counts as a workload that can be trained.

Tests built_workload.py, and workloads/workload.py with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset
from training_builders import make_request

from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.training.built_workload import build_workload
from tunectl.training.seeds import Purpose, short_seed
from tunectl.workloads.workload import Workload


def workload(**changes: Any) -> Workload:
    data = TensorDataset(torch.zeros(3, 2))
    fields: dict[str, Any] = {
        "model": torch.nn.Linear(2, 1),
        "data": {"train": data, "valid": data},
        "loss": lambda model, batch: model(batch[0])[:, 0],
    }
    return Workload(**{**fields, **changes})


def build(factory: Callable[..., Any], **arguments: Any) -> Workload:
    return build_workload(factory, make_request(arguments=arguments), torch.device("cpu"))


class NoLength(TensorDataset):
    def __len__(self) -> int:
        raise FileNotFoundError("index.json")


def test_the_arguments_and_the_model_seed_reach_the_factory():
    calls = []

    def factory(*, width: int, seed: int) -> Workload:
        calls.append((width, seed))
        return workload()

    build(factory, width=3)
    build(factory, width=3, seed=11)
    assert calls == [(3, short_seed(12345, Purpose.MODEL)), (3, 11)]


def positional_only(seed: int = 5, /, width: int = 1) -> Workload:
    return workload(baseline_loss=seed)


@pytest.mark.parametrize(
    "factory",
    [
        lambda width: workload(baseline_loss=5),
        lambda width, **options: workload(baseline_loss=5 - len(options)),
        lambda width, **seed: workload(baseline_loss=5 - len(seed)),
        lambda *seed, width: workload(baseline_loss=5 - len(seed)),
        positional_only,
    ],
)
def test_a_factory_that_cannot_take_seed_by_name_gets_none(factory: Callable[..., Any]):
    assert build(factory, width=1).baseline_loss == 5.0


@pytest.mark.parametrize("error", [ValueError("mine"), Infeasible("too wide"), KeyError("x")])
def test_what_the_factory_raises_is_passed_on(error: Exception):
    def factory() -> Workload:
        raise error

    with pytest.raises(type(error)) as caught:
        build(factory)
    assert caught.value is error


def test_a_keyword_that_the_factory_does_not_take_is_its_own_type_error():
    with pytest.raises(TypeError, match="depth"):
        build(lambda *, width: workload(), depth=1)


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (lambda: None, "the factory m:f: expected a tunectl.Workload, got None (is a return missing?)"),
        (lambda: {"model": 1}, "expected a tunectl.Workload, got a dict"),
        (lambda: workload(model=lambda x: x), "the workload of m:f: model: expected a torch.nn.Module, got a function"),
        (lambda: workload(data=[1]), "data: expected a dict of datasets by split, got a list"),
        (lambda: workload(data={}), "data: expected a split 'train', got none"),
        (lambda: workload(data={"train": [1], "test": [1]}), "data: expected a split 'valid', got train, test"),
        (
            lambda: workload(data={"train": [1], "valid": [1], "curvature": [1]}),
            "data: expected another name than 'curvature' for a split, since curvature/… is what training.curvature",
        ),
        (lambda: workload(data={"train": [1], "valid": []}), "split 'valid': expected at least one example, got none"),
        (lambda: workload(data={"train": [1], "valid": iter([1])}), "got a list_iterator"),
        (lambda: workload(data={"train": [1], "valid": {1}}), "got a set"),
        (lambda: workload(data={"train": [1], "valid": NoLength()}), "len() raised FileNotFoundError: index.json"),
        (
            lambda: workload(data={"train": [1], "valid": [1], "a/b": [1]}),
            "the name of a split (text without a slash), got 'a/b'",
        ),
        (lambda: workload(data={"train": [1], "valid": [1], "": [1]}), "(text without a slash), got ''"),
        (lambda: workload(data={"train": [1], "valid": [1], 3: [1]}), "(text without a slash), got 3"),
        (
            lambda: workload(data={"train": [1], "valid": [1], "valid_for_training": [1, 2]}),
            "data['valid_for_training']: expected the 1 examples of valid, got 2",
        ),
        (lambda: workload(loss=None), "loss: expected a function, got a NoneType"),
        (lambda: workload(metrics={"error": 1}), "metrics: expected a function, got a dict"),
        (lambda: workload(finalize=3), "finalize: expected a function, got a int"),
        (lambda: workload(baseline_loss="2.3"), "baseline_loss: expected a finite number, got '2.3'"),
        (lambda: workload(baseline_loss=b"2.3"), "baseline_loss: expected a finite number, got"),
        (lambda: workload(baseline_loss=True), "expected a finite number, got True"),
        (lambda: workload(baseline_loss=math.nan), "expected a finite number, got nan"),
        (lambda: workload(baseline_loss=-math.inf), "expected a finite number, got -inf"),
        (lambda: workload(baseline_loss=10**400), "baseline_loss: expected a finite number, got"),
        (lambda: workload(baseline_loss=torch.ones(2)), "baseline_loss: expected a finite number, got"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(made: Callable[[], Any], found: str):
    with pytest.raises(WorkloadError) as caught:
        build(made)
    assert found in str(caught.value)


@pytest.mark.parametrize("baseline", [0.5, torch.tensor(0.5), np.float32(0.5)])
def test_a_baseline_becomes_a_plain_number_and_the_rest_stays_as_it_was(baseline: Any):
    given = workload(baseline_loss=baseline)
    built = build(lambda: given)
    assert type(built.baseline_loss) is float
    assert built.baseline_loss == 0.5
    assert (built.model, built.data, built.loss) == (given.model, given.data, given.loss)
