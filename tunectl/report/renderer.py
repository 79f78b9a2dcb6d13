"""Writes plots as SVG and PNG files in child processes; as a program this module is one of these processes.

The page and these files have one definition of each plot (`plots.vega_lite`) and one library that draws it, Vega: in
the page the browser runs it, here vl-convert does, whose copy of Vega is the one in the page.
"""

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
"""The time of a plot and of each byte of its definition, measured on two slow cores. Only their ratio counts, by which
plots are distributed over the processes.
"""

_RESERVED_BYTES = 128e9
"""V8, in vl-convert 1.9, ends its process under a limit of 65 GB on the address space, and draws under one of 98 GB;
other versions need 128 GB.
"""


@dataclass(frozen=True, slots=True)
class PlotFiles:
    """The definition of a plot, as JSON text, and the files that it is written to."""

    definition: str
    svg: str
    png: str


_NOTHING = '{"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "mark": "point", "data": {"values": []}}'


def draw(plot: PlotFiles) -> None:
    """Write the two files where their bytes change; needs neither a browser nor a network.

    Raises OSError, also where their folder, or one of them, is a link.
    """
    import vl_convert

    picture = vl_convert.vegalite_to_svg(plot.definition)
    svg, png = Path(plot.svg), Path(plot.png)
    write_if_changed(svg, picture.encode(), within=svg.parent.parent)
    # From the SVG: to compute the layout again would take three times as long.
    write_if_changed(png, vl_convert.svg_to_png(picture, scale=PNG_SCALE), within=png.parent.parent)


@dataclass(frozen=True, slots=True)
class Undrawn:
    """A plot that was not written, and why, in words.

    `died`: its process ended early, by a limit or a fault of the machine or the library; otherwise the library refused
    the definition.
    """

    plot: PlotFiles
    cause: str
    died: bool


@dataclass(frozen=True, slots=True)
class Renderer:
    """A process that draws; it loads its library while this process still computes what to draw.

    The library ends its whole process where it cannot reserve memory (far more than it uses), so it is never loaded
    into this one. `stderr` is what the process wrote to its standard error.
    """

    process: subprocess.Popen[str]
    stderr: list[str] = field(default_factory=list)


@contextlib.contextmanager
def renderers() -> Iterator[list[Renderer]]:
    """One or two processes that draw, for one call of `draw_all`; they are ended with the block.

    Fewer, or none, where no more can be started: `draw_all` then says why.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    started: list[Renderer] = []
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            for _ in range(min(cores, _MOST_PROCESSES)):
                started.append(_started(stack))  # noqa: PERF401  (those before one that fails are kept)
        yield started


def _started(stack: contextlib.ExitStack) -> Renderer:
    # -P: a json.py in the current folder, which may be someone else's, must not run.
    command = [sys.executable, "-P", "-m", "tunectl.report.renderer"]
    pipe = subprocess.PIPE
    process = stack.enter_context(
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="replace")
    )
    stack.callback(process.kill)
    return Renderer(process)


def draw_all(plots: Sequence[PlotFiles], ready: Sequence[Renderer] = ()) -> list[Undrawn]:
    """Write all of these plots in other processes; returns those that could not be drawn.

    The plots are distributed over the processes that are `ready`, which end afterwards. Where one dies, the plot that
    it was drawing is lost, and a new process goes on with the others; where the library does not start, all that are
    left are lost. Raises OSError where a file cannot be written.
    """
    undrawn: list[Undrawn] = []
    left: list[PlotFiles] = list(plots)
    if ready:
        shares = _distributed(plots, len(ready))
        for renderer, share in zip(ready, shares, strict=True):
            # It reads to the end before it draws, so this does not wait for it.
            _send(renderer.process, share)
        left = [plot for renderer, share in zip(ready, shares, strict=True) for plot in _left(renderer, share, undrawn)]
    while left:
        left, cause = _drawn_by_new(left, undrawn)
        if cause:
            return [*undrawn, *(Undrawn(plot, cause, died=True) for plot in left)]
    return undrawn


def _drawn_by_new(wanted: list[PlotFiles], undrawn: list[Undrawn]) -> tuple[list[PlotFiles], str]:
    """The plots that a new process left undrawn, and why no process can draw them; "" where another one can go on."""
    with contextlib.ExitStack() as stack:
        try:
            renderer = _started(stack)
        except OSError as error:
            return wanted, f"a process that draws cannot be started: {system_reason(error)}"
        _send(renderer.process, wanted)
        left = _left(renderer, wanted, undrawn)
        return left, _cause_of_death(renderer) if left == wanted else ""


def _left(renderer: Renderer, share: Sequence[PlotFiles], undrawn: list[Undrawn]) -> list[PlotFiles]:
    """Wait until a process has ended; returns the plots that it did not reach: all, where the library did not start."""
    output, errors = renderer.process.communicate()
    renderer.stderr.append(errors)
    answers = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    if not answers:
        return list(share)
    for plot, answer in zip(share, answers[1:], strict=False):
        if answer["errno"]:
            raise OSError(answer["errno"], answer["error"], plot.svg)
        if answer["error"]:
            undrawn.append(Undrawn(plot, answer["error"], died=False))
    done = len(answers) - 1
    if done < len(share):
        undrawn.append(Undrawn(share[done], _cause_of_death(renderer), died=True))
    return list(share[done + 1 :])


def _cause_of_death(renderer: Renderer) -> str:
    """Why a process ended before it had drawn all, from its exit code and its standard error."""
    code = renderer.process.returncode
    how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
    lines = [line.strip("# ") for text in renderer.stderr for line in text.splitlines()]
    reason = next((line for line in lines if "fatal" in line.lower()), next(filter(None, reversed(lines)), ""))
    return f"the process that draws {how}{f' ({reason})' if reason else ''}{_limit_in_words()}"


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
        f"; its library reserves up to {_RESERVED_BYTES / 1e9:.0f} GB of address space (not memory), and "
        f"`ulimit -v` allows {most / 1e9:.3g} GB"
    )


def _distributed(plots: Sequence[PlotFiles], processes: int) -> list[list[PlotFiles]]:
    """What each process draws, so that all end at about the same time."""
    shares: list[list[PlotFiles]] = [[] for _ in range(processes)]
    seconds = [0.0] * processes
    for plot in sorted(plots, key=lambda plot: -len(plot.definition)):
        place = seconds.index(min(seconds))
        shares[place].append(plot)
        seconds[place] += _DRAWING_SECONDS + _SECONDS_A_BYTE * len(plot.definition)
    return shares


def _send(process: subprocess.Popen[str], plots: Sequence[PlotFiles]) -> None:
    assert process.stdin is not None
    # What a process that has died already wrote is read later.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps([asdict(plot) for plot in plots]))
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdin = None  # closed: `communicate` would flush it again


def main() -> None:
    """Draw the plots of standard input, a JSON list of PlotFiles; the library is loaded before that is read.

    Prints a line of JSON when the library is ready, and one for each plot: the `error`, "" without one, and the `errno`
    of a file that could not be written.
    """
    import vl_convert

    vl_convert.vegalite_to_svg(_NOTHING)
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for fields in json.loads(sys.stdin.read()):
        answer = {"error": "", "errno": 0}
        try:
            draw(PlotFiles(**fields))
        except OSError as error:
            answer = {"error": system_reason(error), "errno": error.errno or errno.EIO}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "errno": 0}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
