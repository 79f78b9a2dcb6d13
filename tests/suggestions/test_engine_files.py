"""What the engine reads and writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunectl.core.typed_fields import DamagedError
from tunectl.suggestions.engine_files import (
    EngineAnswer,
    EngineDimension,
    EngineRequest,
    FinishedPoint,
    read_answer,
    read_request,
)

REQUEST = EngineRequest(
    seed=3,
    points=2,
    dimensions=(EngineDimension("learning_rate", "real"), EngineDimension("layers", "whole", 1, 8, log=True)),
    finished=(FinishedPoint((0.1, 2), 0.25), FinishedPoint((0.9, 4), None)),
    pending=((0.5, 1),),
)


def test_a_request_and_an_answer_are_read_as_they_were_written() -> None:
    assert read_request(REQUEST.encoded()) == REQUEST
    answer = EngineAnswer("optuna 5.0.0 GPSampler", ((0.1, 3),), moved=(0,))
    assert read_answer(answer.encoded()) == answer


def test_the_hash_is_that_of_everything_that_is_asked() -> None:
    assert replace(REQUEST).data == REQUEST.data
    others = [
        replace(REQUEST, seed=4),
        replace(REQUEST, points=3),
        replace(REQUEST, pending=()),
        replace(REQUEST, finished=REQUEST.finished[::-1]),
        replace(REQUEST, finished=(REQUEST.finished[0], replace(REQUEST.finished[1], cost=0.5))),
    ]
    assert len({REQUEST.data, *(other.data for other in others)}) == 1 + len(others)


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(DamagedError, match="not JSON"):
        read_answer(b"Traceback (most recent call last):")
    with pytest.raises(DamagedError, match="points"):
        read_answer(b'{"engine": "x"}')
