"""Training batches are augmented by random numbers of the update alone. Tests augmentation.py, loop.py and probe.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_builders import (
    StopAt,
    comparable,
    cross_entropy,
    make_request,
    parabola,
    plain_workload,
    stochastic_workload,
    train_trial,
)

from tunectl.core.errors import WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import Recovery, TrialRequest
from tunectl.training.probe import probe
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.throughput import run_throughput
from tunectl.training.timed_batches import Extent
from tunectl.workloads.workload import Workload

Factory = Callable[[], Workload]


def noise(batch: Any, generator: np.random.Generator) -> Any:
    features, labels = batch
    return [features + torch.from_numpy(generator.standard_normal(features.shape).astype(np.float32)), labels]


def noisy() -> Workload:
    return replace(plain_workload(), augment=noise)


def noisy_and_stochastic() -> Workload:
    return replace(stochastic_workload(), augment=noise)


def another(tmp_path: Path, name: str = "another") -> TrialFolder:
    folder = TrialFolder(tmp_path / name)
    folder.path.mkdir()
    return folder


def trained(tmp_path: Path, name: str, request: TrialRequest, factory: Factory) -> dict[str, Any]:
    folder = another(tmp_path, name)
    train_trial(request, folder, factory)
    return comparable(folder)


class Seen:
    """A workload's augment and loss that keep what they got."""

    def __init__(self) -> None:
        self.augmented: list[Tensor] = []
        self.trained: list[Tensor] = []
        self.draws: list[float] = []

    def workload(self) -> Workload:
        return replace(plain_workload(), augment=self.augment, loss=self.loss)

    def augment(self, batch: Any, generator: np.random.Generator) -> Any:
        assert not torch.is_grad_enabled()
        self.augmented.append(batch[0].clone())
        self.draws.append(float(generator.random()))
        return [batch[0] + 100, batch[1]]

    def loss(self, model: Any, batch: Any) -> Tensor:
        if torch.is_grad_enabled():
            self.trained.append(batch[0].detach().clone())
        else:
            assert batch[0].max() < 50, "an evaluation is of what the data set gives"
        return cross_entropy(model, batch)


def test_an_update_trains_on_what_augment_gives_and_evaluations_do_not(folder: TrialFolder):
    seen = Seen()
    train_trial(make_request(max_train_steps=5, no_progress=False), folder, seen.workload)
    assert len(seen.augmented) == len(seen.trained) == 5
    for before, after in zip(seen.augmented, seen.trained, strict=True):
        assert torch.equal(after, before + 100)


def test_the_random_numbers_are_those_of_the_seed_and_the_update(folder: TrialFolder, tmp_path: Path):
    seen, rest, others = Seen(), Seen(), Seen()
    train_trial(make_request(max_train_steps=4), folder, seen.workload, stop=StopAt(2))
    train_trial(make_request(max_train_steps=4), folder, rest.workload)
    train_trial(make_request(max_train_steps=4, seed=99), another(tmp_path), others.workload)
    expected = [
        np.random.Generator(np.random.PCG64(sequence(12345, Purpose.AUGMENTATION, n))).random() for n in range(4)
    ]
    assert seen.draws + rest.draws == expected
    assert set(expected).isdisjoint(others.draws)


def test_micro_batches_are_augmented_one_by_one_from_one_stream(folder: TrialFolder):
    seen = Seen()
    train_trial(make_request(max_train_steps=1, batch_size=8, accumulate_steps=3), folder, seen.workload)
    assert [len(part) for part in seen.augmented] == [3, 3, 2]
    stream = np.random.Generator(np.random.PCG64(sequence(12345, Purpose.AUGMENTATION, 0)))
    assert seen.draws == [stream.random() for _ in range(3)]
    assert [len(part) for part in seen.trained] == [3, 3, 2]


@pytest.mark.parametrize(("workers", "precision"), [(0, "float32"), (2, "bfloat16")])
def test_a_stopped_trial_with_augmentation_ends_bit_for_bit_as_if_never_stopped(
    folder: TrialFolder, tmp_path: Path, workers: int, precision: str
):
    request = make_request(optimizer="adam", precision=precision, max_train_steps=16)
    expected = trained(tmp_path, "whole", request, noisy_and_stochastic)
    assert train_trial(replace(request, data_workers=workers), folder, noisy_and_stochastic, stop=StopAt(11)) is None
    assert train_trial(replace(request, data_workers=workers), folder, noisy_and_stochastic) is not None
    assert comparable(folder) == expected
    assert expected != trained(tmp_path, "plain", request, stochastic_workload)


def test_an_augment_that_changes_nothing_changes_no_bit(tmp_path: Path):
    request = make_request(max_train_steps=12)

    def same() -> Workload:
        return replace(stochastic_workload(), augment=lambda batch, generator: batch)

    assert trained(tmp_path, "a", request, same) == trained(tmp_path, "b", request, stochastic_workload)


def test_a_trial_that_goes_back_augments_its_updates_as_before(folder: TrialFolder, tmp_path: Path):
    def shifted(batch: Any, generator: np.random.Generator) -> Any:
        return [batch[0] + 0.01 * float(generator.standard_normal())]

    def factory() -> Workload:
        return replace(parabola(), augment=shifted)

    common: dict[str, Any] = {"optimizer": "sgd", "max_train_steps": 120, "eval_every": 100}
    request = make_request(
        learning_rate=1.6, recovery=Recovery(0.5, 3), objective=Objective("valid/loss", "minimize"), **common
    )
    train_trial(request, folder, factory)
    smaller = replace(request, recovery=None, configuration={**request.configuration, "learning_rate": 0.8})
    other = another(tmp_path)
    train_trial(smaller, other, factory)
    assert folder.steps.read_bytes() == other.steps.read_bytes()


def test_the_throughput_is_that_of_augmented_updates(folder: TrialFolder):
    seen = Seen()
    run_throughput(
        make_request(max_train_steps=4),
        folder,
        seen.workload,
        device="cpu",
        stop=lambda: False,
        seconds=TrialSeconds(),
        extent=Extent(warmup_updates=1, warmup_seconds=0.0, block_seconds=0.0),
    )
    assert len(seen.augmented) == len(seen.trained) >= 4


def refusal(augment: Any) -> str:
    with pytest.raises(WorkloadError) as caught:
        probe(make_request(), lambda: replace(plain_workload(), augment=augment), device="cpu")
    return str(caught.value)


def fails(batch: Any, generator: np.random.Generator) -> Any:
    raise ValueError("no such crop")


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (3, "augment: expected a function, got a int"),
        (
            fails,
            "augment(batch, generator: numpy.random.Generator) failed on a batch of 'train': ValueError: no such crop",
        ),
        (lambda batch: batch, "failed on a batch of 'train': TypeError"),
        (lambda batch, generator: None, "expected the batch to train on, got None (is a return missing?)"),
        (
            lambda batch, generator: [tensor[:3] for tensor in batch],
            "augment(batch, generator): expected as many examples as it gets, 8, got 3",
        ),
        (lambda batch, generator: batch[0], "loss(model, batch) failed on what augment gives for a batch of 'train'"),
    ],
)
def test_what_cannot_work_is_said_by_the_probe(augment: Any, message: str):
    assert message in refusal(augment)


def test_the_probe_names_the_users_line():
    assert f"({__file__}:{fails.__code__.co_firstlineno + 1})" in refusal(fails)


def test_the_probe_passes_an_augment_that_works():
    model, augmented = nn.Linear(6, 3), []

    def augment(batch: Any, generator: np.random.Generator) -> Any:
        augmented.append(batch)
        return noise(batch, generator)

    probe(make_request(), lambda: replace(plain_workload(), augment=augment, model=model), device="cpu")
    assert augmented
