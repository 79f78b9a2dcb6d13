"""The digits: the data as scikit-learn has them, and what a trial gets. Tests digits.py and classification.py."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from narrowing import present
from torch.utils.data import default_collate
from torch_parts import tensors_of

from tunectl.workloads import classification, digits
from tunectl.workloads.data import packaged_images
from tunectl.workloads.label_loss import LabelLoss

_NO_SCIKIT_LEARN = """
import sys
from tunectl.workloads import digits
digits.preload()
assert not {"sklearn", "scipy", "pandas"} & set(sys.modules)
"""
# Of the labels of each split in order: the split must never move.
_LABELS = {
    "train": (1197, "da72ddc0bc39ee9a"),
    "valid": (300, "6665f067d37e4296"),
    "test": (300, "b3a9f04e9fd1bdfa"),
}


def test_the_images_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    ours, our_labels = packaged_images.read_digits()
    assert np.array_equal(ours, images)
    assert np.array_equal(our_labels, labels)


def test_reading_them_does_not_import_scikit_learn():
    subprocess.run([sys.executable, "-c", _NO_SCIKIT_LEARN], check=True)


def test_a_module_of_the_users_named_sklearn_is_not_taken_for_the_real_one(tmp_path, monkeypatch):
    (tmp_path / "sklearn.py").write_text("raise RuntimeError")
    (tmp_path / "b" / "sklearn").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "b"), "", "/nowhere", *sys.path])
    assert packaged_images.read_digits()[0].shape == (1797, 64)


def test_where_the_file_is_elsewhere_scikit_learn_itself_is_asked(monkeypatch):
    monkeypatch.setattr(packaged_images, "_DIGITS_FILE", Path("gone.csv.gz"))
    images, labels = packaged_images.read_digits()
    assert images.shape == (1797, 64)
    assert labels.dtype == np.int64


def test_the_split_is_pinned():
    splits = digits.load().splits
    assert list(splits) == ["train", "valid", "test"]
    for name, (count, digest) in _LABELS.items():
        inputs, labels = splits[name].tensors
        assert inputs.shape == (count, 1, 8, 8)
        assert inputs.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert hashlib.sha256(labels.numpy().astype("u1").tobytes()).hexdigest()[:16] == digest


def test_every_image_is_in_exactly_one_split():
    images, _ = packaged_images.read_digits()
    inputs = torch.cat([split.tensors[0] for split in digits.load().splits.values()]).reshape(1797, 64).double().numpy()
    (step,) = {float(np.round(gap, 4)) for gap in np.diff(np.unique(np.round(inputs, 4)))[:1]}
    restored = np.round((inputs - inputs.min()) / step)
    assert sorted(map(tuple, restored)) == sorted(map(tuple, images))


def test_one_mean_and_one_deviation_serve_for_all_pixels():
    inputs = digits.load().splits["train"].tensors[0].double()
    assert inputs.mean().item() == pytest.approx(0, abs=1e-6)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    assert len(inputs.unique()) == 17
    assert inputs.max() < 3


def test_the_baseline_is_the_loss_of_the_best_constant_prediction():
    labels = digits.load().splits["train"].tensors[1]
    scores = (torch.bincount(labels).double() / len(labels)).log().expand(len(labels), 10)
    best = torch.nn.functional.cross_entropy(scores, labels).item()
    assert digits.mlp().baseline_loss == pytest.approx(best, abs=1e-12)
    assert 2.29 < present(digits.cnn().baseline_loss) < math.log(10)


def test_the_loss_of_a_study_is_the_one_that_is_trained():
    for factory in (digits.mlp, digits.cnn):
        workload = factory(loss="mse", label_smoothing=0.1)
        assert workload.loss == LabelLoss("mse", 0.1)
        assert workload.baseline_loss == pytest.approx(0.45 * 0.9**2, rel=1e-2)
        batch = default_collate([workload.data["train"][i] for i in range(5)])
        scores = workload.model(batch[0])
        targets = 0.9 * torch.eye(10)[batch[1]] + 0.01
        torch.testing.assert_close(workload.loss(workload.model, batch), ((scores - targets) ** 2).sum(1) / 2)
        assert list(present(workload.metrics)(workload.model, batch)) == ["error_rate"]


@pytest.mark.parametrize("factory", [digits.mlp, digits.cnn])
def test_an_unknown_loss_is_refused(factory):
    with pytest.raises(ValueError, match="loss: expected one of cross_entropy, mse, got 'hinge'"):
        factory(loss="hinge")


def test_all_trials_share_the_data():
    digits.preload()
    first, second = digits.mlp(), digits.cnn()
    assert all(first.data[name] is second.data[name] for name in ("train", "valid", "test"))


@pytest.mark.parametrize("factory", [digits.mlp, digits.cnn])
def test_a_batch_gives_one_loss_and_one_error_an_example(factory):
    torch.manual_seed(0)
    workload = factory()
    batch = default_collate([workload.data["train"][i] for i in range(5)])
    losses = workload.loss(workload.model, batch)
    assert losses.shape == (5,)
    assert losses.requires_grad
    scores = workload.model(batch[0]).detach()
    expected = torch.tensor([-scores[i].log_softmax(0)[label] for i, label in enumerate(batch[1])])
    torch.testing.assert_close(losses.detach(), expected)
    metrics = workload.metrics(workload.model, batch)
    assert list(metrics) == ["error_rate"]
    assert metrics["error_rate"].tolist() == [float(row.argmax() != y) for row, y in zip(scores, batch[1], strict=True)]


def test_scores_that_are_not_numbers_are_errors():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 10), float("nan"))

    batch = [torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 2])]
    assert classification.error_rate(Broken(), batch)["error_rate"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("factory", "step_size"), [(digits.mlp, 0.1), (digits.cnn, 0.05)])
def test_a_short_training_learns_the_digits(factory, step_size):
    torch.manual_seed(0)
    workload = factory()
    optimizer = torch.optim.SGD(workload.model.parameters(), lr=step_size, momentum=0.9)
    inputs, labels = workload.data["train"].tensors
    for step in range(60):
        chosen = slice(step * 64 % 1152, step * 64 % 1152 + 64)
        optimizer.zero_grad()
        workload.loss(workload.model, [inputs[chosen], labels[chosen]]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        errors = workload.metrics(workload.model, workload.data["valid"].tensors)["error_rate"]
    assert errors.mean() < 0.15


def test_a_deep_network_with_large_weights_fails_at_a_large_learning_rate():
    """The workload on which instability, warmup and clipping are studied must be able to fail."""
    failures = 0
    for seed in range(3):
        torch.manual_seed(seed)
        workload = digits.mlp(num_layers=6, width=64, init_scale=2.0)
        optimizer = torch.optim.SGD(workload.model.parameters(), lr=0.095, momentum=0.9)
        inputs, labels = tensors_of(workload.data["train"])
        assert workload.loss(workload.model, [inputs, labels]).mean() > 20
        for step in range(40):
            chosen = slice(step * 256 % 1024, step * 256 % 1024 + 256)
            optimizer.zero_grad()
            loss = workload.loss(workload.model, [inputs[chosen], labels[chosen]]).mean()
            loss.backward()
            optimizer.step()
        failures += not loss.isfinite() or loss.item() > 2.2
    assert failures == 3
