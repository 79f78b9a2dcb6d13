"""Tests prediction_values.py and png.py: what `predict` may give, and what of it is kept."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tunectl.core.errors import WorkloadError
from tunectl.training.png import png
from tunectl.training.prediction_values import checked_values, kept_values


def kept(values: Any, example: int = 0) -> Any:
    """What is kept of one value of an example."""
    return kept_values(checked_values({"v": values}, len(values)), example)["v"]


def pixels(content: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_is_read_by_others_as_the_pixels_that_it_was_made_of(channels):
    given = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    read = np.asarray(Image.open(io.BytesIO(png(given))))
    assert np.array_equal(read.reshape(5, 7, channels), given)


def test_numbers_are_kept_as_such_with_seven_digits():
    assert kept(torch.tensor([3, 4])) == 3
    assert isinstance(kept(torch.tensor([3, 4])), int)
    assert kept(torch.tensor([True, False]), 1) is False
    assert kept(torch.tensor([1 / 3], dtype=torch.float64)) == 0.3333333
    assert kept(np.array([2.5, 1.5]), 1) == 1.5
    assert kept([1, 2], 1) == 2
    assert np.isnan(kept(torch.tensor([float("nan")])))
    assert kept(torch.tensor([0.1], dtype=torch.bfloat16)) == pytest.approx(0.1, abs=1e-3)


def test_texts_and_arrays_are_cut_with_their_whole_length():
    assert kept(["é", "b"]) == "é"
    assert kept(["x" * 2001]) == {"text": "x" * 2000, "length": 2001}
    assert kept(torch.arange(12).reshape(2, 2, 3), 1) == {"array": [2, 3], "values": [6, 7, 8, 9, 10, 11]}
    long = kept(torch.zeros(1, 40, 50))
    assert (long["array"], len(long["values"])) == ([40, 50], 1000)
    assert kept(torch.zeros(1, 0)) == {"array": [0], "values": []}


def test_whole_numbers_of_one_byte_are_the_shades_of_an_image():
    given = torch.randint(0, 256, (2, 3, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = kept(given, 1)
    assert (found["image"], found["of"], "range" in found) == ([6, 4], [6, 4], False)
    assert np.array_equal(pixels(found["png"]), given[1].permute(1, 2, 0).numpy())
    mask = torch.tensor([[[[True, False], [False, True]]]])
    assert pixels(kept(mask)["png"]).tolist() == [[255, 0], [0, 255]]


def test_floats_from_0_to_1_are_black_to_white_and_others_from_their_smallest_to_their_largest():
    unit = torch.tensor([[[[0.0, 0.2], [0.4, 0.5]]]])
    assert kept(unit)["range"] == [0, 1]
    assert pixels(kept(unit)["png"]).tolist() == [[0, 51], [102, 128]]
    wide = torch.tensor([[[[-1.0, 0.0], [3.0, float("nan")]]]])
    assert kept(wide)["range"] == [-1, 3]
    assert pixels(kept(wide)["png"]).tolist() == [[0, 64], [255, 0]]
    same = torch.full((1, 1, 2, 2), 7.0)
    assert pixels(kept(same)["png"]).tolist() == [[0, 0], [0, 0]]
    assert pixels(kept(torch.full((1, 3, 1, 2), float("inf")))["png"]).tolist() == [[[0, 0, 0], [0, 0, 0]]]


def test_of_a_large_image_every_nth_pixel_is_kept():
    given = torch.arange(300, dtype=torch.float32).expand(1, 1, 200, 300) / 299
    found = kept(given)
    assert (found["image"], found["of"]) == ([100, 67], [300, 200])
    assert pixels(found["png"])[0].tolist() == [round(255 * x / 299) for x in range(0, 300, 3)]


def test_what_looks_like_an_image_but_has_other_channels_or_whole_numbers_is_an_array():
    assert "array" in kept(torch.zeros(1, 2, 4, 4))
    assert "array" in kept(torch.zeros(1, 1, 4, 4, dtype=torch.int64))
    assert "array" in kept(torch.zeros(1, 4, 4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(3), "expected a dict of values by name, got Tensor"),
        (None, "expected a dict of values by name, got NoneType"),
        ({}, "expected 1 to 20 values, got 0"),
        ({f"v{n}": torch.zeros(3) for n in range(21)}, "expected 1 to 20 values, got 21"),
        ({3: torch.zeros(3)}, "expected names as text of 1 to 100 characters, got 3"),
        ({"a": "text"}, "'a': expected one text per example, in a list of 3, got one text"),
        ({"a": ["x", "y"]}, "'a': expected one text per example, 3 in this batch, got 2"),
        ({"a": ["x", 1, "y"]}, "'a': expected only texts in a list with texts, got a int too"),
        ({"a": torch.zeros(2, 3)}, r"'a': expected one entry per example, shape \[3, ...\] for this batch, got \[2, 3"),
        ({"a": torch.tensor(1.0)}, r"shape \[3, ...\] for this batch, got \[\]"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, "expected a dense tensor of real numbers, got torch.complex64"),
        ({"a": object()}, "'a': expected a tensor or a list of texts, got a object"),
    ],
)
def test_what_is_not_one_entry_for_each_example_is_an_error_with_its_name(given, message):
    with pytest.raises(WorkloadError, match=message):
        checked_values(given, 3)
