"""Exceptions of the user's code in words, what the end of a process means, and which failures have one cause."""

from __future__ import annotations

import signal

import pytest

from tunectl.core.errors import WorkloadError
from tunectl.execution import failures
from tunectl.execution.backends.backend import ProcessEnded
from tunectl.execution.failures import CircuitBreaker, CommonFailure, explain_end, was_stopped
from tunectl.execution.protocol import EXIT_BROKEN, EXIT_CRASHED, EXIT_STOPPED


def caught(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def user_code(tmp_path, source, name="my_workload.py"):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    space: dict = {}
    exec(compile(source, str(file), "exec"), space)
    return space


def test_the_innermost_frame_of_the_user_s_file_is_named(tmp_path):
    space = user_code(
        tmp_path, "import json\ndef factory():\n    return helper()\ndef helper():\n    return json.loads('{')\n"
    )
    failure = failures.describe(caught(space["factory"]))
    assert failure.where == f"{tmp_path}/my_workload.py:5", "not json's own, and not this test's"
    assert failure.message.startswith("JSONDecodeError: Expecting property name")
    assert "Traceback (most recent call last)" in failure.text
    assert "json/decoder.py" in failure.text, "the text is whole"


def test_of_a_message_of_several_lines_the_first_says_why_and_a_loader_s_is_the_exception_of_its_process():
    cuda = RuntimeError(
        "CUDA error: device-side assert triggered\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    )
    assert failures.describe(cuda).message == "RuntimeError: CUDA error: device-side assert triggered"
    loader = ValueError(
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "data.py", line 9, in __getitem__\n    raise ValueError("bad label\\nat 3")\n'
        "ValueError: bad label\nat 3\n"
    )
    assert failures.describe(loader).message == "ValueError: bad label"
    assert failures.describe(AssertionError()).message == "AssertionError"


def test_the_message_of_a_workload_error_is_kept_and_its_cause_gives_the_place(tmp_path):
    space = user_code(tmp_path, "def factory():\n    return {}['seed']\n")

    def load():
        try:
            space["factory"]()
        except KeyError as error:
            raise WorkloadError("the workload raised KeyError") from error

    failure = failures.describe(caught(load))
    assert failure.message == "the workload raised KeyError"
    assert failure.where == f"{tmp_path}/my_workload.py:2"


def test_a_syntax_error_is_where_the_syntax_is(tmp_path):
    error = caught(lambda: compile("def f(:\n", str(tmp_path / "w.py"), "exec"))
    assert failures.describe(error).where == f"{tmp_path}/w.py:1"


def test_a_message_of_tunectl_s_own_needs_no_place():
    from tunectl.execution import protocol

    error = caught(lambda: protocol.Assignment.from_json({}))
    error.__traceback__ = error.__traceback__.tb_next.tb_next  # a frame of tunectl's alone
    assert failures.describe(error).where.startswith(protocol.__file__)
    told = WorkloadError("no metric").with_traceback(error.__traceback__)
    assert failures.describe(told).where == ""


def test_messages_are_one_line_and_of_bounded_length():
    failure = failures.describe(ValueError("first,  second " + "x" * 10_000 + "\n\nthird"))
    assert failure.message.startswith("ValueError: first, second xxx")
    assert len(failure.message) == failures.MAX_MESSAGE_CHARACTERS
    assert failure.message.endswith("…")
    assert "x" * 10_000 in failure.text


def test_an_exception_that_cannot_even_be_shown_is_described():
    class SpitefulError(Exception):
        def __str__(self):
            raise RuntimeError("no")

    failure = failures.describe(SpitefulError())
    assert failure.message == "SpitefulError: (its message cannot be shown)"
    assert failure.where == ""


def test_a_very_deep_recursion_is_described():
    def deep():
        return deep()

    failure = failures.describe(caught(deep))
    assert failure.message.startswith("RecursionError: maximum recursion depth")
    assert failure.where.endswith(".py:" + failure.where.rsplit(":", 1)[1])


def test_a_crash_that_the_worker_reports_is_no_fault_of_the_code():
    assert "its code is not at fault" in explain_end(ProcessEnded(1, EXIT_CRASHED, None, 1.0))


def test_a_job_that_is_stopped_as_a_whole_takes_the_loader_processes_first_which_is_no_crash():
    assert was_stopped(ProcessEnded(1, EXIT_CRASHED, None, 1.0))
    assert was_stopped(ProcessEnded(1, EXIT_STOPPED, None, 1.0))
    assert was_stopped(ProcessEnded(1, None, signal.SIGKILL, 1.0))
    assert not was_stopped(ProcessEnded(1, EXIT_BROKEN, None, 1.0))
    assert not was_stopped(ProcessEnded(1, None, signal.SIGSEGV, 1.0))


def tripped(*messages: str, reason: str = "exit_code_1", where: str | tuple[str, ...] = "") -> CommonFailure | None:
    breaker = CircuitBreaker()
    places = (where,) * len(messages) if isinstance(where, str) else where
    for trial, (message, place) in enumerate(zip(messages, places, strict=True)):
        breaker.trial_ended(trial, "failed", reason, message, place)
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
    assert found.message == messages[0], "the message is that of the first trial"


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
        breaker.trial_ended(trial, "failed", f"exit_code_{code}", f"broken (exit code {code})", "")
    assert breaker.tripped is None


def test_a_very_long_message_is_compared_in_a_moment() -> None:
    alike = "'" * 400 + "/" * 400 + "1-" * 400
    assert tripped(*(alike + f"/{end}" for end in "abc")) is not None
    assert tripped(*(alike + f" {end}" for end in "abc")) is None
