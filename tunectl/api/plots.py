"""A plot of a study, which notebooks show."""

from __future__ import annotations

import base64
import copy
import html
import json
import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from tunectl.core.errors import TunectlError, UsageError
from tunectl.core.files import write_if_changed
from tunectl.core.path_errors import path_errors
from tunectl.report.single_plot import Picture, picture

# As Altair has them. JupyterLab draws what it knows; its versions before 4.5 know Vega-Lite 5, of which our plots are.
_VEGA_LITE = {
    "application/vnd.vegalite.v6.json": "https://vega.github.io/schema/vega-lite/v6.json",
    "application/vnd.vegalite.v5.json": "https://vega.github.io/schema/vega-lite/v5.json",
}


class Plot:
    """A plot of the page: shown by Jupyter where it is the last value of a cell, and saved by `save`.

    A notebook that knows Vega-Lite draws it, with tooltips; others show the picture. Neither needs a network.
    """

    def __init__(self, name: str, definition: dict[str, Any]) -> None:
        self._name = name
        self._definition = definition

    def __repr__(self) -> str:
        return f"<plot {self._name}>"

    def to_dict(self) -> dict[str, Any]:
        """The definition of the plot in Vega-Lite, with its data inside."""
        return copy.deepcopy(self._definition)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plot as `.svg`, `.png` or `.json` (Vega-Lite), by the end of the path."""
        file = Path(path)
        match file.suffix.lower():
            case ".svg":
                content = self._picture.svg
            case ".png":
                content = self._picture.png
            case ".json":
                content = json.dumps(self._definition, indent=2).encode()
            case other:
                raise UsageError(f"{file}: expected the end .svg, .png or .json, got {other!r}")
        with path_errors(file, "written"):
            write_if_changed(file, content)

    @cached_property
    def _picture(self) -> Picture:
        return picture(self._definition)

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        bundle: dict[str, Any] = {kind: {**self._definition, "$schema": schema} for kind, schema in _VEGA_LITE.items()}
        if (include is None or "text/html" in include) and "text/html" not in (exclude or ()):
            try:
                shown = base64.b64encode(self._picture.svg).decode()
                alt = html.escape(f"plot of {self._name}")
                bundle["text/html"] = f'<img src="data:image/svg+xml;base64,{shown}" alt="{alt}">'
            except TunectlError:
                pass  # where the library that draws does not start: the notebook still has the definition
        bundle["text/plain"] = repr(self)
        wanted = bundle.keys() if include is None else set(include)
        return {kind: content for kind, content in bundle.items() if kind in wanted and kind not in (exclude or ())}
