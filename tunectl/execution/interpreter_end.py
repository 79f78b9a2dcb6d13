"""What Python does at the end of a program, for a process that ends by `os._exit`: a fork of the server must.

A fork would otherwise go on as the server, whose exit handlers and finalizers are for all trials together.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Of files in C and in Python alike; unlike io.IOBase itself it is quick to ask about.
_FILE: type = io.IOBase.__mro__[1]

MOST_SECONDS = 30.0
"""As long as a trial that is to stop may take to save itself, by default."""

_inherited: list[weakref.ref[Any]] = []


def remember_open_files() -> None:
    """Remember which files are open before this process is forked, and leave nothing in their buffers.

    Before `gc.freeze`, behind which they are not found any more.
    """
    for file in _files(gc.get_objects()):
        _inherited.append(weakref.ref(file))
        _tried(file.flush)


def forget_what_is_inherited() -> None:
    """In a fork: leave to the process that was forked what it has registered for its own end."""
    atexit._clear()
    finalize: Any = weakref.finalize
    for known in list(getattr(finalize, "_registry", ())):
        known.atexit = False
    if hasattr(finalize, "_exitfunc"):
        atexit.register(finalize._exitfunc)  # for those made from now on


def end_as_a_program(code: int = 0, most_seconds: float = MOST_SECONDS) -> None:
    """Run what was registered with `atexit`, end the processes that `multiprocessing` started, write out all files.

    The trial's result is written by then: what has not ended after `most_seconds` (a queue that nobody empties) is
    left as it is, and the process ends with `code`.
    """
    watch = threading.Timer(most_seconds, _give_up, (code, most_seconds))
    watch.daemon = True
    watch.start()
    try:
        _end()
    finally:
        watch.cancel()


def _give_up(code: int, most_seconds: float) -> None:
    with contextlib.suppress(Exception):
        sys.stderr.write(
            f"tunectl: what the trial left for its end (atexit, a queue of multiprocessing, an open file) did not end "
            f"in {most_seconds:g} s; the process ends without it\n"
        )
        sys.stderr.flush()
    os._exit(code)


def _end() -> None:
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None:
        # It would wait for its processes, however long they run.
        atexit.unregister(multiprocessing._exit_function)
    _tried(atexit._run_exitfuncs)
    if multiprocessing is not None:
        for child in sys.modules["multiprocessing"].active_children():
            _tried(child.kill)
        _tried(multiprocessing._exit_function)
    if "logging" in sys.modules:
        _tried(sys.modules["logging"].shutdown)
    for file in sorted(_files(gc.get_objects()), key=_depth):
        # A compressed file is whole when it is closed, and the file below it is closed with it.
        if not file.closed:
            _tried(file.close if _depth(file) == 1 else file.flush)
    for reference in _inherited:
        for file in _files([reference()]):
            _tried(file.flush)


def _files(objects: Iterable[object]) -> Iterator[Any]:
    """The open files among objects."""
    for item in objects:
        if issubclass(type(item), _FILE):
            with contextlib.suppress(Exception):
                if not item.closed and item.writable():  # type: ignore[attr-defined]
                    yield item


def _depth(file: object) -> int:
    """Text is written to what compresses it, and that to what has a buffer."""
    if isinstance(file, io.TextIOWrapper):
        return 0
    return 2 if isinstance(file, (io.BufferedWriter, io.BufferedRandom, io.RawIOBase)) else 1


def _tried(end: Callable[[], object]) -> None:
    """Do it; what goes wrong is said in the log and keeps nothing else from its end."""
    try:
        end()
    except Exception:
        with contextlib.suppress(Exception):
            sys.stderr.write(traceback.format_exc())
