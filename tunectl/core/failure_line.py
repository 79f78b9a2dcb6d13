"""The line of a program's last output that says why it failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tunectl.core.progress_bars import behind_bars, is_bar

PLACE = re.compile(r'^\s*>?\s*File "(?P<file>[^"<>]+)", line (?P<line>\d+)')
"""A frame of a Python traceback; the line after it shows the source."""

LAST_LINES = "; its last lines were: "
"""Begins the list of last lines in the message about a program that ended with 0 without printing the objective."""

_HEADER = re.compile(r"(?P<before>.*?)(?:Original |Exception Group )?Traceback \(most recent call last\)(?P<after>.*)")
_BOX_ENDS = "\u2570"
_TREE = re.compile(r"^[\s|+]*(?:-*\+-[-\s\d]*)?")
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?::\s.*|:)?")
_LAUNCHER = re.compile(
    r"(?:[\w.]+\.)?(?:ChildFailedError|CalledProcessError|ProcessExitedException|KeyboardInterrupt|BrokenPipeError)\b"
)
"""The exceptions of a launcher, or of another rank, that only follow from the failure of the program."""

_NO_CAUSE = re.compile(r"Exception ignored in|--- Logging error ---")
_STRONG = (
    re.compile(r"\s*what\(\):\s"),
    re.compile(r"(?:[\w./-]+: )?(?:fatal )?error: |Fatal Python error: ", re.IGNORECASE),
    re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)\b(?::|$)"),
    re.compile(r"(?:.*\W)?(?:ERROR|CRITICAL|FATAL|error:(?!\s*[-+.\d]))\W"),
    re.compile(r".*(?:command not found|[Nn]o such file|[Pp]ermission denied)"),
    re.compile(r".*(?:Segmentation fault|Illegal instruction|Bus error|Aborted|Killed|core dumped|terminate called)"),
)
"""Lines that say what went wrong if there is no traceback, the clearest first."""

_USAGE = re.compile(r"[\w./-]+: error: ")
"""An error of argparse. Such a line is hardly part of an exception's message, even directly after one."""

_WARNING = re.compile(r"Warning: |^\s+warnings\.warn\(|^\W*(?:WARN(?:ING)?\b|W\d{4} )")
_BOILERPLATE = re.compile(
    r"For debugging consider passing|Compile with `TORCH_USE|CUDA kernel errors might be|CUDA_LAUNCH_BLOCKING"
    r"|HYDRA_FULL_ERROR|^wandb:|^srun: |^slurmstepd: |^Extension modules:|^\W*$|^=+$|^-+$|^usage: |^Try '.* for help"
    r"|^Stack trace|most recent call first|NO_OTHER_FAILURES|To enable traceback see|^Root Cause"
    r"|error_file|exitcode\s*:",
    re.IGNORECASE,
)


_MOST_CHARACTERS = 500  # of a line that is read
_MOST_LINES_OF_A_MESSAGE = 30  # not indented; a program that prints more after a traceback went on running


@dataclass(frozen=True, slots=True)
class _Traceback:
    """A traceback among lines: its first line, the line after its message, the message's first line, its last frame."""

    start: int
    end: int
    message: str
    place: str
    grouping: Literal["plain", "group", "of a group"] = "plain"


def failure_line(lines: Sequence[str]) -> str:
    """The line that says why a program failed, among its last lines; "" if there is none.

    It is the exception of the last traceback of the program itself, else the clearest error, else the last line that
    is not a progress bar, a warning or boilerplate.
    """
    lines = _beginnings(lines)
    chosen = _chosen(lines)
    if chosen is None:
        return _clearest_error(lines)
    later = [line for line in lines[chosen.end :] if _is_informative(line)]
    if any(_USAGE.match(line) for line in later) or sum(not line[0].isspace() for line in later) > (
        _MOST_LINES_OF_A_MESSAGE
    ):
        return _clearest_error(later)
    return chosen.message


def failure_place(lines: Sequence[str]) -> str:
    """`file:line` of the last frame of the traceback with the `failure_line`, "" if there is none."""
    lines = _beginnings(lines)
    chosen = _chosen(lines)
    if chosen is not None:
        return chosen.place
    found = [match for line in lines if (match := PLACE.match(line))]
    return f"{found[-1]['file']}:{found[-1]['line']}" if found else ""


def failure_excerpt(lines: Sequence[str], most: int) -> list[str]:
    """The lines to keep of a failure, at most `most`: from the traceback with the cause on, else the last lines."""
    chosen = _chosen(_beginnings(lines))
    if chosen is None or len(lines) - chosen.start <= most:
        return list(lines[-most:])
    # Of a long traceback only the end is kept.
    end = min(len(lines), chosen.end + 2)
    return list(lines[max(chosen.start, end - most) : end])


def informative_lines(lines: Sequence[str], count: int) -> list[str]:
    """The last lines that are not progress bars, warnings or boilerplate; if there are none, simply the last ones."""
    return [line for line in lines if _is_informative(line[:_MOST_CHARACTERS])][-count:] or list(lines[-count:])


def _beginnings(lines: Sequence[str]) -> list[str]:
    return [line[:_MOST_CHARACTERS] for line in lines]


def _is_informative(line: str) -> bool:
    return bool(line.strip()) and not (is_bar(line) or _WARNING.search(line) or _BOILERPLATE.search(line))


def _chosen(lines: Sequence[str]) -> _Traceback | None:
    found = _tracebacks(lines)
    own = [item for item in found if not _LAUNCHER.match(item.message)] or found
    if not own or own[-1].grouping != "of a group":
        return own[-1] if own else None
    groups = [index for index, item in enumerate(own) if item.grouping == "group"]
    if not groups:
        return own[-1]
    group, first = own[groups[-1]], own[groups[-1] + 1]
    return replace(first, end=own[-1].end, message=f"{group.message}: {first.message}")


def _tracebacks(lines: Sequence[str]) -> list[_Traceback]:
    found = []
    for index, line in enumerate(lines):
        header = _HEADER.match(line)
        if header is None or (index > 0 and _NO_CAUSE.search(lines[index - 1])):
            continue
        item = _boxed(lines, index) if "\u2500" in line else _plain(lines, index, header["before"])
        if item is not None:
            found.append(item)
    return found


def _plain(lines: Sequence[str], start: int, before: str) -> _Traceback | None:
    """The traceback whose header is at `start`; the text before the header may be before each of its lines."""
    if before.strip() and not before.strip(" |+"):
        return _in_a_tree(lines, start)
    place = ""
    for index in range(start + 1, len(lines)):
        line = lines[index].removeprefix(before) if before.strip() else lines[index]
        frame = PLACE.match(line)
        if frame is not None:
            place = f"{frame['file']}:{frame['line']}"
        elif line[:1].strip() and not is_bar(line):
            return _with_what_it_quotes(lines, _Traceback(start, index + 1, line.strip(), place))
    return None


def _with_what_it_quotes(lines: Sequence[str], found: _Traceback) -> _Traceback:
    """The exception that a message quotes with its frames, as those of Ray and TensorFlow do, else `found` itself."""
    place = ""
    for index in range(found.end, len(lines)):
        line = lines[index]
        frame, quoted = PLACE.match(line), _EXCEPTION.fullmatch(line.strip())
        if frame is not None:
            place = f"{frame['file']}:{frame['line']}"
        elif place and quoted is not None and ":" in line:
            return replace(found, end=index + 1, message=line.strip(), place=place)
        elif line[:1].strip():
            break
    following = lines[found.end].strip() if found.end < len(lines) else ""
    if found.message.endswith(":") and _is_informative(following) and " " not in found.message:
        return replace(found, end=found.end + 1, message=f"{found.message} {following}")
    return found


def _in_a_tree(lines: Sequence[str], start: int) -> _Traceback | None:
    """A traceback of an exception group, or of an exception in it, as Python draws them."""
    place = ""
    for index in range(start + 1, len(lines)):
        line = _TREE.sub("", lines[index], count=1)
        frame = PLACE.match(line)
        if frame is not None:
            place = f"{frame['file']}:{frame['line']}"
        elif _EXCEPTION.fullmatch(line):
            grouping: Literal["group", "of a group"] = "group" if "Exception Group" in lines[start] else "of a group"
            return _Traceback(start, index + 1, line, place, grouping)
    return None


def _boxed(lines: Sequence[str], start: int) -> _Traceback | None:
    """A traceback in the box that rich draws."""
    place = ""
    for index in range(start + 1, len(lines) - 1):
        frame = re.match(r"\W*(?P<file>\S[^:]*):(?P<line>\d+) in ", lines[index])
        if frame is not None:
            place = f"{frame['file']}:{frame['line']}"
        if lines[index].lstrip().startswith(_BOX_ENDS):
            return _Traceback(start, index + 2, lines[index + 1].strip(), place)
    return None


def _clearest_error(lines: Sequence[str]) -> str:
    kept = informative_lines(lines, len(lines))
    for strong in _STRONG:
        found = [line for line in kept if strong.match(line)]
        if found:
            return found[-1].strip()
    last = (kept or [""])[-1]
    return (behind_bars(last) or last).strip()
