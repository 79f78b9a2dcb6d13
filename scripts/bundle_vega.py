"""Write the JavaScript that draws the plots of report.html, as vl-convert bundles it, with its licences.

    python scripts/bundle_vega.py [FILE]

It is shipped, as bundling takes seconds, and must be of the installed vl-convert, which draws the SVG and PNG files: a
test compares the versions in the header. Run this again after an update of vl-convert.
"""

from __future__ import annotations

import sys
from pathlib import Path

import vl_convert

from tunectl.report.page_files import VEGA, vega_versions

LICENCES = Path(__file__).with_name("vega_licences.txt")


def header() -> str:
    """A comment that browsers and tools keep: the versions on its first line, then the licences."""
    return f"/*! {vega_versions()}\n{LICENCES.read_text(encoding='utf-8')}*/\n"


def main(path: Path) -> None:
    path.write_text(header() + vl_convert.javascript_bundle() + "\n", encoding="utf-8")
    print(f"{path}: {path.stat().st_size:,} bytes, {vega_versions()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else VEGA)
