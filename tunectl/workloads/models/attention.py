"""Attention with several heads, and the keys and values that decoding keeps from one token to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KeysAndValues = tuple[Tensor, Tensor]
"""Of each head: shape [B, heads, K, size / heads] both."""


@dataclass(slots=True)
class LayerCache:
    """What a layer keeps while a text is decoded token by token: of its own tokens, and of the source text."""

    own: KeysAndValues | None = None
    source: KeysAndValues | None = None

    def reorder(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order; `rows` has shape [B]."""
        if self.own is not None:
            self.own = (self.own[0].index_select(0, rows), self.own[1].index_select(0, rows))
        if self.source is not None:
            self.source = (self.source[0].index_select(0, rows), self.source[1].index_select(0, rows))


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, "Attention is all you need", section 3.2).

    Four matrices of shape [size, size] without biases, as in the code of Gilmer et al. (google/init2winit). `dropout`
    drops attention weights. torch's scaled_dot_product_attention chooses the kernel; where second derivatives are
    wanted, the caller must choose the one of plain matrix products.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.value = nn.Linear(size, size, bias=False)
        self.output = nn.Linear(size, size, bias=False)

    def keys_and_values(self, x: Tensor) -> KeysAndValues:
        """Those of the tokens x, shape [B, K, size]."""
        return self._by_head(self.key(x)), self._by_head(self.value(x))

    def forward(self, x: Tensor, attended: KeysAndValues, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """What each token of x, shape [B, Q, size], reads from the attended ones.

        `mask`, shape [B, 1, 1, K], is true where a token may be read. `causal`: token i reads the tokens 0 to i.
        """
        keys, values = attended
        read = F.scaled_dot_product_attention(
            self._by_head(self.query(x)),
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        found: Tensor = self.output(read.transpose(1, 2).flatten(2))  # [B, Q, heads, size / heads] -> [B, Q, size]
        return found

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class SelfAttention(nn.Module):
    """Attention of the tokens to each other, with dropout at its end."""

    def __init__(self, size: int, heads: int, *, causal: bool, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.causal = causal
        self.attention = Attention(size, heads, attention_dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: LayerCache | None = None) -> Tensor:
        """`x` has shape [B, T, size]; with a cache T is 1, and the tokens before it are in the cache."""
        attended = self.attention.keys_and_values(x)
        if cache is not None:
            if cache.own is not None:
                attended = (torch.cat([cache.own[0], attended[0]], 2), torch.cat([cache.own[1], attended[1]], 2))
            cache.own = attended
        found: Tensor = self.dropout(self.attention(x, attended, mask, self.causal and cache is None))
        return found


class SourceAttention(nn.Module):
    """Attention of the tokens to those of an encoded source text, with dropout at its end."""

    def __init__(self, size: int, heads: int, *, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(size, heads, attention_dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, source: Tensor, source_mask: Tensor, cache: LayerCache | None = None) -> Tensor:
        """`x` has shape [B, T, size], source [B, S, size], source_mask [B, 1, 1, S]."""
        attended = None if cache is None else cache.source
        if attended is None:
            attended = self.attention.keys_and_values(source)
        if cache is not None:
            cache.source = attended
        found: Tensor = self.dropout(self.attention(x, attended, source_mask))
        return found
