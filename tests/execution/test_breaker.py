"""Which failures of the first trials are one: what they say, without what differs from trial to trial."""

from __future__ import annotations

import pytest

from tunectl.execution.breaker import CircuitBreaker, CommonFailure


def tripped(*messages: str, reason: str = "exit_code_1", where: str | tuple[str, ...] = "") -> CommonFailure | None:
    breaker = CircuitBreaker()
    places = (where,) * len(messages) if isinstance(where, str) else where
    for trial, (message, place) in enumerate(zip(messages, places, strict=True)):
        breaker.take(trial, "failed", reason, message, place)
    return breaker.tripped


@pytest.mark.parametrize(
    "messages",
    [
        ("error: cannot open /tmp/job_a1/x.csv", "error: cannot open /tmp/job_b2/x.csv", "error: cannot open C:\\x"),
        ("cannot read '/my data/a.csv' (exit code 1)", "cannot read '/b.csv' (exit code 1)",
         "cannot read 'a/b c' (exit code 1)"),
        ("loss 0.25 at step 3", "loss 1e-3 at step 17", "loss nan at step 1,000"),
        ("job 3f2a9c01 lost", "job deadbeef lost", "job 99aa77cc lost"),
        ("run 6f9619ff-8b86-d011-b42d-00c04fc964ff is gone", "run 00000000-0000-0000-0000-000000000000 is gone",
         "run a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 is gone"),
        ("no space in tmpabcdefgh", "no space in tmpx_yzuvwq", "no space in tmpqwertyui"),
        ("shapes (3, 4) and (5,)", "shapes (3, 4, 5) and (6,)", "shapes (1,) and (2, 7)"),
        ("<Net object at 0x7f0c>", "<Net object at 0xdead10>", "<Net object at 0x1>"),
        ("[2026-01-01 10:00:00] killed", "[2026-01-01 10:00:07] killed", "[2026-12-31 23:59:59] killed"),
        ("ended with no metric; its last lines were: saved to a", "ended with no metric; its last lines were: b / c",
         "ended with no metric; its last lines were: done"),
        ("was killed by SIGSEGV; its last line: a", "was killed by SIGSEGV; its last line: b", "was killed by SIGSEGV"),
    ],
)  # fmt: skip
def test_messages_that_differ_by_numbers_paths_and_ids_are_one_cause(messages: tuple[str, ...]) -> None:
    found = tripped(*messages)
    assert found is not None
    assert found.trials == (0, 1, 2)
    assert found.message == messages[0], "what is told is the first one's own message"


@pytest.mark.parametrize(
    "messages",
    [
        ("out of memory", "out of memory", "no such device"),
        ("cannot open /a/b", "cannot open /a/c", "cannot write /a/d"),
        ("unknown optimizer adam", "unknown optimizer sgd", "unknown optimizer lion"),
        ("3 of 4 ranks failed", "1 of 4 ranks failed", "1 of 4 disks failed"),
    ],
)
def test_messages_that_differ_by_words_are_several_causes(messages: tuple[str, ...]) -> None:
    assert tripped(*messages) is None


def test_an_exception_is_known_by_its_class_and_its_line_wherever_the_file_was_copied_to() -> None:
    messages = ("ValueError: a", "ValueError: b", "ValueError: c")
    assert tripped(*messages, where=("/tmp/a1/train.py:3", "/tmp/b2/train.py:3", "/tmp/c3/train.py:3")) is not None
    assert tripped(*messages, where=("train.py:3", "train.py:3", "train.py:4")) is None
    assert tripped("ValueError: a", "KeyError: a", "ValueError: a", where="train.py:3") is None


def test_another_exit_code_is_another_cause() -> None:
    breaker = CircuitBreaker()
    for trial, code in enumerate((1, 1, 2)):
        breaker.take(trial, "failed", f"exit_code_{code}", f"broken (exit code {code})", "")
    assert breaker.tripped is None


def test_a_very_long_message_is_compared_in_a_moment() -> None:
    alike = "'" * 400 + "/" * 400 + "1-" * 400
    assert tripped(*(alike + f"/{end}" for end in "abc")) is not None
    assert tripped(*(alike + f" {end}" for end in "abc")) is None
