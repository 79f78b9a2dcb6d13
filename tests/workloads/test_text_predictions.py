"""What the built-in workloads predict for examples. Tests classification.py and text_predictions.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from narrowing import present
from torch import Tensor, nn
from torch.utils.data import default_collate

from tunectl.training.collation import drawn
from tunectl.training.prediction_values import checked_values, kept_values
from tunectl.training.seeds import Purpose, sequence
from tunectl.workloads import digits, images, mnist1d
from tunectl.workloads.classification import LabelPredictions
from tunectl.workloads.data.text_tokenizers import ByteTokenizer
from tunectl.workloads.text import transformer_lm, transformer_nmt
from tunectl.workloads.text_predictions import Continuations, decoded
from tunectl.workloads.workload import Workload

TINY: dict[str, Any] = {"num_layers": 1, "embedding_size": 8, "num_heads": 2, "mlp_size": 8, "sequence_length": 80}
BOUNDARY = ByteTokenizer.size


def predictions(workload: Workload, examples: list[int]) -> dict[str, Any]:
    batch = drawn(workload.data["valid"], examples, sequence(0, Purpose.EVALUATION), default_collate)
    with torch.no_grad():
        return checked_values(present(workload.predict)(workload.model.eval(), batch), len(examples))


@pytest.mark.parametrize("factory", [digits.mlp, digits.cnn, mnist1d.mlp, images.wide_resnet])
def test_classifiers_give_the_input_the_label_and_the_class_with_its_probability(factory):
    workload = factory(depth=10, widen=1) if factory is images.wide_resnet else factory()
    found = predictions(workload, [4, 0, 9])
    inputs, labels = default_collate([workload.data["valid"][index] for index in (4, 0, 9)])
    with torch.no_grad():
        probabilities = workload.model(inputs).softmax(dim=1)
    assert torch.equal(found["input"], inputs)
    assert torch.equal(found["target"], labels)
    assert torch.equal(found["prediction"], probabilities.argmax(dim=1))
    torch.testing.assert_close(found["probability"], probabilities.max(dim=1).values)
    kept = kept_values(found, 0)["input"]
    assert ("array" if factory is mnist1d.mlp else "image") in kept


def test_scores_with_a_nan_predict_no_class_and_a_squared_error_gives_no_probability():
    class Scores(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs

    scores = torch.tensor([[1.0, 3.0, 2.0], [1.0, float("nan"), 0.0]])
    found = LabelPredictions(are_logits=False)(Scores(), [scores, torch.tensor([1, 1])])
    assert found["prediction"].tolist() == [1, -1]
    assert "probability" not in found
    assert found["score"][0] == 3
    assert "score" in predictions(digits.mlp(loss="mse"), [0])


class NextLetter(nn.Module):
    """Predicts for each token the next one of the alphabet; its input must have no padding before a token."""

    def forward(self, tokens: Tensor) -> Tensor:
        return nn.functional.one_hot((tokens.clamp(min=0) + 1) % BOUNDARY, BOUNDARY + 1).float()


def test_a_language_model_continues_the_first_half_of_each_text_whatever_its_length():
    rows = [[BOUNDARY, *b"abcdxyz"], [BOUNDARY, *b"mno", -1, -1, -1, -1], [BOUNDARY, *b"q", *[-1] * 6]]
    found = Continuations(ByteTokenizer())(NextLetter(), [torch.tensor(rows, dtype=torch.int16)])
    assert found["input"] == ["\nabc", "\nm", "\n"]
    assert found["target"] == ["dxyz", "no", "q"]
    # After a boundary comes the token 1: the boundary is the 257th token.
    assert found["prediction"] == ["defg", "no", "\x01"]


def test_a_text_is_decoded_without_its_padding_and_with_new_lines_between_texts():
    assert decoded(ByteTokenizer(), [BOUNDARY, *"né".encode(), BOUNDARY, *b"b", -1, -1]) == "\nné\nb"
    assert decoded(ByteTokenizer(), []) == ""


@pytest.mark.parametrize("examples", ["windows", "lines"])
def test_the_parts_of_a_text_join_to_it_and_continuations_are_as_long_as_what_follows(examples):
    workload = transformer_lm(examples=examples, **TINY)
    found = predictions(workload, [3, 1])
    batch = drawn(workload.data["valid"], [3, 1], sequence(0, Purpose.EVALUATION), default_collate)
    for row, start, rest, written in zip(
        batch[0].tolist(), found["input"], found["target"], found["prediction"], strict=True
    ):
        assert start + rest == decoded(ByteTokenizer(), row)
        assert 0 < len(rest.encode()) <= 40
        assert written


def test_a_translator_gives_its_translation_beside_the_one_in_the_data():
    workload = transformer_nmt(**TINY)
    found = predictions(workload, [0, 5])
    source, target = workload.data["valid"][0][:2]
    assert found["input"][0] == decoded(ByteTokenizer(), source.tolist()).strip("\n")
    assert found["target"][0] == decoded(ByteTokenizer(), target.tolist()).strip("\n")
    assert len(found["prediction"]) == 2
