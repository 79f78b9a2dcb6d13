"""Draws Vega-Lite definitions into SVG and PNG files, in processes of their own; as a program it is one of those."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tunectl.core.files import write_if_changed
from tunectl.core.path_errors import system_reason

PNG_SCALE = 2

_MOST_PROCESSES = 2
_DRAWING_SECONDS = 0.15
_SECONDS_A_BYTE = 3.5e-7
"""What drawing takes, for each definition and for what it holds (two slow cores). Only the ratio counts: by it the
drawings are shared out.
"""

_RESERVED_BYTES = 128e9
"""V8, in vl-convert 1.9, ends its process under a limit of 65 GB on the address space, and draws under one of 98 GB;
other versions need 128 GB.
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
class Undrawn:
    """A drawing that was not made, and why, in words.

    `died`: its process ended in the middle, by a limit or a fault of the machine's or the library's; else the library
    refused the definition.
    """

    drawing: Drawing
    cause: str
    died: bool


@dataclass(frozen=True, slots=True)
class Renderer:
    """A process that draws, ready or getting ready while this one still finds out what to draw.

    The library ends its whole process where it gets no memory (it reserves far more than it uses), so that it is never
    loaded into ours. `said` is what it wrote to its standard error.
    """

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)


@contextlib.contextmanager
def renderers() -> Iterator[list[Renderer]]:
    """One or two processes that draw, for one call of `draw_all`; they are gone when the block ends.

    Fewer, or none, where the machine gives no more: `draw_all` says so.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started: list[Renderer] = []
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            for _ in range(min(cores, _MOST_PROCESSES)):
                started.append(_started(stack))  # noqa: PERF401  (those before one that fails are kept)
        yield started


def _started(stack: contextlib.ExitStack) -> Renderer:
    # -P: a json.py in the current folder, which may be somebody else's, must not run.
    command = [sys.executable, "-P", "-m", "tunectl.report.drawing"]
    pipe = subprocess.PIPE
    process = stack.enter_context(
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace")
    )
    stack.callback(process.kill)
    return Renderer(process)


def draw_all(drawings: Sequence[Drawing], ready: Sequence[Renderer] = ()) -> list[Undrawn]:
    """Draw all of them in other processes, and give those that could not be drawn.

    The processes that are `ready` share them out and take no others afterwards. One that dies costs the drawing at
    which it died, and a fresh one goes on with the others; where the library does not even start, it costs all that are
    left. Raises OSError where a file cannot be written.
    """
    undrawn: list[Undrawn] = []
    left: list[Drawing] = list(drawings)
    if ready:
        shares = _shared_out(drawings, len(ready))
        for renderer, share in zip(ready, shares, strict=True):
            # It reads to the end before it draws, so this does not wait for it.
            _hand_over(renderer.process, share)
        left = [
            drawing
            for renderer, share in zip(ready, shares, strict=True)
            for drawing in _left(renderer, share, undrawn)
        ]
    while left:
        left, cause = _drawn_afresh(left, undrawn)
        if cause:
            return [*undrawn, *(Undrawn(drawing, cause, died=True) for drawing in left)]
    return undrawn


def _drawn_afresh(wanted: list[Drawing], undrawn: list[Undrawn]) -> tuple[list[Drawing], str]:
    """What a new process leaves, and why nothing more can be drawn; "" where another one may go on."""
    with contextlib.ExitStack() as stack:
        try:
            renderer = _started(stack)
        except OSError as error:
            return wanted, f"a process that draws cannot be started: {system_reason(error)}"
        _hand_over(renderer.process, wanted)
        left = _left(renderer, wanted, undrawn)
        return left, _cause_of_death(renderer) if left == wanted else ""


def _left(renderer: Renderer, share: Sequence[Drawing], undrawn: list[Undrawn]) -> list[Drawing]:
    """Wait for what a process draws; what it did not get to because it died: all, where the library did not start."""
    output, said = renderer.process.communicate()
    renderer.said.append(said)
    answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if not answers:
        return list(share)
    for drawing, answer in zip(share, answers[1:], strict=False):
        if answer["errno"]:
            raise OSError(answer["errno"], answer["error"], drawing.svg)
        if answer["error"]:
            undrawn.append(Undrawn(drawing, answer["error"], died=False))
    done = len(answers) - 1
    if done < len(share):
        undrawn.append(Undrawn(share[done], _cause_of_death(renderer), died=True))
    return list(share[done + 1 :])


def _cause_of_death(renderer: Renderer) -> str:
    """Why a process ended before it had drawn all, from its exit code and what it said."""
    code = renderer.process.returncode
    how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    lines = [line.strip("# ") for text in renderer.said for line in text.splitlines()]
    said = next((line for line in lines if "fatal" in line.lower()), next(filter(None, reversed(lines)), ""))
    return f"the process that draws {how}{f' ({said})' if said else ''}{_limit_in_words()}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _limit_in_words() -> str:
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY or most > _RESERVED_BYTES:
        return ""
    return (
        f"; its library reserves up to {_RESERVED_BYTES / 1e9:.0f} GB of addresses, which is no memory, and "
        f"`ulimit -v` allows {most / 1e9:.3g} GB"
    )


def _shared_out(drawings: Sequence[Drawing], processes: int) -> list[list[Drawing]]:
    """What each process draws, so that all are done at the same time."""
    shares: list[list[Drawing]] = [[] for _ in range(processes)]
    seconds = [0.0] * processes
    for drawing in sorted(drawings, key=lambda drawing: -len(drawing.definition)):
        place = seconds.index(min(seconds))
        shares[place].append(drawing)
        seconds[place] += _DRAWING_SECONDS + _SECONDS_A_BYTE * len(drawing.definition)
    return shares


def _hand_over(process: subprocess.Popen[str], drawings: Sequence[Drawing]) -> None:
    assert process.stdin is not None
    # One that has died already is asked for its last words later.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps([asdict(drawing) for drawing in drawings]))
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdin = None  # closed: `communicate` would flush it again


def main() -> None:
    """Draw what is on standard input, a JSON list of drawings; until it has come, get the library going.

    A line of JSON is printed when it goes, and one for each drawing: the `error`, "" where there was none, and the
    `errno` of a file that could not be written.
    """
    import vl_convert

    vl_convert.vegalite_to_svg(_NOTHING)
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for fields in json.loads(sys.stdin.read()):
        answer = {"error": "", "errno": 0}
        try:
            draw(Drawing(**fields))
        except OSError as error:
            answer = {"error": system_reason(error), "errno": error.errno or errno.EIO}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "errno": 0}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
