"""An exception of the user's code, as people are told of it."""

from __future__ import annotations

from tunectl.core.errors import WorkloadError
from tunectl.execution import failures


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


def test_a_workload_error_speaks_for_itself_and_its_cause_tells_the_place(tmp_path):
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
    from tunectl.core.objective import Objective  # a frame of tunectl's alone
    from tunectl.execution import protocol

    assert Objective
    error = caught(lambda: protocol.Assignment.from_json({}))
    error.__traceback__ = error.__traceback__.tb_next.tb_next
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
