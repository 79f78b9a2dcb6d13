"""How the commands write: results to stdout, messages to stderr, nothing of it past this module.

What is printed may come from anywhere (a study folder of somebody else's, a program's output, a file's name): it is
escaped where it would act on the terminal, and where the stream's encoding lacks a character.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from tunectl.cli.terminal_text import fits, in_encoding
from tunectl.core.path_errors import path_error
from tunectl.core.safe_text import escaped, escaped_json

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

_READER_GONE = (errno.EPIPE, errno.EIO)  # of a pipe, and of a terminal
_WIDE = 32_000  # piped output is not folded: who reads it is a program or a pager


def say(text: str = "") -> None:
    """A line of a result."""
    _write(sys.stdout, text)


def say_paths(paths: Sequence[Path]) -> None:
    """What was written, a line for each file, or for the folder of several."""
    homes = Counter(path.parent for path in paths)
    for line in dict.fromkeys(f"{path.parent}{os.sep}" if homes[path.parent] > 1 else str(path) for path in paths):
        say(line)


def note(text: str) -> None:
    """A line about the work: it stays out of stdout."""
    _write(sys.stderr, text)


def say_json(content: Any) -> None:
    """One JSON object on stdout; what is not printed as it is are JSON's own escapes."""
    from tunectl.core.jsontext import encode

    text = escaped_json(encode(content, indent=2))
    if sys.stdout is not None and not fits(text, encoding_of(sys.stdout)):
        text = json.dumps(json.loads(text), indent=2)
    _write(sys.stdout, text)


def say_csv(content: bytes) -> None:
    """A table as CSV on stdout."""
    if sys.stdout is not None:
        _write(sys.stdout, in_encoding(content.decode(), encoding_of(sys.stdout), exactly=True), end="")


def say_piece(text: str) -> None:
    """A piece of a result that is printed as it comes, whose reader may be gone: raises OSError then."""
    sys.stdout.write(in_encoding(escaped(text), encoding_of(sys.stdout)))
    sys.stdout.flush()


def encoding_of(stream: TextIO) -> str:
    """The encoding in which a stream writes."""
    return stream.encoding or "utf-8"


def _write(stream: TextIO | None, text: str, end: str = "\n") -> None:
    if stream is None:  # closed by whoever started us
        return
    outlet = _Outlet(stream)
    outlet.write(escaped(text) + end)
    outlet.flush()


class _Outlet:
    """A stream whose reader may go (`tunectl plan … | head`, a terminal that was closed): what was begun is still done,
    in silence, and the exit code tells how it ended.

    Raises FolderError where results cannot be written (a full disk); messages are let go then.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Asked now: a live table puts another stream in the place of sys.stderr.
        self._is_for_results = stream is sys.stdout

    def write(self, text: str) -> int:
        """Write as far as there is a reader, in characters that the stream's encoding has."""
        with self._readers_may_go():
            self._stream.write(in_encoding(text, encoding_of(self._stream)))
        return len(text)

    def flush(self) -> None:
        """Flush as far as there is a reader."""
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
            # A reader that is slow for the moment misses a message.
        except OSError as error:
            # What the stream still holds would fail again when Python flushes it at exit.
            _silence(self._stream)
            if self._is_for_results and error.errno not in _READER_GONE:
                raise path_error("the output", "written", error) from error


def _silence(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def console(stream: TextIO) -> Console:
    """A rich console on a stream; a pipe gets plain, unfolded text."""
    from rich.console import Console

    return Console(
        file=cast("IO[str]", _Outlet(stream)),
        width=None if stream.isatty() else _WIDE,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def say_table(header: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """A table on stdout: numbers to the right, missing values as a dash, floats to four digits.

    On a terminal that is too narrow the headings are broken at their underscores.
    """
    output = console(sys.stdout)
    table = _table(header, rows)
    wanted = output.measure(table, options=output.options.update(width=_WIDE)).maximum
    if not sys.stdout.isatty():
        output.width = max(wanted, 1)
    elif wanted > output.width:
        table = _table(header, rows, breaks="_\n")
    if title:
        say(title)
    output.print(table)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], breaks: str = "_") -> Table:
    table = empty_table(sys.stdout)
    for index, name in enumerate(header):
        numeric = all(_is_number(row[index]) for row in rows)
        heading = _cell(name).replace("_", breaks)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold", vertical="bottom")
    for row in rows:
        table.add_row(*[_cell(shown(value)) for value in row])
    return table


def empty_table(stream: TextIO) -> Table:
    """A table without columns yet, with a line below its headings and no other."""
    from rich import box
    from rich.table import Table

    line = in_encoding("─", encoding_of(stream))
    lines = box.SIMPLE_HEAD if line == "─" else box.Box(str(box.SIMPLE_HEAD).replace("─", line), ascii=True)
    return Table(box=lines, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _cell(text: str) -> str:
    """The text on one line, as it will be printed: an escape takes more room than its character."""
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
    """A value in a table."""
    if value is None or value == "":
        return "–"
    from tunectl.core.wording import short_text

    return short_text(value)


def shown_retrains(planned: int | None, run: int | None = None) -> str:
    """Retrains behind the number of a search's trials: ` + 6 retrains`, ` + 2 of 6 retrains`, "" where there are none.

    `run` is how many of them have ended, None where it is not asked.
    """
    if not planned:
        return ""
    number = str(planned) if run in (None, planned) else f"{run} of {planned}"
    return f" + {number} {'retrain' if planned == 1 else 'retrains'}"
