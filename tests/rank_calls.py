"""Calls of a function in several ranks at once, each a real process, as in a trial on several devices.

The tests' own process has threads, of which a fork knows nothing. So another one, which has loaded torch once for all
calls, forks a process for each call, and that one the ranks. `python tests/rank_calls.py PARENT` starts it.
"""

import atexit
import functools
import importlib
import os
import pickle
import select
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from tunectl.core.files import unnamed_file
from tunectl.core.parent_death import die_with_parent

PATIENCE_SECONDS = 300.0


def on_ranks(function: Callable[..., Any], counts: Sequence[int], *arguments: Any) -> dict[int, list[Any]]:
    """What `function(ranks, *arguments)` gives in each rank, in rank order, for each of these numbers of ranks.

    The function is one of a module of the tests. Raises AssertionError, with the traceback, where it raises.
    """
    asked = (sys.path, function.__module__, function.__qualname__, list(counts), arguments)
    found, error = _warm_process()(asked)
    assert not error, error
    results: dict[int, list[Any]] = found
    return results


class _WarmProcess:
    """The process that has loaded torch."""

    def __init__(self) -> None:
        self._errors = unnamed_file()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        )
        atexit.register(self.close)

    def __call__(self, asked: tuple[Any, ...]) -> tuple[Any, str]:
        """The answer to a call, with what went wrong, "" where nothing did."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(asked, self._process.stdin)
        self._process.stdin.flush()
        try:
            is_there = select.select([self._process.stdout], [], [], PATIENCE_SECONDS)[0]
        except BaseException:
            # A test that was given up: its answer is not that of the next call.
            self.close()
            raise
        if not is_there:
            self.close()
            return None, f"no answer after {PATIENCE_SECONDS:g} s: {self._said()}"
        try:
            answer: tuple[Any, str] = pickle.load(self._process.stdout)
        except EOFError:
            return None, self._said()
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        _warm_process.cache_clear()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")


@functools.cache
def _warm_process() -> _WarmProcess:
    return _WarmProcess()


def _answer(rank: int, count: int, paths: Sequence[str], function: Callable[..., Any], arguments: Any) -> bytes:
    import torch

    from tunectl.core.rank_exchanges import RankExchanges
    from tunectl.training.ranks import SINGLE, ProcessRanks

    torch.set_num_threads(1)
    try:
        meeting, exchanges = paths
        ranks = SINGLE if count == 1 else ProcessRanks(rank, count, meeting, "cpu", RankExchanges(exchanges, count))
        return pickle.dumps((function(ranks, *arguments), ""))
    except BaseException:
        return pickle.dumps((None, f"rank {rank} of {count}:\n{traceback.format_exc()}"))


def _results(count: int, function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[list[Any], str]:
    paths = [f"/proc/self/fd/{os.memfd_create('shared')}" for _ in range(2)]
    parent = os.getpid()
    ends = [os.pipe() for _ in range(count)]
    for rank, (_, writing) in enumerate(ends):
        if os.fork() == 0:
            die_with_parent(parent)
            for end in {end for both in ends for end in both} - {writing}:
                os.close(end)
            answer = _answer(rank, count, paths, function, arguments)
            with os.fdopen(writing, "wb") as file:
                file.write(answer)
            os._exit(0)
    found = []
    for rank, (reading, writing) in enumerate(ends):
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            found.append(pickle.loads(file.read() or pickle.dumps((None, f"rank {rank} of {count} died"))))
    for _ in ends:
        os.wait()
    return [result for result, _ in found], "\n".join(error for _, error in found if error)


def _answer_call(function: Callable[..., Any], counts: Sequence[int], arguments: Sequence[Any], to: IO[bytes]) -> None:
    found, errors = {}, list[str]()
    for count in counts:
        found[count], error = _results(count, function, arguments)
        errors += [error] if error else []
    pickle.dump((found, "\n".join(errors)), to)
    to.flush()


def _serve(parent: int) -> NoReturn:
    die_with_parent(parent)
    from warm_server import unflushed

    import tunectl.training.trial  # noqa: F401  (torch and all that a trial needs, once)

    os.fsync = unflushed
    own = os.getpid()
    while True:
        path, module, name, counts, arguments = pickle.load(sys.stdin.buffer)
        sys.path[:] = path
        function = getattr(importlib.import_module(module), name)
        pid = os.fork()
        if pid == 0:
            die_with_parent(own)
            _answer_call(function, counts, arguments, sys.stdout.buffer)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            sys.exit(f"the process of the call ended with status {status}")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
