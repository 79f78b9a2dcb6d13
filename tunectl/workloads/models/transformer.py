"""Transformers: a language model, and an encoder with a decoder for translation.

Sizes as in Gilmer et al. (arXiv 2110.04369, appendix D); details that it does not give are those of its code
(google/init2winit, transformer_lm.py and xformer_translate.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunectl.workloads.keyword_checks import check_choice, check_count, check_flag, check_positive, check_share
from tunectl.workloads.models.attention import LayerCache, SelfAttention, SourceAttention
from tunectl.workloads.models.initial_weights import INITS, initialize
from tunectl.workloads.models.residual_branches import NORM_PLACEMENTS, ResidualSum
from tunectl.workloads.networks import ACTIVATIONS

TRANSFORMER_INITS = (*INITS, "rezero")
"""The initialisations by their names in a study: see `initialize`. (Fixup is made for networks of convolutions.)"""

POSITIONS = ("sinusoidal", "learned")
"""The encodings of positions by their names in a study."""

NORM_EPSILON = 1e-6
"""What a layer normalization adds to the variance: flax's, with which the paper's models were trained."""

_NORMALIZED_READERS = ("pre", "sandwich")
_LONGEST_WAVE = 10_000.0


@dataclass(frozen=True, slots=True)
class TransformerShape:
    """The sizes and parts of a Transformer; the meaning of each is in `text.transformer_lm`.

    `max_length` is the number of positions. Raises ValueError where a value is outside its range, or a name unknown.
    """

    num_layers: int
    size: int
    num_heads: int
    mlp_size: int
    max_length: int
    activation: str
    norm_placement: str
    init: str
    init_scale: float
    positions: str
    tied_embeddings: bool
    dropout: float
    attention_dropout: float
    embedding_dropout: float

    def __post_init__(self) -> None:
        check_count("num_layers", self.num_layers, 1)
        for name, value in (("num_heads", self.num_heads), ("mlp_size", self.mlp_size), ("embedding_size", self.size)):
            check_count(name, value, 1)
        if self.size % self.num_heads:
            raise ValueError(f"embedding_size: expected a multiple of num_heads, {self.num_heads}, got {self.size}")
        check_count("sequence_length", self.max_length, 1)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("norm_placement", self.norm_placement, NORM_PLACEMENTS)
        check_choice("init", self.init, TRANSFORMER_INITS)
        check_positive("init_scale", self.init_scale)
        check_choice("positions", self.positions, POSITIONS)
        check_flag("tied_embeddings", self.tied_embeddings)
        for name in ("dropout", "attention_dropout", "embedding_dropout"):
            check_share(name, getattr(self, name))


class Embedding(nn.Module):
    """Vectors of tokens plus those of their positions, with dropout.

    The vectors of tokens are not scaled. Position t has sines and cosines of t / 10000^(2i / size) (Vaswani et al.
    2017, section 3.5), or a learnt vector.
    """

    def __init__(self, vocabulary: int, shape: TransformerShape, tokens: nn.Embedding | None = None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, shape.size) if tokens is None else tokens
        self.dropout = nn.Dropout(shape.embedding_dropout)
        if shape.positions == "learned":
            self.positions = nn.Parameter(torch.empty(shape.max_length, shape.size))
        else:
            self.register_buffer("positions", sinusoids(shape.max_length, shape.size), persistent=False)

    def forward(self, tokens: Tensor, first: int = 0) -> Tensor:
        """The vectors, shape [B, T, size], of tokens, shape [B, T]; the first is at position `first`.

        Padding, which is negative, gets those of token 0: nothing reads them.
        """
        vectors = self.tokens(tokens.clamp(min=0).long())
        found: Tensor = self.dropout(vectors + self.positions[first : first + tokens.shape[1]])
        return found


def sinusoids(length: int, size: int) -> Tensor:
    """The sines (even columns) and cosines (odd ones) of positions 0 to length - 1, shape [length, size]."""
    waves = torch.exp(torch.arange(0, size, 2) * (-math.log(_LONGEST_WAVE) / size))  # [ceil(size / 2)]
    angles = torch.arange(length)[:, None] * waves
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :size]


class Mlp(nn.Sequential):
    """Two matrices with biases and an activation between them, each with dropout after it."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__(
            nn.Linear(shape.size, shape.mlp_size),
            ACTIVATIONS[shape.activation](),
            nn.Dropout(shape.dropout),
            nn.Linear(shape.mlp_size, shape.size),
            nn.Dropout(shape.dropout),
        )


class Branch(nn.Module):
    """The sum of x and its residual branch, whose layers are the function f of `ResidualSum`."""

    def __init__(self, function: nn.Module, shape: TransformerShape) -> None:
        super().__init__()
        self.function = function
        self.sum = ResidualSum(shape.norm_placement, shape.size, shape.size, norm=_norm, init=shape.init, plain=True)

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        """`x` has shape [B, T, size]; `others` are given to the function after it."""
        return self.sum.join(x, self.function(self.sum.enter(x), *others))


class Layer(nn.Module):
    """A layer: attention of the tokens to each other, where there is a source attention to it, and an MLP.

    Each is the function f of a residual branch.
    """

    def __init__(self, shape: TransformerShape, *, causal: bool, reads_source: bool) -> None:
        super().__init__()
        drops = {"attention_dropout": shape.attention_dropout, "dropout": shape.dropout}
        self.own = Branch(SelfAttention(shape.size, shape.num_heads, causal=causal, **drops), shape)
        self.source = Branch(SourceAttention(shape.size, shape.num_heads, **drops), shape) if reads_source else None
        self.mlp = Branch(Mlp(shape), shape)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """`x` has shape [B, T, size]; `mask`, shape [B, 1, 1, T], is false for padding; the source is as in
        SourceAttention.
        """
        x = self.own(x, mask, cache)
        if self.source is not None:
            x = self.source(x, source, source_mask, cache)
        found: Tensor = self.mlp(x)
        return found


def _norm(size: int) -> nn.Module:
    return nn.LayerNorm(size, eps=NORM_EPSILON)


def _last_norm(shape: TransformerShape) -> nn.Module:
    """A normalization after the last layer where every branch begins with one (pre and sandwich), else none.

    There each reader of the sums normalizes what it reads; this one does so for the output. (The paper's code has it
    with pre and not with post; it has no sandwich.)
    """
    return _norm(shape.size) if shape.norm_placement in _NORMALIZED_READERS else nn.Identity()


def _initialize(model: nn.Module, shape: TransformerShape) -> None:
    """Embeddings are N(0, 1), as in the paper's code; the rest as `initialize` does it."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, Embedding) and isinstance(module.positions, nn.Parameter):
            nn.init.normal_(module.positions)
    initialize(model, shape.init, shape.init_scale)


class Scores(nn.Module):
    """The scores of all tokens of the vocabulary, by a matrix with a bias, or by the vectors of an embedding.

    Tied scores are divided by sqrt(size), since the vectors have elements of variance 1 (as in the paper's code).
    """

    def __init__(self, vocabulary: int, shape: TransformerShape, tied: nn.Embedding | None) -> None:
        super().__init__()
        self.matrix = nn.Linear(shape.size, vocabulary) if tied is None else None
        self.tied = tied
        self.scale = 1.0 / math.sqrt(shape.size)

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, T, vocabulary] for x of shape [B, T, size]."""
        if self.matrix is not None:
            found: Tensor = self.matrix(x)
            return found
        assert self.tied is not None
        return nn.functional.linear(x * self.scale, self.tied.weight)


class TransformerLM(nn.Module):
    """A language model: scores for each next token, from the tokens up to it."""

    def __init__(self, vocabulary: int, shape: TransformerShape) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, shape)
        self.layers = nn.ModuleList(Layer(shape, causal=True, reads_source=False) for _ in range(shape.num_layers))
        self.last_norm = _last_norm(shape)
        self.scores = Scores(vocabulary, shape, self.embedding.tokens if shape.tied_embeddings else None)
        _initialize(self, shape)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores, shape [B, T, vocabulary]: row t is for the token that follows tokens 0 to t, shape [B, T].

        Padding is negative, and after all other tokens of its row.
        """
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        found: Tensor = self.scores(self.last_norm(x))
        return found


class Translator(nn.Module):
    """An encoder of a source text and a decoder that gives scores for each next token of its translation.

    `shared_embeddings`: source and target have one embedding of tokens; both vocabularies are then the same.
    """

    def __init__(
        self, source_vocabulary: int, vocabulary: int, shape: TransformerShape, *, shared_embeddings: bool
    ) -> None:
        super().__init__()
        self.source_embedding = Embedding(source_vocabulary, shape)
        self.embedding = Embedding(vocabulary, shape, self.source_embedding.tokens if shared_embeddings else None)
        self.encoder = nn.ModuleList(Layer(shape, causal=False, reads_source=False) for _ in range(shape.num_layers))
        self.encoder_norm = _last_norm(shape)
        self.decoder = nn.ModuleList(Layer(shape, causal=True, reads_source=True) for _ in range(shape.num_layers))
        self.last_norm = _last_norm(shape)
        self.scores = Scores(vocabulary, shape, self.embedding.tokens if shape.tied_embeddings else None)
        _initialize(self, shape)

    def forward(self, source: Tensor, tokens: Tensor) -> Tensor:
        """Scores, shape [B, T, vocabulary], for source, shape [B, S], and target tokens, shape [B, T].

        As in TransformerLM; padding of the source is negative and after its other tokens.
        """
        return self.decode(tokens, *self.encode(source))

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """The encoded source, shape [B, S, size], and its mask, shape [B, 1, 1, S], true where no padding is."""
        mask = (source >= 0)[:, None, None, :]
        x = self.source_embedding(source)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def decode(
        self,
        tokens: Tensor,
        source: Tensor,
        source_mask: Tensor,
        caches: Sequence[LayerCache] | None = None,
        *,
        first: int = 0,
    ) -> Tensor:
        """Scores, shape [B, T, vocabulary], from an encoded source.

        With caches, one a decoder layer, `tokens` is the token at position `first` alone, shape [B, 1]; the caches hold
        the tokens before it.
        """
        x = self.embedding(tokens, first)
        for number, layer in enumerate(self.decoder):
            x = layer(x, None, source, source_mask, None if caches is None else caches[number])
        found: Tensor = self.scores(self.last_norm(x))
        return found
