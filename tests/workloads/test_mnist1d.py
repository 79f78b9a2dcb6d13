"""MNIST-1D: equal to the reference implementation, and what a trial gets."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from torch_parts import numpy_state, tensors_of

from tunectl.workloads import mnist1d
from tunectl.workloads.label_loss import LabelLoss

# From mnist1d 0.0.2.post1 (PyPI), make_dataset() with its own defaults, train and test joined.
_LABELS_SHA256 = "4f5f4160c519e3c47f9d3e196c161336fcd32126a9efffe4153d6e7c8b73f963"
_FIRST_LABELS = [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9, 4, 3, 4, 5, 1, 9, 0, 3]
# Every fourth number of four examples.
_ROWS = {
    0: (
        2,
        [
            -0.3320056674,
            -0.8823525654,
            0.6830780818,
            -0.0170939073,
            0.2541082881,
            1.5934880211,
            0.0980555892,
            0.0704365521,
            -1.0934857108,
            -0.3282141545,
        ],
    ),
    2999: (
        3,
        [
            1.9822875263,
            1.2690380901,
            0.6564666964,
            -0.0240565278,
            0.137410323,
            2.4169280729,
            1.0488687939,
            0.096475775,
            -0.262656781,
            -0.6968951087,
        ],
    ),
    3999: (
        8,
        [
            -0.6939948036,
            0.8783497008,
            -0.7575487033,
            0.4784573468,
            -0.2587280948,
            -0.2817930877,
            0.0096359045,
            -0.9602593657,
            -0.6012917988,
            -0.8137443926,
        ],
    ),
    4999: (
        4,
        [
            -0.5193287078,
            -2.3894211343,
            -0.1394927106,
            0.3440903806,
            -0.6893183079,
            1.3949283343,
            -0.327938015,
            1.4017628465,
            -0.5400119928,
            0.4472328851,
        ],
    ),
}
_SUM_OF_MAGNITUDES = 148316.17264806535
_SUM_OF_CUBES = -13126.103828802174


@pytest.fixture(scope="module")
def examples():
    return mnist1d.generate()


def test_the_examples_are_those_of_the_reference_implementation(examples):
    inputs, labels = examples
    assert labels[:20].tolist() == _FIRST_LABELS
    assert hashlib.sha256(labels.astype("u1").tobytes()).hexdigest() == _LABELS_SHA256
    for row, (label, values) in _ROWS.items():
        assert labels[row] == label
        np.testing.assert_allclose(inputs[row, ::4], values, rtol=0, atol=1e-8)
    assert np.abs(inputs).sum() == pytest.approx(_SUM_OF_MAGNITUDES, rel=1e-10)
    assert (inputs**3).sum() == pytest.approx(_SUM_OF_CUBES, rel=1e-8)


def test_there_are_500_examples_of_each_class_of_mean_0_and_deviation_1(examples):
    inputs, labels = examples
    assert inputs.shape == (5000, 40)
    assert np.bincount(labels).tolist() == [500] * 10
    assert inputs.mean() == pytest.approx(0, abs=1e-12)
    assert inputs.std() == pytest.approx(1, abs=1e-12)


def test_another_seed_gives_other_examples_and_the_global_generator_is_left_alone(examples):
    np.random.seed(3)
    before = numpy_state()
    other, _ = mnist1d.generate(seed=1)
    assert numpy_state() == before
    assert not np.allclose(other, examples[0])


def test_resampling_is_numpys_interpolation():
    random = np.random.RandomState(0)
    signals = random.randn(5, 9)
    positions = np.concatenate([random.rand(5, 20) * 8, np.zeros((5, 1)), np.full((5, 1), 8.0)], axis=1)
    expected = [np.interp(row, np.arange(9), signal) for row, signal in zip(positions, signals, strict=True)]
    np.testing.assert_allclose(mnist1d._resample(signals, positions), expected, atol=1e-12)


def test_smoothing_is_scipys_gaussian_filter():
    from scipy.ndimage import gaussian_filter1d

    noise = np.random.RandomState(0).randn(4, 72)
    np.testing.assert_allclose(mnist1d._smooth(noise), gaussian_filter1d(noise, 2, axis=1), atol=1e-12)


def test_the_splits_are_the_recipes_with_its_training_part_divided(examples):
    splits = mnist1d.load().splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 3000, "valid": 1000, "test": 1000}
    joined = torch.cat([split.tensors[0] for split in splits.values()])
    assert torch.equal(joined, torch.from_numpy(examples[0].astype(np.float32)))
    labels = splits["train"].tensors[1].numpy()
    shares = np.bincount(labels) / len(labels)
    assert mnist1d.mlp().baseline_loss == pytest.approx(-sum(share * math.log(share) for share in shares), abs=1e-12)


def test_the_cached_data_are_shared_by_all_trials():
    mnist1d.preload()
    assert mnist1d.mlp().data["train"] is mnist1d.mlp(width=3).data["train"]


def test_the_loss_and_its_smoothing_are_keywords():
    workload = mnist1d.mlp(loss="mse", label_smoothing=0.2)
    assert workload.loss == LabelLoss("mse", 0.2)
    # With ten classes of nearly the same size.
    assert workload.baseline_loss == pytest.approx(0.45 * 0.8**2, rel=1e-3)


def test_a_short_training_does_better_than_guessing():
    torch.manual_seed(0)
    workload = mnist1d.mlp(activation="gelu", normalization="layer")
    optimizer = torch.optim.Adam(workload.model.parameters(), lr=3e-3)
    inputs, labels = tensors_of(workload.data["train"])
    assert workload.metrics is not None
    for step in range(150):
        chosen = slice(step * 100 % 3000, step * 100 % 3000 + 100)
        optimizer.zero_grad()
        workload.loss(workload.model, [inputs[chosen], labels[chosen]]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        errors = workload.metrics(workload.model, tensors_of(workload.data["valid"]))["error_rate"]
    assert errors.mean() < 0.6
