"""`tunectl worker` whose trials do what toy_worker says: a program with the arguments of `tunectl`.

An engine starts it as `python -P toy_worker_program.py -m tunectl worker FOLDER …`.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from unittest import mock

from tunectl.cli.main import main
from tunectl.commands import worker
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.trial_worker import TrialWorker

TESTS = Path(__file__).parent.parent


def toy_backend() -> LocalBackend:
    return LocalBackend({**os.environ, "PYTHONPATH": str(TESTS)}, "toy_worker")


def run() -> None:
    """Run `tunectl` with the arguments of this process."""
    toys = functools.partial(TrialWorker, make_backend=toy_backend)
    with mock.patch.object(worker, "TrialWorker", toys):
        main()


if __name__ == "__main__":
    del sys.argv[1:3]
    run()
