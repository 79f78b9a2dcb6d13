"""Draws Vega-Lite definitions into SVG and PNG files; as a program, those that it reads, so that two can share them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tunectl.core.files import write_if_changed

PNG_SCALE = 2

_FIRST_SECONDS = 0.6
_DRAWING_SECONDS = 0.15
_SECONDS_A_BYTE = 3.5e-7
"""What drawing takes: the first definition for the renderer's start, each for itself and for what it holds (two slow
cores). Only the ratios count: by them the drawings are shared out.
"""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A definition, as JSON text, and the files that it is drawn into."""

    definition: str
    svg: str
    png: str


_NOTHING = '{"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "mark": "point", "data": {"values": []}}'


def draw(drawing: Drawing) -> None:
    """Write the two files where their bytes change; needs neither a browser nor a network.

    Raises OSError, also where their folder, or one of them, is a link.
    """
    import vl_convert

    picture = vl_convert.vegalite_to_svg(drawing.definition)
    svg, png = Path(drawing.svg), Path(drawing.png)
    write_if_changed(svg, picture.encode(), within=svg.parent.parent)
    # From the SVG: to lay the figure out again would take three times as long.
    write_if_changed(png, vl_convert.svg_to_png(picture, scale=PNG_SCALE), within=png.parent.parent)


@dataclass(frozen=True, slots=True)
class SecondRenderer:
    """A second process that draws, ready or getting ready while this one still finds out what to draw."""

    process: subprocess.Popen[str]


@contextlib.contextmanager
def second_renderer() -> Iterator[SecondRenderer | None]:
    """A second process that draws, None where there is one core only; it is gone when the block ends."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        yield None
        return
    # -P: a json.py in the current folder, which may be somebody else's, must not run.
    command = [sys.executable, "-P", "-m", "tunectl.report.drawing"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8") as process:
        try:
            yield SecondRenderer(process)
        finally:
            process.kill()


def draw_all(drawings: Sequence[Drawing], second: SecondRenderer | None = None) -> None:
    """Draw all of them, the `second` process its share of them; it takes no others afterwards.

    The renderer holds the interpreter's lock, so that threads would wait for each other.
    """
    ours, theirs = _shared_out(drawings) if second is not None else (drawings, [])
    if second is not None and theirs:
        # It reads to the end before it draws, so this does not wait for it.
        _hand_over(second.process, theirs)
    for drawing in ours:
        draw(drawing)
    if second is not None and theirs and second.process.wait() != 0:
        # What went wrong there is seen here.
        for drawing in theirs:
            draw(drawing)


def _shared_out(drawings: Sequence[Drawing]) -> tuple[list[Drawing], list[Drawing]]:
    """Those that this process draws, which has to start its renderer first, and those of the second one, which has."""
    ours: list[Drawing] = []
    theirs: list[Drawing] = []
    our_seconds, their_seconds = _FIRST_SECONDS, 0.0
    for drawing in sorted(drawings, key=lambda drawing: -len(drawing.definition)):
        seconds = _DRAWING_SECONDS + _SECONDS_A_BYTE * len(drawing.definition)
        if our_seconds < their_seconds:
            ours.append(drawing)
            our_seconds += seconds
        else:
            theirs.append(drawing)
            their_seconds += seconds
    return ours, theirs


def _hand_over(second: subprocess.Popen[str], drawings: Sequence[Drawing]) -> None:
    assert second.stdin is not None
    try:
        second.stdin.write(json.dumps([asdict(drawing) for drawing in drawings]))
        second.stdin.close()
    except BrokenPipeError:
        second.wait()


def main() -> None:
    """Draw what stands on standard input: a JSON list of drawings; until it has come, get the renderer going."""
    import vl_convert

    vl_convert.vegalite_to_svg(_NOTHING)
    for fields in json.loads(sys.stdin.read()):
        draw(Drawing(**fields))


if __name__ == "__main__":
    main()
