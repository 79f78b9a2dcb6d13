"""How a trial on several devices ends when its processes end in different ways, with processes that train nothing.

Real trials: tests/commands/test_devices_per_trial.py.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
from rank_calls import on_ranks

from tunectl.core.rank_exchanges import RankExchanges
from tunectl.core.records import TrialResult
from tunectl.execution import rank_processes
from tunectl.execution.protocol import EXIT_CRASHED, EXIT_STOPPED, Assignment
from tunectl.execution.rank_processes import Place, run_ranks
from tunectl.execution.trial_ends import TrialEnd
from tunectl.training.ranks import Ranks

COMPLETED = TrialEnd(0, TrialResult(trial=1, state="completed"))
STOPPED = TrialEnd(EXIT_STOPPED)
LOST = TrialEnd(EXIT_CRASHED, message="another one has ended", is_lost=True)


def failed(message: str = "ValueError: odd", *, infeasible: bool = False) -> TrialEnd:
    if infeasible:
        return TrialEnd(0, TrialResult(trial=1, state="infeasible", reason=message, message=message))
    return TrialEnd(0, TrialResult(trial=1, state="failed", reason="error", message=message))


def ended(
    rank: int, said: TrialEnd | None = None, *, status: int | None = 0, at: float = 100.0, is_killed: bool = False
) -> rank_processes._Rank:
    return rank_processes._Rank(rank, 0, io.BytesIO(), said, status, is_killed, at)


def decided(*ranks: rank_processes._Rank) -> TrialEnd:
    """The end of a trial whose ranks ended in this order."""
    causes = [rank for rank in ranks if rank.is_cause]
    return rank_processes._deciding(sorted(ranks, key=lambda rank: rank.rank), causes).end()


def test_rank_0_decides_unless_it_ended_because_of_another_one() -> None:
    assert decided(ended(1, COMPLETED), ended(0, COMPLETED)) == COMPLETED
    assert decided(ended(1, failed("first")), ended(0, failed("second"))) == failed("second")
    assert decided(ended(1, failed()), ended(0, LOST)) == failed().on_rank(1)
    assert decided(ended(2, LOST), ended(1, failed()), ended(0, None, status=9, is_killed=True)) == failed().on_rank(1)


def test_an_exception_of_rank_0_after_the_death_of_another_process_is_not_the_reason() -> None:
    end = decided(ended(1, status=int(signal.SIGKILL)), ended(0, failed("RuntimeError: unknown words of a library")))
    assert (end.code, end.result) == (EXIT_CRASHED, None)
    assert end.message.startswith("rank 1 was killed by SIGKILL")
    assert decided(ended(0, failed()), ended(1, status=int(signal.SIGKILL))) == failed()
    assert decided(ended(1, status=int(signal.SIGKILL)), ended(0, COMPLETED)) == COMPLETED


def test_what_a_killed_process_said_before_counts() -> None:
    assert decided(ended(0, COMPLETED, status=9, is_killed=True), ended(1, COMPLETED)) == COMPLETED
    assert decided(ended(1, failed(), status=9, is_killed=True), ended(0, LOST)) == failed().on_rank(1)


def test_a_trial_one_of_whose_ranks_was_stopped_in_the_users_code_is_stopped() -> None:
    assert decided(ended(1, STOPPED), ended(0, LOST)) == STOPPED
    assert decided(ended(1, LOST), ended(0, LOST)) == LOST


@pytest.fixture
def exchanges() -> Iterator[RankExchanges]:
    file = os.memfd_create("exchanges")
    found = RankExchanges(f"/proc/self/fd/{file}", 2)
    yield found
    found.close()
    os.close(file)


def running(rank: int, said: TrialEnd | None = None, at: float | None = None) -> rank_processes._Rank:
    return rank_processes._Rank(rank, 0, io.BytesIO(), said, ended_at=at)


def deadline(exchanges: RankExchanges, first: rank_processes._Rank, second: rank_processes._Rank) -> float:
    return rank_processes._deadline(first, [first, second], exchanges) - 100.0


def test_a_rank_that_works_has_no_limit_while_the_trial_can_go_on(exchanges: RankExchanges) -> None:
    assert deadline(exchanges, running(0), running(1)) == float("inf")
    assert deadline(exchanges, running(0), ended(1, COMPLETED)) == float("inf")
    assert deadline(exchanges, running(0), ended(1, STOPPED)) == float("inf")
    exchanges.begin(0, "a question", "here")
    assert deadline(exchanges, running(0), running(1)) == float("inf")


def test_a_rank_has_a_limit_when_another_one_ended_for_good(exchanges: RankExchanges) -> None:
    for end in (failed("example 52 does not fit", infeasible=True), failed(), None):
        assert deadline(exchanges, running(0), ended(1, end)) == rank_processes._WORKING_SECONDS <= 30
    exchanges.begin(0, "a question", "here")
    for end in (failed("example 52 does not fit", infeasible=True), failed(), None, COMPLETED):
        assert deadline(exchanges, running(0), ended(1, end)) == rank_processes._WAITING_SECONDS <= 10


def test_what_a_rank_does_after_its_end_has_a_limit(exchanges: RankExchanges) -> None:
    assert deadline(exchanges, running(0, COMPLETED, at=100.0), running(1)) == rank_processes._ENDING_SECONDS <= 35


def _halt() -> NoReturn:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    while True:
        signal.pause()


def _hangs_at_its_end(place: Place) -> TrialEnd:
    if place.rank == 1:
        atexit.register(_halt)
    return COMPLETED


def _infeasible_on_rank_1(place: Place) -> TrialEnd:
    if place.rank == 1:
        return failed("example 52 does not fit", infeasible=True)
    _halt()


def _dies_waited_for(place: Place) -> TrialEnd:
    exchanges = RankExchanges(place.exchanges, place.count)
    if place.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    exchanges.begin(place.rank, "a question", "here")
    _halt()


CASES: Mapping[str, Callable[[Place], TrialEnd]] = {
    "hangs at its end": _hangs_at_its_end,
    "infeasible": _infeasible_on_rank_1,
    "dies": _dies_waited_for,
}


def _all_ends(_: Ranks) -> dict[str, dict[str, Any]]:
    assignment = Assignment("trial", 1, "cpu")
    found = {}
    with patch.multiple(rank_processes, _ENDING_SECONDS=0.2, _WORKING_SECONDS=0.2, _WAITING_SECONDS=0.2):
        for name, case in CASES.items():
            end = run_ranks(2, assignment, lambda: False, lambda _, place, case=case: case(place))  # type: ignore[misc]
            found[name] = end.to_json()
    return found


def test_processes_that_hang_are_ended_and_the_trial_has_the_end_that_was_said() -> None:
    found = {name: TrialEnd.from_json(end) for name, end in on_ranks(_all_ends, [1])[1][0].items()}
    assert found["hangs at its end"] == COMPLETED
    assert found["infeasible"] == failed("example 52 does not fit", infeasible=True).on_rank(1)
    assert found["dies"].message.startswith("rank 1 was killed by SIGKILL")
