"""The data-loader processes of a trial: they end with it, and their death is not its fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tunectl.core.errors import LoaderError
from tunectl.core.parent_death import die_with_parent

# How torch begins when it says so, from wherever in this process SIGCHLD found it (torch.utils.data._utils.
# signal_handling) or a batch was waited for (torch.utils.data.dataloader).
_DIED = re.compile(r"DataLoader worker \(pid")
_HUNG_UP = (ConnectionError, EOFError, FileNotFoundError)


class EndWithTrial:
    """What a loader process does first, as torch's `worker_init_fn`: it dies with the process `trial`.

    By itself it would notice after seconds, or never while its data set waits for something.
    """

    def __init__(self, trial: int) -> None:
        self._trial = trial

    def __call__(self, _worker: int) -> None:
        die_with_parent(self._trial)


def loader_death(error: BaseException) -> str | None:
    """What torch says of a loader process that died, where this exception came of it; else None.

    It is raised wherever this process stands: in the workload's code too, which may have made another exception of it.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, RuntimeError) and _DIED.match(str(current)):
            return str(current).splitlines()[0]
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


@contextmanager
def fetching() -> Iterator[None]:
    """Raise LoaderError where a batch cannot be fetched since the process that holds its memory is gone.

    Torch looks for dead loaders then, but one may have closed its sockets and not be dead yet.
    """
    try:
        yield
    except _HUNG_UP as error:
        # Thus torch begins when it hands on what the data set raised.
        if str(error).startswith("Caught "):
            raise
        raise LoaderError(f"a data-loader process hung up: {type(error).__name__}: {error}") from error


@contextmanager
def loader_deaths_told() -> Iterator[None]:
    """Raise LoaderError instead of what the death of a loader process brought about."""
    try:
        yield
    except LoaderError:
        raise
    except Exception as error:
        said = loader_death(error)
        if said is None:
            raise
        raise LoaderError(said) from error
