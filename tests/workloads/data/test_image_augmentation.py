"""Flips, crops and mixtures of batches, against loops over single examples. Tests augmentation.py and mixup.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from narrowing import present
from torch import Tensor, nn

from tunectl.workloads.classification import image_classification
from tunectl.workloads.data.augmentation import FlipCrop, image_augmentation
from tunectl.workloads.data.image_data import image_splits
from tunectl.workloads.data.mixup import Mixup
from tunectl.workloads.label_loss import LabelLoss


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(count: int = 64, *, floats: bool = False, height: int = 6, width: int = 5) -> Tensor:
    values = generator(7).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(values.astype(np.float32) + 0.25 if floats else values)


def windows(image: np.ndarray[Any, Any], mean: tuple[float, ...], padding: int) -> dict[bytes, tuple[int, int, bool]]:
    """Every image that flip and crop can make of one, by its bytes: the offsets down and to the right, and the flip."""
    _, height, width = image.shape
    canvas = np.empty((3, height + 2 * padding, width + 2 * padding), image.dtype)
    for channel, value in enumerate(mean):
        canvas[channel] = round(value) if image.dtype == np.uint8 else value
    canvas[:, padding : padding + height, padding : padding + width] = image
    made = {}
    for down in range(2 * padding + 1):
        for right in range(2 * padding + 1):
            window = canvas[:, down : down + height, right : right + width]
            made[window.tobytes()] = (down, right, False)
            made[np.ascontiguousarray(window[:, :, ::-1]).tobytes()] = (down, right, True)
    return made


MEAN = (100.4, 120.6, 3.0)


@pytest.mark.parametrize("floats", [False, True])
def test_each_image_becomes_one_of_its_own_windows_all_of_them_as_often(floats: bool):
    batch = images(2000, floats=floats)
    made = FlipCrop(MEAN, padding=1)(batch, generator())
    assert made.shape == batch.shape
    assert made.dtype == batch.dtype
    counts = {(down, right, flip): 0 for down in range(3) for right in range(3) for flip in (False, True)}
    for before, after in zip(batch.numpy(), made.numpy(), strict=True):
        counts[windows(before, MEAN, 1)[after.tobytes()]] += 1
    # 2,000 draws from 18 equal chances: the standard deviation of a count is 10.
    assert min(counts.values()) > 111 - 50
    assert max(counts.values()) < 111 + 50


def test_the_same_generator_makes_the_same_images_and_the_batch_is_not_changed():
    batch = images()
    before = batch.clone()
    first, second = (FlipCrop(MEAN, 2)(batch, generator(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, FlipCrop(MEAN, 2)(batch, generator(4)))
    assert torch.equal(batch, before)


def test_the_global_generators_are_not_used():
    before = torch.get_rng_state()
    ImageFlip = FlipCrop(MEAN, 2)
    ImageFlip(images(), generator())
    Mixup(0.4, 3)(images(), torch.zeros(64, dtype=torch.int64), generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_mixup_mixes_each_example_with_its_partner_by_one_weight():
    batch, labels = images(9), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1])
    mixed, targets = Mixup(0.4, 4)(batch, labels, generator(5))
    weight = generator(5).beta(0.4, 0.4)
    assert mixed.dtype == targets.dtype == torch.float32
    for place in range(9):
        partner = 8 - place
        expected = weight * batch[place].double() + (1 - weight) * batch[partner].double()
        assert torch.allclose(mixed[place].double(), expected, atol=1e-4)
        target = np.zeros(4)
        target[labels[place]] += weight
        target[labels[partner]] += 1 - weight
        assert targets[place].tolist() == pytest.approx(target.tolist(), abs=1e-6)


def test_the_weights_of_mixup_are_a_beta_distribution():
    batch, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    source = generator(1)
    weights = np.array([float(Mixup(0.5, 2)(batch, labels, source)[0][1]) for _ in range(4000)])
    assert weights.mean() == pytest.approx(0.5, abs=0.03)
    assert weights.var() == pytest.approx(1 / (4 * (2 * 0.5 + 1)), rel=0.05)  # of Beta(a, a): 1 / (4 (2 a + 1))


def test_double_precision_is_kept_by_mixup():
    assert Mixup(0.4, 3)(images(4).double(), torch.tensor([0, 1, 2, 0]), generator())[0].dtype == torch.float64


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf"), True, "0.2", None])
def test_an_alpha_that_is_no_such_number_is_refused(alpha: Any):
    with pytest.raises(ValueError, match=r"mixup: expected a number, 0 \(no mixing\) or above, got"):
        Mixup(alpha, 3)


def test_nothing_is_augmented_unless_it_is_asked_for():
    splits = image_splits("digits")
    assert image_augmentation(splits) is None
    assert image_augmentation(splits, augmentation="none", mixup=0) is None
    with pytest.raises(ValueError, match="augmentation: expected one of none, flip_crop"):
        image_augmentation(splits, augmentation="crop")


@pytest.mark.parametrize(("side", "padding"), [(32, 4), (64, 8), (28, 3), (8, 1)])
def test_the_padding_is_an_eighth_of_the_side(side: int, padding: int):
    splits = replace(image_splits("digits"), height=side, width=side)
    augment: Any = image_augmentation(splits, augmentation="flip_crop")
    assert augment.flip_crop.padding == padding
    assert augment.mixup is None


def test_images_that_are_cropped_where_they_are_read_are_not_cropped_again():
    splits = replace(image_splits("digits"), crops_when_read=True)
    assert image_augmentation(splits, augmentation="flip_crop") is None
    augment: Any = image_augmentation(splits, augmentation="flip_crop", mixup=0.2)
    assert augment.flip_crop is None
    assert augment.mixup == Mixup(0.2, 10)


def test_a_batch_is_cropped_first_and_then_mixed():
    splits = image_splits("digits")
    augment = present(image_augmentation(splits, augmentation="flip_crop", mixup=0.3))
    inputs, labels = (
        torch.stack(column) for column in zip(*(splits.splits["train"][n] for n in range(6)), strict=True)
    )
    made = augment([inputs, labels], generator(2))
    source = generator(2)
    cropped = FlipCrop(splits.mean, 1)(inputs, source)
    expected = Mixup(0.3, 10)(cropped, labels, source)
    assert all(torch.equal(one, other) for one, other in zip(made, expected, strict=True))


@pytest.mark.parametrize("name", ["cross_entropy", "mse"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_loss_of_targets_is_the_mixture_of_the_losses_of_labels_where_it_is_linear(name: str, smoothing: float):
    loss, scores = LabelLoss(name, smoothing), torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double()
    model, inputs = nn.Identity(), scores
    one, other = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 1, 0, 2, 3])
    certain = nn.functional.one_hot(one, 4).double()
    assert torch.allclose(loss(model, [inputs, certain]), loss(model, [inputs, one]))
    targets = 0.3 * certain + 0.7 * nn.functional.one_hot(other, 4)
    if name == "cross_entropy":
        expected = 0.3 * loss(model, [inputs, one]) + 0.7 * loss(model, [inputs, other])
    else:
        smoothed = (1 - smoothing) * targets + smoothing / 4
        expected = torch.stack(
            [0.5 * (row - target).pow(2).sum() for row, target in zip(scores, smoothed, strict=True)]
        )
    assert torch.allclose(loss(model, [inputs, targets]), expected)


def test_a_loss_of_targets_works_in_half_precision():
    scores, targets = torch.zeros(4, 3).bfloat16(), torch.full((4, 3), 1 / 3)
    for name in ("cross_entropy", "mse"):
        assert LabelLoss(name)(nn.Identity(), [scores, targets]).shape == (4,)


def test_image_classification_has_both_rates_and_the_baseline_of_its_labels():
    splits = image_splits("digits")
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    workload = image_classification(model, splits, label_smoothing=0.1, mixup=0.2)
    inputs, labels = (
        torch.stack(column) for column in zip(*(splits.splits["train"][n] for n in range(6)), strict=True)
    )
    metrics = present(workload.metrics)(model, [inputs, labels])
    assert set(metrics) == {"accuracy", "error_rate"}
    assert torch.equal(metrics["accuracy"] + metrics["error_rate"], torch.ones(6))
    assert workload.baseline_loss == LabelLoss("cross_entropy", 0.1).of_best_constant(splits.label_shares)
    assert workload.augment is not None
    assert image_classification(model, splits).augment is None
