"""An exception of the user's code, as people are told of it."""

from __future__ import annotations

import json

import pytest

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


def test_torch_s_frames_are_not_the_user_s(tmp_path, monkeypatch):
    torch = tmp_path / "site-packages" / "torch"
    inner = user_code(
        torch, "def linear(x):\n    raise RuntimeError('shapes cannot be multiplied')\n", "nn/functional.py"
    )
    space = user_code(tmp_path / "home", "def model(linear):\n    return linear(1)\n")
    monkeypatch.setattr(failures, "_site_packages", lambda: (tmp_path / "site-packages",))
    failure = failures.describe(caught(lambda: space["model"](inner["linear"])))
    assert failure.where == f"{tmp_path}/home/my_workload.py:2"


def test_a_workload_installed_as_a_package_is_found_where_no_other_file_is(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "_site_packages", lambda: (tmp_path / "site-packages",))
    package = user_code(tmp_path / "site-packages", "def factory():\n    raise ValueError\n", "their_package/w.py")
    error = caught(package["factory"])
    error.__traceback__ = error.__traceback__.tb_next  # without this test's own frame
    failure = failures.describe(error)
    assert failure.where == f"{tmp_path}/site-packages/their_package/w.py:2"
    assert failure.message == "ValueError"


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
    failure = failures.describe(ValueError("first\n\n  second " + "x" * 10_000))
    assert failure.message.startswith("ValueError: first second xxx")
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


def test_machinery_is_told_from_people_s_files():
    assert failures._is_machinery(json.__file__)
    assert failures._is_machinery("<frozen importlib._bootstrap>")
    assert failures._is_machinery(failures.__file__)
    assert not failures._is_machinery("/home/me/torch/train.py")


@pytest.mark.parametrize("room", ["training/loop.py", "workloads/loading.py", "core/errors.py"])
def test_tunectl_s_own_frames_are_machinery_but_its_built_in_workloads_are_not(room):
    from pathlib import Path

    import tunectl

    home = Path(tunectl.__file__).parent
    assert failures._is_machinery(str(home / room))
    assert not failures._is_machinery(str(home / "workloads" / "digits.py"))
