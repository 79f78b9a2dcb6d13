"""Calls of a function in several ranks at once, each a real process, as in a trial on several devices.

The tests' own process has threads, of which a fork knows nothing. So another one is started, which forks the ranks.
"""

import importlib
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunectl.core.parent_death import die_with_parent


def on_ranks(function: Callable[..., Any], counts: Sequence[int], *arguments: Any) -> dict[int, list[Any]]:
    """What `function(ranks, *arguments)` gives in each rank, in rank order, for each of these numbers of ranks.

    The function is one of a module of the tests. Raises AssertionError, with the traceback, where it raises.
    """
    call = pickle.dumps((function.__module__, function.__qualname__, list(counts), arguments))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__))], input=call, capture_output=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[int, list[Any]] = pickle.loads(done.stdout)
    return found


def _answer(rank: int, count: int, meeting: str, function: Callable[..., Any], arguments: Sequence[Any]) -> bytes:
    import torch

    from tunectl.training.ranks import SINGLE, ProcessRanks

    torch.set_num_threads(1)
    try:
        ranks = SINGLE if count == 1 else ProcessRanks(rank, count, meeting, "cpu")
        return pickle.dumps((function(ranks, *arguments), ""))
    except BaseException:
        return pickle.dumps((None, f"rank {rank} of {count}:\n{traceback.format_exc()}"))


def _results(count: int, function: Callable[..., Any], arguments: Sequence[Any]) -> list[Any]:
    meeting, parent = os.memfd_create("meeting"), os.getpid()
    ends = [os.pipe() for _ in range(count)]
    for rank, (_, writing) in enumerate(ends):
        if os.fork() == 0:
            die_with_parent(parent)
            for end in {end for both in ends for end in both} - {writing}:
                os.close(end)
            answer = _answer(rank, count, f"/proc/self/fd/{meeting}", function, arguments)
            with os.fdopen(writing, "wb") as file:
                file.write(answer)
            os._exit(0)
    found = []
    for reading, writing in ends:
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            found.append(pickle.loads(file.read()))
    for _ in ends:
        os.wait()
    errors = [error for _, error in found if error]
    if errors:
        sys.exit("\n".join(errors))
    return [result for result, _ in found]


def _main() -> None:
    module, name, counts, arguments = pickle.loads(sys.stdin.buffer.read())
    import torch  # noqa: F401  (once, before the ranks are forked)

    function = getattr(importlib.import_module(module), name)
    found = {count: _results(count, function, arguments) for count in counts}
    sys.stdout.buffer.write(pickle.dumps(found))


if __name__ == "__main__":
    _main()
