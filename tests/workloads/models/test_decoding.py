"""Translations from scores: greedy and by beam search, against every text written out. Tests decoding.py."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from transformer_shapes import shape_of

from tunectl.workloads.models.decoding import LENGTH_POWER, translations
from tunectl.workloads.models.transformer import Translator

_WORDS, _BOUNDARY, _LONGEST = 4, 3, 3


def _translator(seed: int = 0) -> Translator:
    torch.manual_seed(seed)
    # A larger scale, so that the likeliest tokens differ from place to place and from source to source.
    return Translator(_WORDS, _WORDS, shape_of(init_scale=1.5), shared_embeddings=False).eval()


def _sources() -> Tensor:
    return torch.tensor([[0, 1, 2, 3], [2, 3, -1, -1], [1, 1, 3, -1], [2, 0, 0, 3], [0, 3, -1, -1]])


def _log_probability(model: Translator, source: Tensor, text: list[int], *, ended: bool) -> float:
    """Of a text, by the whole model at once and without a cache; `ended`: with the boundary after it."""
    inputs = torch.tensor([[_BOUNDARY, *text]])
    scores = model(source[source >= 0][None], inputs).log_softmax(2)[0]
    following = [*text, _BOUNDARY] if ended else text
    return sum(scores[place, token].item() for place, token in enumerate(following))


@pytest.mark.parametrize("seed", range(2))
def test_greedy_takes_the_likeliest_token_at_each_place(seed):
    model = _translator(seed)
    with torch.no_grad():
        found = translations(model, _sources(), boundary=_BOUNDARY, max_length=_LONGEST)
        for source, text in zip(_sources(), found, strict=True):
            expected: list[int] = []
            while len(expected) < _LONGEST:
                scores = model(source[source >= 0][None], torch.tensor([[_BOUNDARY, *expected]]))
                token = int(scores[0, -1].argmax())
                if token == _BOUNDARY:
                    break
                expected.append(token)
            assert text == expected


@pytest.mark.parametrize("seed", range(2))
def test_a_beam_that_holds_every_beginning_finds_the_best_of_all_texts(seed):
    # All 9 beginnings of two words are kept.
    model = _translator(seed)
    words = [token for token in range(_WORDS) if token != _BOUNDARY]
    texts = [list(text) for length in range(_LONGEST) for text in product(words, repeat=length)]
    with torch.no_grad():
        found = translations(model, _sources(), boundary=_BOUNDARY, max_length=_LONGEST, beam_size=9)
        for source, text in zip(_sources(), found, strict=True):
            quality = {
                tuple(each): _log_probability(model, source, each, ended=True)
                / ((5 + len(each) + 1) / 6) ** LENGTH_POWER
                for each in texts
            }
            assert quality[tuple(text)] == pytest.approx(max(quality.values()), abs=1e-5)


def test_a_beam_of_one_row_is_not_changed_by_the_others_in_its_batch():
    model, sources = _translator(), _sources()
    with torch.no_grad():
        together = translations(model, sources, boundary=_BOUNDARY, max_length=_LONGEST, beam_size=2)
        alone = [
            translations(model, row[row >= 0][None], boundary=_BOUNDARY, max_length=_LONGEST, beam_size=2)[0]
            for row in sources
        ]
    assert together == alone


class _Planned(Translator):
    """Scores that do not depend on weights: from the last token to the next, with these probabilities."""

    def __init__(self, table: list[list[float]]) -> None:
        super().__init__(_WORDS, _WORDS, shape_of(), shared_embeddings=False)
        self.table = torch.tensor(table).log()

    def decode(self, tokens: Tensor, *_: object, **__: object) -> Tensor:
        return self.table[tokens]


def test_a_beam_finds_what_greedy_misses_on_a_model_made_by_hand():
    # From the boundary 3: token 0 is likelier (0.6), but all that follows it is unlikely; after 1 the end is sure.
    table = [[0.3, 0.25, 0.25, 0.2], [0.0, 0.0, 0.0, 1.0], [0.25] * 4, [0.6, 0.4, 0.0, 0.0]]
    model, source = _Planned(table), torch.tensor([[0, 3]])
    with torch.no_grad():
        assert translations(model, source, boundary=3, max_length=3) == [[0, 0, 0]]
        assert translations(model, source, boundary=3, max_length=3, beam_size=2) == [[1]]


def test_where_no_text_ends_the_likeliest_beginning_is_given():
    table = [[0.1, 0.9, 0.0, 0.0], [0.2, 0.8, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.5, 0.4, 0.1, 0.0]]
    with torch.no_grad():
        found = translations(_Planned(table), torch.tensor([[0, 3]]), boundary=3, max_length=3, beam_size=2)
    assert found == [[0, 1, 1]]
    assert math.prod((0.5, 0.9, 0.8)) > math.prod((0.4, 0.8, 0.8))
