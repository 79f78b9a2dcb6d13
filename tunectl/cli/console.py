"""All output of the commands: results go to stdout, messages to stderr.

The text may come from anywhere (a study folder from someone else, a program's output, a file name). Control characters
that would act on the terminal, and characters that are not in the stream's encoding, are escaped.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, TextIO, cast

from tunectl.cli.terminal_text import fits, in_encoding
from tunectl.core.path_errors import path_error
from tunectl.core.safe_text import escaped, escaped_json

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

_READER_GONE = (errno.EPIPE, errno.EIO)  # of a closed pipe, of a closed terminal
WIDEST_TEXT = 100  # longer lines of prose are hard to read
_WIDE = 32_000  # piped output is not wrapped: its reader is a program or a pager


def say(text: str = "") -> None:
    """Print a line of a result."""
    _write(sys.stdout, text)


def say_paths(paths: Sequence[Path]) -> None:
    """Print the files that were written, or their folder if it has several of them."""
    homes = Counter(path.parent for path in paths)
    for line in dict.fromkeys(f"{path.parent}{os.sep}" if homes[path.parent] > 1 else str(path) for path in paths):
        say(line)


def note(text: str) -> None:
    """Print a message on stderr; a warning or a note is wrapped like a finding."""
    _write(sys.stderr, wrapped(text, sys.stderr) if text.startswith(("warning: ", "note: ")) else text)


def wrapped(text: str, stream: TextIO | None, indent: str = "  ", first_indent: str = "") -> str:
    """The text in lines of at most 100 characters, or the terminal's width if that is less.

    Paths and other long words are never broken. `indent` begins all lines but the first.
    """
    is_terminal = stream is not None and stream.isatty()
    width = min(WIDEST_TEXT, shutil.get_terminal_size().columns) if is_terminal else WIDEST_TEXT
    wrapper = textwrap.TextWrapper(
        width, initial_indent=first_indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(line for part in text.split("\n") for line in wrapper.wrap(part))


def say_json(content: Any) -> None:
    """Print one JSON object on stdout; characters that cannot be printed are JSON escapes."""
    from tunectl.core.jsontext import encode

    text = escaped_json(encode(content, indent=2))
    if sys.stdout is not None and not fits(text, encoding_of(sys.stdout)):
        text = json.dumps(json.loads(text), indent=2)
    _write(sys.stdout, text)


def say_json_line(content: Any) -> None:
    """Print one JSON object in a line on stdout, at once: a program may follow it."""
    from tunectl.core.jsontext import encode

    text = escaped_json(encode(content))
    if sys.stdout is not None and not fits(text, encoding_of(sys.stdout)):
        text = json.dumps(json.loads(text))
    _write(sys.stdout, text)
    if sys.stdout is not None:
        _Outlet(sys.stdout).flush()


def say_csv(content: bytes) -> None:
    """Print a table as CSV on stdout."""
    if sys.stdout is not None:
        _write(sys.stdout, in_encoding(content.decode(), encoding_of(sys.stdout), exactly=True), end="")


def say_piece(text: str) -> None:
    """Print a part of a result immediately; raises OSError if its reader is gone."""
    sys.stdout.write(in_encoding(escaped(text), encoding_of(sys.stdout)))
    sys.stdout.flush()


def encoding_of(stream: TextIO) -> str:
    """The encoding of a stream."""
    return stream.encoding or "utf-8"


def _write(stream: TextIO | None, text: str, end: str = "\n") -> None:
    if stream is None:  # closed by the calling process
        return
    outlet = _Outlet(stream)
    outlet.write(escaped(text) + end)
    outlet.flush()


class _Outlet:
    """A stream whose reader may go away (`tunectl plan … | head`, a closed terminal): the command still finishes its
    work without output, and its exit code is the same.

    Raises FolderError if results cannot be written (a full disk); messages are dropped.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Decided now: a live table replaces sys.stderr later.
        self._is_for_results = stream is sys.stdout

    def write(self, text: str) -> int:
        """Write in characters of the stream's encoding, as long as there is a reader."""
        with self._readers_may_go():
            self._stream.write(in_encoding(text, encoding_of(self._stream)))
        return len(text)

    def flush(self) -> None:
        """Flush, as long as there is a reader."""
        with self._readers_may_go():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _readers_may_go(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            if self._is_for_results:
                raise
            # A slow reader misses a message.
        except OSError as error:
            # The rest of the buffer would fail again when Python flushes it at exit.
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
            if self._is_for_results and error.errno not in _READER_GONE:
                raise path_error("stdout", "written", error) from error


def console(stream: TextIO) -> Console:
    """A rich console on a stream; a pipe gets plain text without wrapping."""
    from rich.console import Console

    return Console(
        file=cast("IO[str]", _Outlet(stream)),
        width=None if stream.isatty() else _WIDE,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def say_table(
    header: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", optional: Sequence[str] = ()
) -> None:
    """Print a table on stdout: numbers aligned right, missing values as a dash, floats with four digits.

    On a narrow terminal the headings are wrapped at their underscores, and the columns in `optional` are left out, one
    by one, until each row fits on one line. Where words would have to be broken all the same, each row is printed as
    lines `name value` below its first cell.
    """
    if title:
        say(title)
    output = console(sys.stdout)
    table = _table(header, rows)
    wanted = _width(output, table).maximum
    if not sys.stdout.isatty():
        output.width = max(wanted, 1)
    elif wanted > output.width:
        narrow = _narrowed(output, header, rows, optional)
        if narrow is None:
            _say_rows(header, rows)
            return
        table = narrow
    output.print(table)


def _width(output: Console, table: Table) -> Measurement:
    """The width of a table without wrapped cells, and that of one in which no word is broken."""
    return output.measure(table, options=output.options.update(width=_WIDE))


def _narrowed(
    output: Console, header: Sequence[str], rows: Sequence[Sequence[object]], optional: Sequence[str]
) -> Table | None:
    """A table for a narrow terminal; None where a word would have to be broken."""
    table = _table(header, rows, breaks="_\n")
    for name in optional:
        if _width(output, table).maximum <= output.width:
            break
        if name not in header:
            continue
        place = list(header).index(name)
        header, rows = _without(header, place), [_without(row, place) for row in rows]
        table = _table(header, rows, breaks="_\n")
    return table if _width(output, table).minimum <= output.width else None


def _without(cells: Sequence[Any], place: int) -> list[Any]:
    return [*cells[:place], *cells[place + 1 :]]


def _say_rows(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print each row as lines `name value` below its first cell, without missing values."""
    longest = max(len(_cell(name)) for name in header)
    for row in rows:
        say(f"{_cell(header[0])} {_cell(shown(row[0]))}".strip())
        for name, value in zip(header[1:], row[1:], strict=True):
            if value is not None and value != "":
                text = f"{_cell(name):<{longest}}  {_cell(shown(value))}"
                say(wrapped(text, sys.stdout, " " * (longest + 4), "  "))


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], breaks: str = "_") -> Table:
    from rich.align import Align

    table = empty_table(sys.stdout)
    texts = [[_cell(shown(value)) for value in row] for row in rows]
    for index, name in enumerate(header):
        numeric = all(_is_number(row[index]) for row in rows)
        heading = _cell(name).replace("_", breaks)
        side: Literal["left", "right"] = "right" if numeric else "left"
        table.add_column(
            Align(heading, side, vertical="bottom"),  # beside headings of more lines; cells begin at the top
            justify=side,
            overflow="fold",
            vertical="top",
            # Rich would break single words to make every column narrower.
            no_wrap="\n" not in heading and not any(" " in row[index] for row in texts),
        )
    for row in texts:
        table.add_row(*row)
    return table


def empty_table(stream: TextIO) -> Table:
    """A table without columns yet; its only line is below the headings."""
    from rich import box
    from rich.table import Table

    line = in_encoding("─", encoding_of(stream))
    lines = box.SIMPLE_HEAD if line == "─" else box.Box(str(box.SIMPLE_HEAD).replace("─", line), ascii=True)
    return Table(box=lines, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _cell(text: str) -> str:
    """The text on one line as it is printed: an escape is wider than its character."""
    return in_encoding(escaped(text).replace("\n", " "), encoding_of(sys.stdout))


def _is_number(value: object) -> bool:
    if value is None or value == "":
        return True
    try:
        float(str(value))
    except ValueError:
        return False
    return not isinstance(value, bool)


def shown(value: object) -> str:
    """A value as text in a table."""
    if value is None or value == "":
        return "–"
    from tunectl.core.wording import short_text

    return short_text(value)


def shown_retrains(planned: int | None, run: int | None = None) -> str:
    """Text for retrains after the number of trials: ` + 6 retrains`, ` + 2 of 6 retrains`, "" if there are none.

    `run` is how many of them have ended; None to leave that out.
    """
    if not planned:
        return ""
    number = str(planned) if run in (None, planned) else f"{run} of {planned}"
    return f" + {number} {'retrain' if planned == 1 else 'retrains'}"
