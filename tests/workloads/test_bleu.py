"""BLEU from the means of a split, against sacrebleu's corpus score. Tests bleu.py."""

from __future__ import annotations

import math
import random
import sys

import pytest
import torch
from sacrebleu.metrics.bleu import BLEU
from transformer_shapes import shape_of

from tunectl.core.errors import WorkloadError
from tunectl.training.averages import Averages
from tunectl.workloads.bleu import BleuMetrics, counts, with_bleu
from tunectl.workloads.data.parallel_text import TextList
from tunectl.workloads.data.text_tokenizers import ByteTokenizer
from tunectl.workloads.models.decoding import translations
from tunectl.workloads.models.transformer import Translator

_WORDS = ["the", "cat", "U.S.", "3.5", "foo-bar", "it's", "größer", ",", ".", "&amp;", "<skipped>", "東京"]


def _texts(rng: random.Random, sizes: range) -> tuple[list[str], list[str]]:
    references = [" ".join(rng.choices(_WORDS, k=rng.choice(sizes))) for _ in range(rng.randint(1, 30))]
    texts = [
        " ".join(word if rng.random() < 0.8 else rng.choice(_WORDS) for word in reference.split()[: rng.choice(sizes)])
        for reference in references
    ]
    return texts, references


def _means(texts: list[str], references: list[str], batch: int) -> dict[str, float]:
    averages = Averages()
    for first in range(0, len(texts), batch):
        for name, (values, weights) in counts(texts[first : first + batch], references[first : first + batch]).items():
            averages.add(name, values, weights)
    return averages.means()


@pytest.mark.parametrize("sizes", [range(4), range(12), range(5, 40)])
def test_it_is_sacrebleu_s_corpus_score_whatever_the_batches(sizes):
    rng = random.Random(0)
    compared = 0
    for _ in range(15):
        texts, references = _texts(rng, sizes)
        found = with_bleu(_means(texts, references, rng.randint(1, 8)))["bleu"]
        assert found == pytest.approx(BLEU(smooth_method="none").corpus_score(texts, [references]).score, abs=1e-6)
        default = BLEU().corpus_score(texts, [references])
        if all(default.counts):
            assert found == pytest.approx(default.score, abs=1e-6)
            compared += 1
    assert compared > (0 if max(sizes) < 4 else 8)


def test_where_no_four_words_are_right_it_is_zero_and_not_a_smoothed_number():
    texts, references = ["the cat , 3.5"], ["the cat , it's"]
    assert BLEU().corpus_score(texts, [references]).score > 0
    assert with_bleu(_means(texts, references, 1)) == {"bleu": 0.0}


def test_empty_translations_have_zero():
    assert with_bleu(_means(["", ""], ["the cat", "it's 3.5"], 1)) == {"bleu": 0.0}


def test_the_translations_of_a_model_are_compared_with_the_texts_of_the_file():
    torch.manual_seed(0)
    model = Translator(257, 257, shape_of(max_length=12), shared_embeddings=False).eval()
    references = TextList(["größer als 3.5", "the cat"])
    source = torch.tensor([[97, 98, 256], [99, 256, -1]])
    batch = [source, torch.zeros(2, 2, dtype=torch.int16), torch.tensor([1, 0])]
    with torch.no_grad():
        metrics = BleuMetrics(ByteTokenizer(), references, boundary=256, max_length=12, beam_size=1)(model, batch)
        tokens = translations(model, source, boundary=256, max_length=12)
    expected = counts([bytes(row).decode("utf-8", "replace") for row in tokens], ["the cat", "größer als 3.5"])
    for name, (values, weights) in expected.items():
        assert torch.equal(metrics[name][0], values)
        assert torch.equal(metrics[name][1], weights)
    assert metrics["bleu_reference_length"][0].tolist() == [2, 3]
    assert not any(math.isnan(value) for value in with_bleu(_means(["a"], ["a"], 1)).values())


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(WorkloadError, match=r"sacrebleu, which is not installed: pip install .*\[text\]"):
        counts(["a"], ["a"])
