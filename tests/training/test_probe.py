from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset
from training_builders import (
    Augmented,
    cross_entropy,
    error_rate,
    frozen,
    labelled,
    make_request,
    plain_workload,
    stochastic_workload,
)

from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.core.objective import Objective
from tunectl.training.probe import probe
from tunectl.workloads.workload import Workload


def refusal(factory: Callable[..., Any], **changes: Any) -> str:
    with pytest.raises(WorkloadError) as caught:
        probe(make_request(**changes), factory, device="cpu")
    return str(caught.value)


def changed(**parts: Any) -> Callable[[], Workload]:
    return lambda: replace(plain_workload(), **parts)


def weighted(weight: float) -> Callable[..., Any]:
    """The cross-entropy, each value with this weight."""
    return lambda model, batch: (cross_entropy(model, batch), torch.full((len(batch[1]),), weight))


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield torch.zeros(6), 0


@pytest.mark.parametrize("factory", [plain_workload, stochastic_workload])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_a_sound_workload_passes_and_leaves_the_generators_alone(factory: Any, optimizer: str):
    before = frozen(torch.get_rng_state())
    probe(make_request(optimizer=optimizer, data_workers=2), factory, device="cpu")
    assert frozen(torch.get_rng_state()) == before


def test_a_factory_that_raises_is_reported_with_type_message_and_the_users_line():
    def factory() -> Workload:
        raise FileNotFoundError("no such file: /data/train.pt")

    message = refusal(factory)
    assert "m:f cannot be built: FileNotFoundError: no such file: /data/train.pt" in message
    line = factory.__code__.co_firstlineno + 1
    assert f"{Path(__file__)}:{line}" in message


def test_the_line_is_the_users_also_when_torch_raised():
    def factory() -> Workload:
        return replace(plain_workload(), model=nn.Linear(-3, 2))

    assert f"{Path(__file__)}:{factory.__code__.co_firstlineno + 1}" in refusal(factory)


def test_a_wrong_keyword_is_an_error():
    assert "TypeError" in refusal(plain_workload, arguments={"widht": 3})


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (lambda: None, "m:f: expected a tunectl.Workload, got None"),
        (lambda: plain_workload().model, "m:f: expected a tunectl.Workload, got a Sequential"),
        (changed(model=lambda x: x), "model: expected a torch.nn.Module, got a function"),
        (changed(data={"train": labelled(5)}), "expected a split 'valid', got train"),
        (
            changed(data={"trian": labelled(5), "valid": labelled(5)}),
            "expected a split 'train', got trian, valid; did you mean 'trian'",
        ),
        (changed(data=[1]), "expected a dict of datasets by split, got a list"),
        (
            changed(data={"train": Endless(), "valid": labelled(5)}),
            "how many examples a pass has, got a Endless without __len__",
        ),
        (changed(data={"train": labelled(5), "valid": labelled(0)}), "split 'valid': expected at least one example"),
        (changed(loss=None), "loss: expected a function, got a NoneType"),
        (changed(data={"train": labelled(5), "valid": labelled(5), "a/b": labelled(5)}), "got 'a/b'"),
        (changed(baseline_loss="2.3"), "baseline_loss: expected a finite number, got '2.3'"),
        (changed(baseline_loss=math.nan), "expected a finite number, got nan"),
        (changed(model=nn.Linear(6, 3).requires_grad_(False)), "no trainable parameter"),
        (
            changed(loss=lambda model, batch: cross_entropy(model, batch).mean()),
            r"shape \[B\], got shape \[\].*reduction",
        ),
        (changed(loss=lambda model, batch: model(batch[0])), r"got shape \[8, 3\]"),
        (changed(loss=lambda model, batch: cross_entropy(model, batch)[:3]), r"shape \[8\].*got shape \[3\]"),
        (changed(loss=lambda model, batch: 0.5), "got float"),
        (changed(loss=lambda model, batch: batch[1]), "floating-point numbers, got torch.int64"),
        (changed(loss=lambda model, batch: torch.zeros(8)), "expected a tensor with a gradient"),
        (changed(loss=lambda model, batch: model(batch["x"])), "loss.* failed on a batch of 'train': TypeError"),
        (changed(metrics=lambda model, batch: {"e": torch.zeros(1)}), r"'e': expected one per example.*\[16\]"),
        (changed(metrics=lambda model, batch: 1 / 0), "metrics.* failed on a batch of 'train': ZeroDivisionError"),
        (changed(metrics=lambda model, batch: {"minibatch_loss": torch.zeros(16)}), "name of a measured series"),
        (changed(metrics=lambda model, batch: {"loss": torch.zeros(16)}), "use another name"),
        (changed(finalize=lambda metrics: {"f1": metrics["f2"]}), "finalize.* failed.*KeyError"),
        (changed(loss=weighted(-1.0)), r"weights of loss.*finite numbers of at least 0, got -1\.0"),
        (changed(loss=weighted(math.inf)), r"weights of loss.*finite numbers of at least 0, got inf"),
        (changed(loss=lambda model, batch: (cross_entropy(model, batch), torch.ones(3))), r"got \[8\] and \[3\]"),
        (
            changed(loss=weighted(2.0), metrics=lambda model, batch: {"loss": cross_entropy(model, batch)}),
            "use another",
        ),
        (changed(metrics=lambda model, batch: {"e": (torch.zeros(16, 3), torch.ones(16))}), "one shape"),
        (
            changed(metrics=lambda model, batch: {"e": torch.zeros(16, 3)}),
            r"expected one per example.*\[16, 3\]; .* a tuple",
        ),
    ],
)
def test_what_cannot_work_is_named(factory: Any, expected: str):
    with pytest.raises(WorkloadError, match=f"(?s){expected}"):
        probe(make_request(), factory, device="cpu")


def test_a_weighted_loss_may_be_a_metric_too_and_a_metric_may_have_values_of_parts():
    def metrics(model: nn.Module, batch: Any) -> Any:
        return {"loss": weighted(2.0)(model, batch), "parts": (batch[0], batch[0] > 0)}

    probe(
        make_request(objective=Objective("valid/parts", "minimize")),
        changed(loss=weighted(2.0), metrics=metrics),
        device="cpu",
    )


def test_an_objective_that_is_not_measured_is_an_error_with_those_that_are():
    message = refusal(plain_workload, objective=Objective("valid/acuracy", "maximize"))
    assert "got 'valid/acuracy'" in message
    assert "train/loss, train/error_rate, valid/loss, valid/error_rate, train/minibatch_loss" in message
    message = refusal(plain_workload, objective=Objective("valid/error-rate", "minimize"))
    assert "did you mean 'valid/error_rate'" in message


@pytest.mark.parametrize("metric", ["valid/loss", "train/error_rate", "train/minibatch_loss", "valid/perplexity"])
def test_every_measured_metric_can_be_the_objective(metric: str):
    factory = changed(finalize=lambda metrics: {"perplexity": metrics["loss"] + 1})
    probe(make_request(objective=Objective(metric, "minimize")), factory, device="cpu")


def test_test_is_never_the_objective():
    assert "test/loss" in refusal(plain_workload, objective=Objective("test/loss", "minimize"))


def test_a_finalize_that_divides_by_zero_on_few_examples_is_let_pass():
    divided = []

    def finalize(metrics: Any) -> Any:
        divided.append(metrics)
        return {"f1": 1 / 0}

    probe(make_request(objective=Objective("valid/f1", "maximize")), changed(finalize=finalize), device="cpu")
    assert divided


def test_a_metric_called_loss_that_is_the_loss_is_let_pass():
    factory = changed(metrics=lambda model, batch: {"loss": cross_entropy(model, batch), **error_rate(model, batch)})
    probe(make_request(), factory, device="cpu")


def test_infeasible_is_no_error_of_the_workload():
    raised = []

    def factory() -> Workload:
        raised.append(Infeasible("too wide"))
        raise raised[-1]

    probe(make_request(), factory, device="cpu")
    assert raised


def test_only_a_small_batch_is_taken():
    class Counted(Augmented):
        seen = 0

        def __getitem__(self, index: int) -> Any:
            type(self).seen += 1
            return super().__getitem__(index)

    data = {"train": Counted(labelled(5000)), "valid": Counted(labelled(5000))}
    probe(make_request(batch_size=4096, eval_batch_size=4096), changed(data=data), device="cpu")
    assert Counted.seen <= 3 * 32


def test_an_example_that_cannot_be_read_names_its_split():
    class Broken(Augmented):
        def __getitem__(self, index: int) -> Any:
            raise OSError("bad image")

    assert "'valid' gives no batch: OSError: bad image" in refusal(
        changed(data={"train": labelled(9), "valid": Broken(labelled(9))})
    )


def test_memory_that_does_not_suffice_is_a_result_of_a_trial_and_no_error_of_the_workload():
    raised = []

    def too_large(model: nn.Module, batch: Any) -> Any:
        raised.append(
            RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory: you tried to")
        )
        raise raised[-1]

    probe(make_request(), changed(loss=too_large), device="cpu")
    assert raised


def test_a_learning_rate_that_ruins_the_model_at_once_is_no_error_of_the_workload():
    measured = []

    def refuses_what_is_no_number(model: nn.Module, batch: Any) -> Any:
        measured.append(model(batch[0]))
        torch.distributions.Categorical(logits=measured[-1])
        return error_rate(model, batch)

    probe(make_request(learning_rate=1e30), changed(metrics=refuses_what_is_no_number), device="cpu")
    assert all(logits.abs().max() < 100 for logits in measured)
    assert measured


def test_a_loss_that_writes_into_its_batch_is_refused():
    def writes(model: nn.Module, batch: Any) -> Any:
        batch[0].mul_(1.5)
        return cross_entropy(model, batch)

    assert "writes into its batch; work on a copy" in refusal(changed(loss=writes))


class Counting(nn.Linear):
    """A module with a state of its own."""

    def __init__(self, extra: Any, *, takes_it: bool = True) -> None:
        super().__init__(6, 3)
        self.extra, self.takes_it = extra, takes_it

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        if not self.takes_it:
            raise KeyError("seen")
        self.extra = state


class Tally:
    """What only a module knows of."""


def test_a_module_whose_state_could_not_be_read_back_is_named_by_the_key():
    said = refusal(changed(model=nn.Sequential(Counting({"seen": {"labels": Tally()}}))))
    assert "model['0._extra_state']['seen']['labels'] is of type test_probe.Tally" in said


def test_a_module_that_does_not_take_back_its_own_state_is_named():
    said = refusal(changed(model=Counting({"seen": 3}, takes_it=False)))
    assert said.startswith("the model's load_state_dict() failed on its own state_dict(): KeyError")
    assert "test_probe.py:" in said


def test_a_module_may_keep_numbers_of_numpy():
    probe(make_request(), changed(model=Counting({"seen": np.int64(3)})), device="cpu")
