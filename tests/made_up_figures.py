"""What tests of figures share: how to find the layers of a definition."""

from __future__ import annotations


def layers_with(definition, mark):
    """The layers of this mark, each with its rows under "rows"."""
    return [
        {**layer, "rows": layer["data"]["values"]} for layer in definition["layer"] if layer["mark"]["type"] == mark
    ]
