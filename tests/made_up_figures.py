"""What tests of figures share: how to find the layers of a definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def layers_with(definition: Mapping[str, Any], mark: str) -> list[dict[str, Any]]:
    """The layers of this mark, each with its rows under "rows"."""
    return [
        {**layer, "rows": layer["data"]["values"]} for layer in definition["layer"] if layer["mark"]["type"] == mark
    ]
