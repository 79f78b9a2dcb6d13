"""Does what Python does at the end of a program, in a process that ends by `os._exit`.

A fork of the server must end so: the exit handlers and finalizers that it inherited belong to the server.
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

# The base class of files in C and in Python; `issubclass` is faster for it than for io.IOBase.
_FILE: type = io.IOBase.__mro__[1]

MAX_SECONDS = 30.0
"""As long as the default of grace_seconds."""

_inherited: list[weakref.ref[Any]] = []


def remember_open_files() -> None:
    """Remember which files are open before this process is forked, and flush them.

    To be called before `gc.freeze`, after which they are not found any more.
    """
    for file in _files(gc.get_objects()):
        _inherited.append(weakref.ref(file))
        _try_to(file.flush)


def forget_what_is_inherited() -> None:
    """In a fork: forget the exit handlers and finalizers of the process that was forked."""
    atexit._clear()
    finalize: Any = weakref.finalize
    for known in list(getattr(finalize, "_registry", ())):
        known.atexit = False
    if hasattr(finalize, "_exitfunc"):
        atexit.register(finalize._exitfunc)  # for those made from now on


def end_as_a_program(code: int = 0, max_seconds: float = MAX_SECONDS) -> None:
    """Run what was registered with `atexit`, end the processes that `multiprocessing` started, write out all files.

    The trial's result is written by then. What has not ended after `max_seconds` (a queue that no process reads) is
    left, and the process ends with `code`.
    """
    watch = threading.Timer(max_seconds, _give_up, (code, max_seconds))
    watch.daemon = True
    watch.start()
    try:
        _end()
    finally:
        watch.cancel()


def _give_up(code: int, max_seconds: float) -> None:
    with contextlib.suppress(Exception):
        sys.stderr.write(
            f"tunectl: what the trial does at its end (atexit, a queue of multiprocessing, an open file) took longer "
            f"than {max_seconds:g} s; the process ends without it\n"
        )
        sys.stderr.flush()
    os._exit(code)


def _end() -> None:
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None:
        # It would wait for its processes without a limit.
        atexit.unregister(multiprocessing._exit_function)
    _try_to(atexit._run_exitfuncs)
    if multiprocessing is not None:
        for child in sys.modules["multiprocessing"].active_children():
            _try_to(child.kill)
        _try_to(multiprocessing._exit_function)
    if "logging" in sys.modules:
        _try_to(sys.modules["logging"].shutdown)
    for file in sorted(_files(gc.get_objects()), key=_depth):
        # A compressed file is complete only when it is closed, which closes the file below it too.
        if not file.closed:
            _try_to(file.close if _depth(file) == 1 else file.flush)
    for reference in _inherited:
        for file in _files([reference()]):
            _try_to(file.flush)


def _files(objects: Iterable[object]) -> Iterator[Any]:
    """The open writable files among objects."""
    for item in objects:
        if issubclass(type(item), _FILE):
            with contextlib.suppress(Exception):
                if not item.closed and item.writable():  # type: ignore[attr-defined]
                    yield item


def _depth(file: object) -> int:
    """The order of writing: text goes to a compressed file, and that to a buffered one."""
    if isinstance(file, io.TextIOWrapper):
        return 0
    return 2 if isinstance(file, (io.BufferedWriter, io.BufferedRandom, io.RawIOBase)) else 1


def _try_to(end: Callable[[], object]) -> None:
    """Call it; an exception is printed in the log, and the next step follows all the same."""
    try:
        end()
    except Exception:
        with contextlib.suppress(Exception):
            sys.stderr.write(traceback.format_exc())
