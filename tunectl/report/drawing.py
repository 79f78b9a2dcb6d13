"""Draws Vega-Lite definitions into SVG and PNG files; as a program, those that it reads, so that two can share them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tunectl.core.files import write_if_changed

PNG_SCALE = 2

_ENOUGH_FOR_TWO = 4
"""Fewer drawings than this are done before a second process has started."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A definition, as JSON text, and the files that it is drawn into."""

    definition: str
    svg: str
    png: str


def draw(drawing: Drawing) -> None:
    """Write the two files where their bytes change; needs neither a browser nor a network."""
    import vl_convert

    picture = vl_convert.vegalite_to_svg(drawing.definition)
    write_if_changed(Path(drawing.svg), picture.encode())
    # From the SVG: to lay the figure out again would take three times as long.
    write_if_changed(Path(drawing.png), vl_convert.svg_to_png(picture, scale=PNG_SCALE))


def draw_all(drawings: Sequence[Drawing], cores: int) -> None:
    """Draw all of them, with a second process where there are several cores and enough to draw.

    The renderer holds the interpreter's lock, so that threads would wait for each other.
    """
    if cores < 2 or len(drawings) < _ENOUGH_FOR_TWO:
        for drawing in drawings:
            draw(drawing)
        return
    by_size = sorted(drawings, key=lambda drawing: -len(drawing.definition))
    theirs = by_size[1::2]
    command = [sys.executable, "-m", "tunectl.report.drawing"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8") as second:
        # It reads to the end before it draws, so this does not wait for it.
        _hand_over(second, theirs)
        try:
            for drawing in by_size[::2]:
                draw(drawing)
        except BaseException:
            second.kill()
            raise
    if second.returncode:
        # What went wrong there is seen here.
        for drawing in theirs:
            draw(drawing)


def _hand_over(second: subprocess.Popen[str], drawings: Sequence[Drawing]) -> None:
    assert second.stdin is not None
    try:
        second.stdin.write(json.dumps([asdict(drawing) for drawing in drawings]))
        second.stdin.close()
    except BrokenPipeError:
        second.wait()


def main() -> None:
    """Draw what stands on standard input: a JSON list of drawings."""
    for fields in json.loads(sys.stdin.read()):
        draw(Drawing(**fields))


if __name__ == "__main__":
    main()
