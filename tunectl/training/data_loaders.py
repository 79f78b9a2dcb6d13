"""The data-loader processes of a trial: they end with it, and the trial does not fail where one of them dies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tunectl.core.errors import LoaderError
from tunectl.core.parent_death import die_with_parent

# The beginning of torch's message. It raises it in the handler of SIGCHLD (torch.utils.data._utils.signal_handling),
# wherever this process is, or while it waits for a batch (torch.utils.data.dataloader).
_DIED = re.compile(r"DataLoader worker \(pid")
_HUNG_UP = (ConnectionError, EOFError, FileNotFoundError)


class EndWithTrial:
    """The `worker_init_fn` of a loader process: it dies with the process `trial`.

    Without it, the process would notice the trial's end after seconds, or never while its data set waits.
    """

    def __init__(self, trial: int) -> None:
        self._trial = trial

    def __call__(self, _worker: int) -> None:
        """Called in each data-loader process when it begins."""
        die_with_parent(self._trial)


def loader_death(error: BaseException) -> str | None:
    """Torch's message about a loader process that died, where it caused this exception; else None.

    Torch raises it wherever this process is: also in the workload's code, which may turn it into another exception.
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
    """Raise LoaderError where a batch cannot be fetched because the process with its memory has ended.

    Torch checks for dead loaders then, but one may have closed its sockets and still be ending.
    """
    try:
        yield
    except _HUNG_UP as error:
        # Torch's prefix for an exception of the data set itself.
        if str(error).startswith("Caught "):
            raise
        raise LoaderError(f"a data-loader process closed its connection: {type(error).__name__}: {error}") from error


@contextmanager
def loader_deaths_raised() -> Iterator[None]:
    """Raise LoaderError in place of any exception that the death of a loader process caused."""
    try:
        yield
    except LoaderError:
        raise
    except Exception as error:
        said = loader_death(error)
        if said is None:
            raise
        raise LoaderError(said) from error
