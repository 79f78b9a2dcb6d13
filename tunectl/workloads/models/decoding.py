"""Texts from a translator's scores: the likeliest token at each place, or beam search."""

from __future__ import annotations

import torch
from torch import Tensor

from tunectl.workloads.models.attention import LayerCache
from tunectl.workloads.models.transformer import Translator

LENGTH_POWER = 0.6
"""Beam search divides a log probability by ((5 + length) / 6)^0.6 (Wu et al. 2016, arXiv 1609.08144, section 7)."""


def translations(
    model: Translator, source: Tensor, *, boundary: int, max_length: int, beam_size: int = 1
) -> list[list[int]]:
    """The tokens of a translation of each source, shape [B, S], without boundaries; at most `max_length` of them.

    `beam_size` 1 takes the likeliest token at each place. A larger one keeps that many beginnings, the likeliest ones,
    and gives the text with the largest log probability for its length; one that has not ended counts only where none
    has. To be called in evaluation mode and without gradients.
    """
    encoded, mask = model.encode(source)
    if beam_size == 1:
        tokens = _greedy(model, encoded, mask, boundary=boundary, max_length=max_length)
    else:
        tokens = _beams(model, encoded, mask, boundary=boundary, max_length=max_length, beams=beam_size)
    return [_before_boundary(row, boundary) for row in tokens.tolist()]


def _before_boundary(row: list[int], boundary: int) -> list[int]:
    return row[: row.index(boundary)] if boundary in row else row


def _greedy(model: Translator, encoded: Tensor, mask: Tensor, *, boundary: int, max_length: int) -> Tensor:
    """Tokens, shape [B, T]; anything may follow a boundary."""
    caches = [LayerCache() for _ in model.decoder]
    last = torch.full((len(encoded), 1), boundary, device=encoded.device)
    ended = torch.zeros_like(last, dtype=torch.bool)
    found = [last[:, :0]]
    for place in range(max_length):
        scores = model.decode(last, encoded, mask, caches, first=place)[:, -1]  # [B, vocabulary]
        last = scores.argmax(dim=1, keepdim=True)
        found.append(last)
        ended |= last == boundary
        if bool(ended.all()):
            break
    return torch.cat(found, dim=1)


def _beams(model: Translator, encoded: Tensor, mask: Tensor, *, boundary: int, max_length: int, beams: int) -> Tensor:
    """As `_greedy`. K beginnings of each text are rows of one batch, shape [B * K]."""
    texts, device = len(encoded), encoded.device
    encoded, mask = encoded.repeat_interleave(beams, 0), mask.repeat_interleave(beams, 0)
    caches = [LayerCache() for _ in model.decoder]
    tokens = torch.full((texts * beams, 1), boundary, device=device)
    # All beginnings are equal at first: only one of each text counts.
    log_probability = torch.full((texts, beams), -torch.inf, device=device)
    log_probability[:, 0] = 0.0
    best = torch.full((texts,), -torch.inf, device=device)
    best_tokens = torch.full((texts, max_length), boundary, device=device)
    for place in range(max_length):
        scores = model.decode(tokens[:, -1:], encoded, mask, caches, first=place)[:, -1]
        values, beam, token = _extended(log_probability, scores)
        rows = (torch.arange(texts, device=device)[:, None] * beams + beam).flatten()
        longer = torch.cat([tokens[rows], token.flatten()[:, None]], dim=1).view(texts, -1, place + 2)  # [B, 2K, T]

        # Texts that end here: kept where they are the best so far.
        ends = token == boundary
        penalized = (values / ((5 + place + 1) / 6) ** LENGTH_POWER).masked_fill(~ends, -torch.inf)
        top, which = penalized.max(dim=1)
        better = top > best
        best = torch.where(better, top, best)
        ended = longer[torch.arange(texts, device=device), which, 1:]
        best_tokens[:, : place + 1] = torch.where(better[:, None], ended, best_tokens[:, : place + 1])
        best_tokens[:, place + 1 :] = torch.where(better[:, None], boundary, best_tokens[:, place + 1 :])

        # The K likeliest that go on.
        log_probability, kept = values.masked_fill(ends, -torch.inf).topk(beams, dim=1)
        tokens = longer.gather(1, kept[:, :, None].expand(-1, -1, longer.shape[2])).flatten(0, 1)
        rows = rows.view(values.shape).gather(1, kept).flatten()
        for cache in caches:
            cache.reorder(rows)
        # None of them can become better: their log probabilities only fall, and no length is divided by more.
        possible = log_probability[:, 0] / ((5 + max_length) / 6) ** LENGTH_POWER
        if bool((best >= possible).all()):
            break
    unfinished = tokens.view(texts, beams, -1)[:, 0, 1:]
    width = unfinished.shape[1]
    best_tokens[:, :width] = torch.where(best.isinf()[:, None], unfinished, best_tokens[:, :width])
    return best_tokens


def _extended(log_probability: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The 2 K likeliest of all beginnings with one more token: log probability, beginning and token, shape [B, 2 K].

    At most K of them end. `log_probability`, shape [B, K], is that of the beginnings, `scores` has shape [B * K, V].
    """
    texts, beams = log_probability.shape
    every = log_probability[:, :, None] + scores.float().log_softmax(1).view(texts, beams, -1)  # [B, K, V]
    values, chosen = every.flatten(1).topk(min(2 * beams, every[0].numel()), dim=1)
    return values, chosen // every.shape[2], chosen % every.shape[2]
