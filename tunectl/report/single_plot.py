"""A plot by itself, outside of the page: one definition for all its parts, with tooltips, and its picture."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunectl.analysis.figures.figures import Figure
from tunectl.core import regular_files
from tunectl.core.errors import TunectlError
from tunectl.report.plots import vega_lite
from tunectl.report.renderer import PlotFiles, draw_all

_OF_THE_WHOLE = ("$schema", "config", "background", "padding")
_OF_EACH_PART = ("color", "shape", "size", "opacity", "strokeDash")
"""Channels with a scale, and a legend, in each part: the same colour may be another setting there."""


class Picture(NamedTuple):
    """A plot as the content of files."""

    svg: bytes
    png: bytes


def single_plot(figures: Sequence[Figure]) -> dict[str, Any]:
    """The Vega-Lite definition of the figures, of several one below the other; what is pointed at is named."""
    parts = [_with_tooltips(vega_lite(figure)) for figure in figures]
    if len(parts) == 1:
        return parts[0]
    whole: dict[str, Any] = {name: parts[0][name] for name in _OF_THE_WHOLE}
    whole |= {"vconcat": [], "params": [], "resolve": {"scale": dict.fromkeys(_OF_EACH_PART, "independent")}}
    for number, part in enumerate(parts):
        # Parameters belong to the whole, and each part has its own names for its categories.
        for parameter in part.get("params", ()):
            own = f"{parameter['name']}_{number}"
            part = _renamed(part, parameter["name"], own)
            whole["params"].append({**parameter, "name": own})
        whole["vconcat"].append({name: part[name] for name in part if name not in (*_OF_THE_WHOLE, "params")})
    return whole


def _with_tooltips(definition: dict[str, Any]) -> dict[str, Any]:
    layers = [
        {**layer, "encoding": {**layer["encoding"], "tooltip": {"field": "label", "type": "nominal"}}}
        if "encoding" in layer and any("label" in row for row in layer.get("data", {}).get("values", ()))
        else layer
        for layer in definition["layer"]
    ]
    return {**definition, "layer": layers}


def _renamed(part: Any, name: str, own: str) -> Any:
    """The same definition, in whose label expressions a parameter has another name."""
    if isinstance(part, dict):
        return {
            key: value.replace(f"{name}[", f"{own}[") if key == "labelExpr" else _renamed(value, name, own)
            for key, value in part.items()
        }
    return [_renamed(item, name, own) for item in part] if isinstance(part, list) else part


def picture(definition: dict[str, Any]) -> Picture:
    """The plot, drawn by another process, without a browser or a network; raises TunectlError where that fails."""
    with tempfile.TemporaryDirectory(prefix="tunectl-") as made:
        folder = Path(made) / "plots"
        folder.mkdir()
        svg, png = folder / "plot.svg", folder / "plot.png"
        undrawn = draw_all([PlotFiles(json.dumps(definition, sort_keys=True), str(svg), str(png))])
        if undrawn:
            raise TunectlError(f"the plot could not be drawn: {undrawn[0].cause}")
        return Picture(regular_files.content(svg), regular_files.content(png))
