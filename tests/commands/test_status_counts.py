"""Tests commands/status.py: what `tunectl status` says about trials that are neither running nor ended."""

from __future__ import annotations

from typing import get_args

from tunectl.commands.status import StudyStatus
from tunectl.core.objective import Objective
from tunectl.core.records import State


def status(interrupted: int = 0, **counts: int) -> str:
    every = {state: counts.get(state, 0) for state in get_args(State)}
    objective = Objective("valid/loss", "minimize")
    return StudyStatus("s", objective, False, 9, every, (), None, (), interrupted=interrupted).in_words


def test_trials_that_the_next_run_continues_are_not_among_those_that_were_stopped_for_good():
    assert status(3, cancelled=4, pending=5, stopped=1) == "5 pending, 1 stopped, 3 interrupted, 1 cancelled"
    assert status(2, cancelled=2) == "2 interrupted"
    assert status(cancelled=2, completed=1) == "1 completed, 2 cancelled"
    assert status() == "none yet"
