"""Shapes of tiny Transformers."""

from __future__ import annotations

from typing import Any

from tunectl.workloads.models.transformer import TransformerShape


def shape_of(**changes: Any) -> TransformerShape:
    """A Transformer of two layers of 8 numbers, with these changes."""
    parts: dict[str, Any] = {
        "num_layers": 2,
        "size": 8,
        "num_heads": 2,
        "mlp_size": 12,
        "max_length": 16,
        "activation": "relu",
        "norm_placement": "pre",
        "init": "lecun_normal",
        "init_scale": 1.0,
        "positions": "sinusoidal",
        "tied_embeddings": False,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "embedding_dropout": 0.0,
    }
    return TransformerShape(**(parts | changes))
