"""What the transformers write for an example, as text: the continuation of its first half, or its translation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from tunectl.workloads.data.text_data import PADDING
from tunectl.workloads.data.text_tokenizers import Tokenizer
from tunectl.workloads.models.decoding import translations
from tunectl.workloads.models.transformer import Translator

MOST_CONTINUED = 64
"""The largest number of tokens that a text is continued by: each takes a pass over the text before it."""


def decoded(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """The text of tokens without padding, which is negative; the boundary between texts is a new line."""
    parts: Iterator[str] = (
        tokenizer.decode(list(run)) if is_text else "\n" * len(list(run))
        for is_text, run in groupby((token for token in tokens if token >= 0), lambda token: token < tokenizer.size)
    )
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Continuations:
    """Called as `predict(model, batch)` of a language model: `input` is the first half of a text, `target` what follows
    in the text, `prediction` what the model writes in its place, the likeliest token each time.
    """

    tokenizer: Tokenizer

    def __call__(self, model: nn.Module, batch: list[Tensor]) -> dict[str, list[str]]:
        """The texts of each example. Tokens have the shape [B, T + 1]; padding is negative, at the end of a row."""
        tokens = batch[0].long()
        lengths = (tokens >= 0).sum(dim=1)  # [B]
        continued = (lengths // 2).clamp(max=MOST_CONTINUED)
        known = lengths - continued
        places = torch.arange(tokens.shape[1], device=tokens.device)
        found = torch.where(places < known[:, None], tokens, PADDING)
        rows = torch.arange(len(tokens), device=tokens.device)
        for number in range(int(continued.max())):
            ends = torch.minimum(known + number, lengths - 1)
            scores = model(found[:, : int(ends.max())])[rows, ends - 1]  # [B, vocabulary]
            goes_on = number < continued
            found[rows[goes_on], ends[goes_on]] = scores.argmax(dim=1)[goes_on]
        texts: dict[str, list[str]] = {"input": [], "target": [], "prediction": []}
        for row, written, first in zip(tokens.tolist(), found.tolist(), known.tolist(), strict=True):
            texts["input"].append(decoded(self.tokenizer, row[:first]))
            texts["target"].append(decoded(self.tokenizer, row[first:]))
            texts["prediction"].append(decoded(self.tokenizer, written[first:]))
        return texts


@dataclass(frozen=True, slots=True)
class Translations:
    """Called as `predict(model, batch)` of a translator: `input` is the text, `target` its translation in the data, and
    `prediction` the model's, the likeliest token each time.
    """

    tokenizer: Tokenizer
    boundary: int
    max_length: int

    def __call__(self, model: Translator, batch: list[Tensor]) -> dict[str, list[str]]:
        """The texts of each example, of source tokens, shape [B, S], and target tokens, shape [B, T + 1]."""
        source, target = batch[:2]
        written = translations(model, source, boundary=self.boundary, max_length=self.max_length)
        texts = {"input": source.tolist(), "target": target.tolist(), "prediction": written}
        return {name: [decoded(self.tokenizer, row).strip("\n") for row in rows] for name, rows in texts.items()}
