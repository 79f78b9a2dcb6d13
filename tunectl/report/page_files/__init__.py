"""What every page carries: its style, its script and the Vega libraries, which draw the plots in the browser."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent

SCRIPTS = (
    "selection.js",
    "theme.js",
    "filters.js",
    "tables.js",
    "plots.js",
    "exports.js",
    "trials.js",
    "predictions.js",
    "files.js",
    "page.js",
)
"""The parts of the page's own script, in their order; they share one scope."""

VEGA = FOLDER / "vega.js"
"""Made by scripts/bundle_vega.py."""


def vega_versions() -> str:
    """The versions of the JavaScript libraries that the installed vl-convert draws with."""
    import vl_convert

    lite = vl_convert.get_vegalite_versions()[-1]
    return f"vega {vl_convert.get_vega_version()}, vega-lite {lite}, vega-embed {vl_convert.get_vega_embed_version()}"
