"""BLEU of the translations that a model gives, by sacrebleu."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunectl.core.errors import WorkloadError
from tunectl.core.installation import install_command
from tunectl.workloads.data.parallel_text import TextList
from tunectl.workloads.data.text_tokenizers import Tokenizer
from tunectl.workloads.models.decoding import translations
from tunectl.workloads.models.transformer import Translator

_ORDERS = (1, 2, 3, 4)
_UNIT = 1e-9
_PRECISION, _LENGTH, _REFERENCE_LENGTH = "bleu_precision", "bleu_length", "bleu_reference_length"


def load_sacrebleu() -> Any:
    """The class BLEU of sacrebleu; raises WorkloadError where it is not installed."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise WorkloadError(
            f"bleu: true needs the library sacrebleu, which is not installed: {install_command('text')}"
        ) from error
    return BLEU


@dataclass(frozen=True, slots=True)
class BleuMetrics:
    """Translates the sources of a batch and counts the words of 1 to 4 that the references have too.

    `bleu_precision_n` are the shares of correct n-grams, `bleu_length` and `bleu_reference_length` the mean words of a
    translation and its reference, all as sacrebleu counts them (one reference, its default tokenizer). With these means
    of a split `with_bleu` gives BLEU.
    """

    tokenizer: Tokenizer
    references: TextList
    boundary: int
    max_length: int
    beam_size: int

    def __call__(self, model: Translator, batch: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """The counts of a batch as metrics: (values, weights), shape [B] both."""
        source, _, numbers = batch
        tokens = translations(
            model, source, boundary=self.boundary, max_length=self.max_length, beam_size=self.beam_size
        )
        texts = [self.tokenizer.decode(row) for row in tokens]
        return counts(texts, [self.references[number] for number in numbers.tolist()])


def counts(texts: Sequence[str], references: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """The metrics of BleuMetrics for these texts, one an example, in double precision."""
    bleu = load_sacrebleu()(effective_order=True)
    scores = [bleu.sentence_score(text, [reference]) for text, reference in zip(texts, references, strict=True)]
    ones = torch.ones(len(texts), dtype=torch.float64)
    found = {
        _LENGTH: (_numbers([score.sys_len for score in scores]), ones),
        _REFERENCE_LENGTH: (_numbers([score.ref_len for score in scores]), ones),
    }
    for order in _ORDERS:
        correct = _numbers([score.counts[order - 1] for score in scores])
        total = _numbers([score.totals[order - 1] for score in scores])
        found[f"{_PRECISION}_{order}"] = (correct / total.clamp(min=1), total)
    return found


def _numbers(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def with_bleu(means: Mapping[str, float]) -> dict[str, float]:
    """`bleu`, from 0 to 100, from the means of `counts` over a split: that of the split as one corpus.

    It is sacrebleu's corpus score without smoothing, so 0 where no four words in a row are right. (Its default
    smoothing, exp, changes a corpus score only there, by an amount that depends on the number of words.)
    """
    precisions = [means[f"{_PRECISION}_{order}"] for order in _ORDERS]
    known = [0.0 if math.isnan(precision) else precision for precision in precisions]
    score = load_sacrebleu().compute_bleu(
        correct=known,
        total=[0 if math.isnan(precision) else 1 for precision in precisions],
        # In units of 1e-9 words, since sacrebleu prints whole numbers; only their ratio counts.
        sys_len=round(means[_LENGTH] / _UNIT),
        ref_len=round(means[_REFERENCE_LENGTH] / _UNIT),
        smooth_method="none",
    )
    return {"bleu": float(score.score)}
