"""Calls of tunectl's commands, each in a forked child of a process that has everything imported, with a time limit."""

from __future__ import annotations

import contextlib
import csv
import gc
import importlib
import os
import re
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparing import UNCOMPARED
from pyarrow import parquet

CRASHED = 99
"""The exit code of a child in which an exception reached the top."""

_READING = ("status", "query", "show", "clean", "ls", "compare", "next", "export", "report")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)? s\b|\b20[0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9:]+(\+[0-9:]+)?")


@dataclass(frozen=True)
class Called:
    """How a call ended. `code` None: it was killed for taking too long; `signal` is what else ended it."""

    code: int | None
    signal: int
    out: str
    err: str
    seconds: float


def words_of(command: str, folder: Path, study: Path) -> list[str]:
    """The command line of a command on a folder; for `run` in the folder of a sweep, that of the sweep."""
    match command:
        case "run" if study.stem == "sweep":
            asked = ["--low", "0.01", "--high", "0.1", "--points", "2", "--no-follow-up"]
            return ["lr-sweep", str(study), "--dir", str(folder), *asked, "--quiet", "--slots", "1"]
        case "run":
            return ["run", str(study), "--dir", str(folder), "--quiet", "--slots", "1"]
        case "retrain":
            return ["retrain", str(folder), "--study", str(study), "--repeats", "1", "--quiet", "--slots", "1"]
        case "next":
            return ["next", str(folder), "--to", str(folder.parent / "next.yaml")]
        case "export":
            return ["export", str(folder), "--to", "csv"]
        case "query":
            of_trials = "t.trial, state, reason, best_step, best_value, learning_rate"
            measured = "count(step), sum(step), max(checkpoint)"
            joined = "from trials t left join measurements m on m.trial = t.trial group by t.trial"
            return ["query", str(folder), f"select {of_trials}, {measured} {joined}"]
        case "ls":
            return ["ls", str(folder.parent), "--long"]
        case _:
            return [command, str(folder)]


def load() -> None:
    """Import what the commands need, and make them cheap: no plots, and a backend that starts when it is needed."""
    import tunectl.execution.backends as backends
    import tunectl.report.plots as plots
    import tunectl.report.renderer as drawing

    plots.write_figures = lambda *_arguments: plots.Drawn([], {})
    drawing.renderers = lambda: contextlib.nullcontext(())
    local = backends.BACKENDS["local"]
    backends.BACKENDS = {"local": lambda: LateBackend(local())}  # type: ignore[misc]
    import tunectl.session.backend_start as starting

    starting.BACKENDS = backends.BACKENDS


def load_what_was_loaded(listed: Path) -> None:
    """Import what commands imported while they ran, as `call` listed it: their next calls need not."""
    for name in dict.fromkeys(listed.read_text().split()):
        if name not in sys.modules and not name.startswith("__"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


class LateBackend:
    """A backend that starts its processes when the first trial needs them: most calls here train nothing."""

    def __init__(self, backend: Any) -> None:
        self._backend, self._begun, self._own_code = backend, False, False

    def start(self, *, own_code: bool = False) -> None:
        self._own_code = own_code

    def close(self) -> None:
        if self._begun:
            self._backend.close()

    def __getattr__(self, name: str) -> Any:
        if not self._begun:
            self._begun = True
            self._backend.start(own_code=self._own_code)
        return getattr(self._backend, name)


def call(words: list[str], folder: Path, seconds: float, list_to: Path | None = None) -> Called:
    """One call in a forked child, in the folder that holds the study folder; killed with all its processes at the end
    of its time. The modules that it has loaded at its end are added to the file `list_to`.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _be_the_command(words, folder, (out.fileno(), err.fileno()), list_to)
        status = _waited(child, seconds)
        took = time.monotonic() - began
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
    code = None if status is None or os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    ended_by = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0
    return Called(code, ended_by, *texts, took)


def _be_the_command(words: list[str], folder: Path, outputs: tuple[int, int], list_to: Path | None) -> None:
    code = CRASHED
    try:
        os.setsid()
        for number, stream in enumerate(outputs, start=1):
            os.dup2(stream, number)
        os.chdir(folder.parent)
        sys.argv = ["tunectl", *words]
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        import tunectl.cli.main

        tunectl.cli.main.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
            if list_to is not None:
                with open(list_to, "a") as file:
                    file.write("\n".join([*sys.modules, ""]))
        os._exit(code)


def _waited(child: int, seconds: float) -> int | None:
    """The child's status; None where it took too long. Either way nothing of its session is left."""
    descriptor = os.pidfd_open(child)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            in_time = bool(selector.select(seconds))
    finally:
        os.close(descriptor)
    if not in_time:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return status if in_time else None


def copied(source: Path, target: Path) -> Path:
    """A fresh copy of a folder, with the times of its files: the index knows them by these."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("plots"))
    return target


def answer(command: str, folder: Path, called: Called) -> dict[str, str]:
    """What a command says of the trials, by the name of the table: what it prints, or the files that it writes.

    Without times and sizes of files. `clean`, which only shows what may go, says nothing of the trials.
    """
    if command == "clean":
        return {}
    if command == "show":
        lines = [line for line in called.out.splitlines() if not line.startswith(("files: ", "time: "))]
        return {"printed": "\n".join(lines).replace(str(folder.parent), "")}
    if command in ("status", "query", "compare", "ls", "next"):
        return {"printed": _SECONDS.sub("", called.out).replace(str(folder.parent), "")}
    place = folder / "exports" / "csv" if command == "export" else folder / "tables"
    found = {path.name: _csv_text(path) for path in sorted(place.glob("*.csv"))}
    measured = folder / "tables" / "measurements.parquet"
    if command != "export" and measured.exists():
        table = parquet.read_table(measured)
        kept = [name for name in table.column_names if name not in UNCOMPARED and name != "elapsed_seconds"]
        found[measured.name] = repr({name: table.column(name).to_pylist() for name in kept})
    return found


def _csv_text(path: Path) -> str:
    with open(path, newline="", encoding="utf-8", errors="backslashreplace") as file:
        rows = list(csv.reader(file))
    unseen = {*UNCOMPARED, "elapsed_seconds"}
    kept = [place for place, name in enumerate(rows[0] if rows else []) if name not in unseen]
    return "\n".join(",".join(row[place] for place in kept if place < len(row)) for row in rows)


def commands() -> Iterator[str]:
    """The commands that are called on each damaged folder; those that only read come first."""
    yield from _READING
    yield from ("run", "retrain")
