"""The place in the user's code at which an exception was raised."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

import tunectl
from tunectl.core import exception_place
from tunectl.core.errors import WorkloadError
from tunectl.core.exception_place import innermost_frame, is_machinery, user_frame


def caught(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def without_the_test_s_frames(error):
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return error.with_traceback(trace)


def user_code(file, source):
    space: dict = {}
    exec(compile(source, str(file), "exec"), space)
    return space


RAISES = "def f(*_):\n    raise ValueError('no')\n"
CALLS = "def f(inner):\n    return inner()\n"


def test_the_last_of_several_frames_of_the_user_is_named(tmp_path):
    space = user_code(tmp_path / "w.py", "def f():\n    return g()\ndef g():\n    return {}['x']\n")
    assert user_frame(caught(space["f"])) == f"{tmp_path}/w.py:4"


def test_an_exception_of_the_standard_library_is_placed_where_the_user_called_it(tmp_path):
    space = user_code(tmp_path / "w.py", "import json\ndef f():\n    return json.loads('{')\n")
    assert user_frame(caught(space["f"])) == f"{tmp_path}/w.py:3"


def test_a_call_of_a_built_in_workload_is_placed_where_the_user_wrote_it(tmp_path):
    inside = "from tunectl.workloads.keyword_checks import check_choice\n"
    space = user_code(tmp_path / "w.py", inside + "def f():\n    check_choice('init', 'heh', ['he_normal'])\n")
    assert user_frame(caught(space["f"])) == f"{tmp_path}/w.py:3"


@pytest.mark.parametrize("packages", ["site-packages", "dist-packages"])
def test_frames_of_installed_packages_are_not_the_user_s_if_there_is_another(tmp_path, packages):
    inner = user_code(tmp_path / packages / "theirs" / "a.py", RAISES)
    space = user_code(tmp_path / "w.py", CALLS)
    assert user_frame(caught(lambda: space["f"](inner["f"]))) == f"{tmp_path}/w.py:2"


def test_a_workload_installed_as_a_package_is_found_if_there_is_no_other_frame(tmp_path):
    torch = user_code(tmp_path / "site-packages" / "torch" / "nn" / "functional.py", RAISES)
    space = user_code(tmp_path / "site-packages" / "theirs" / "w.py", CALLS)
    error = without_the_test_s_frames(caught(lambda: space["f"](torch["f"])))
    assert user_frame(error) == f"{tmp_path}/site-packages/theirs/w.py:2"


def test_a_torch_built_from_source_is_torch(tmp_path, monkeypatch):
    module = types.ModuleType("torch")
    module.__file__ = str(tmp_path / "src" / "torch" / "__init__.py")
    monkeypatch.setitem(sys.modules, "torch", module)
    assert is_machinery(str(tmp_path / "src" / "torch" / "nn" / "modules" / "linear.py"))
    assert not is_machinery(str(tmp_path / "src" / "train.py"))


def test_a_cause_s_frames_come_before_those_of_the_exception_around_it(tmp_path):
    space = user_code(tmp_path / "w.py", RAISES)

    def load():
        try:
            space["f"]()
        except ValueError as error:
            raise WorkloadError("the workload raised") from error

    assert user_frame(caught(load)) == f"{tmp_path}/w.py:2"


def test_a_syntax_error_is_where_the_syntax_is_unless_it_is_in_no_file(tmp_path):
    assert (
        user_frame(caught(lambda: compile("x = 1\ndef f(:\n", str(tmp_path / "w.py"), "exec"))) == f"{tmp_path}/w.py:2"
    )
    space = user_code(tmp_path / "w.py", "def f():\n    return eval('1 +')\n")
    assert user_frame(caught(space["f"])) == f"{tmp_path}/w.py:2"


def test_without_a_frame_of_the_user_the_innermost_is_named_except_for_tunectl_s_own_errors():
    error = without_the_test_s_frames(caught(lambda: json.loads("{")))
    assert user_frame(error) == ""
    assert innermost_frame(error).startswith(f"{Path(json.__file__).parent}/decoder.py:")
    assert innermost_frame(WorkloadError("no metric").with_traceback(error.__traceback__)) == ""
    assert innermost_frame(ValueError("never raised")) == ""


def test_files_of_python_torch_and_tunectl_are_not_the_user_s():
    assert is_machinery(json.__file__)
    assert is_machinery("<frozen importlib._bootstrap>")
    assert is_machinery(exception_place.__file__)
    assert not is_machinery("/home/me/torch/train.py")
    assert not is_machinery("/home/me/tunectl/train.py")


@pytest.mark.parametrize("room", ["training/loop.py", "workloads/workload_import.py", "core/errors.py", "cli/main.py"])
def test_tunectl_s_own_frames_are_machinery_but_its_built_in_workloads_are_not(room):
    home = Path(tunectl.__file__).parent
    assert is_machinery(str(home / room))
    assert not is_machinery(str(home / "workloads" / "digits.py"))


def test_frames_that_the_text_of_an_exception_quotes_are_further_in_than_its_own(tmp_path):
    space = user_code(tmp_path / "w.py", "def f(text):\n    raise ValueError(text)\n")
    quoted = (
        "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        f'  File "{tmp_path}/data.py", line 9, in __getitem__\n  File "{json.__file__}", line 3\nValueError: bad\n'
    )
    error = caught(lambda: space["f"](quoted))
    assert user_frame(error) == f"{tmp_path}/data.py:9"
    assert not exception_place.is_own(without_the_test_s_frames(error))


def test_the_place_of_a_group_is_that_of_its_first_exception(tmp_path):
    space = user_code(tmp_path / "w.py", RAISES + "def g(error):\n    raise ExceptionGroup('g', [error])\n")
    assert user_frame(caught(lambda: space["g"](caught(space["f"])))) == f"{tmp_path}/w.py:2"
