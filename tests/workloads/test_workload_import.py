"""Importing a user's module and finding its factory."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import default_collate

from tunectl.core.errors import WorkloadError
from tunectl.core.records import WorkloadReference
from tunectl.workloads.workload_import import load_factory, preload
from tunectl.workloads.workload_reference import parse_reference

_PLAIN = "def build(*, width=1):\n    return ('built', width)\n"


@pytest.fixture
def folder(tmp_path):
    """A folder for a study's files; modules loaded from it are forgotten afterwards."""
    path, modules = list(sys.path), dict(sys.modules)
    yield tmp_path.resolve()
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        if str(tmp_path.resolve()) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
    assert {name for name, module in modules.items() if sys.modules.get(name) is not module} == set()


def _write(folder: Path, name: str, text: str = _PLAIN) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def _refer(folder: Path, text: str) -> WorkloadReference:
    return parse_reference(text, folder / "study.yaml", folder / "current")


def _load(folder: Path, text: str) -> Callable[..., Any]:
    """The factory; most of those here build no workload."""
    return load_factory(_refer(folder, text))


def _refuse(folder: Path, text: str) -> WorkloadError:
    with pytest.raises(WorkloadError) as caught:
        _load(folder, text)
    assert text in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "name",
    ["mine.py", "sub/my file.py", "naïve Ω/größe.py", "a.b/c.d.py", "1st-try.py", "numpy.py", "json.py", "yaml.py"],
)
def test_a_file_of_any_name_is_loaded_and_takes_nobodys_place(folder, name):
    import json

    import numpy

    _write(folder, name)
    assert _load(folder, f"./{name}:build")(width=3) == ("built", 3)
    assert sys.modules["json"] is json
    assert sys.modules["numpy"] is numpy


def test_a_file_is_loaded_once(folder):
    _write(folder, "once_stub.py", "things = []\ndef build(): return things\n")
    first, second = (_load(folder, "./once_stub.py:build") for _ in range(2))
    assert first is second


def test_two_files_of_one_name_stay_apart(folder):
    for name in ("a", "b"):
        _write(folder, f"{name}/same_stub.py", f"import helper_{name}_stub\ndef build(): return '{name}'\n")
        _write(folder, f"{name}/helper_{name}_stub.py", "")
    loaded = [_load(folder, f"./{name}/same_stub.py:build")() for name in ("a", "b", "a")]
    assert loaded == ["a", "b", "a"]


def test_siblings_of_the_file_of_the_study_and_of_the_current_folder_can_be_imported(folder):
    _write(folder, "sub/w_stub.py", "import near_stub, beside_stub, here_stub\ndef build(): return 1\n")
    for name in ("sub/near_stub.py", "beside_stub.py", "current/here_stub.py"):
        _write(folder, name, "")
    assert _load(folder, "./sub/w_stub.py:build")() == 1


def test_a_sibling_that_imports_the_file_gets_the_same_module(folder):
    _write(
        folder,
        "w_stub.py",
        "class Data: ...\ndef build():\n    import model_stub\n    return model_stub.Data is Data\n",
    )
    _write(folder, "model_stub.py", "from w_stub import Data\n")
    assert _load(folder, "./w_stub.py:build")()


def test_folders_are_put_in_front_of_the_path_once_and_in_order(folder):
    _write(folder, "sub/w_stub.py")
    for _ in range(3):
        _load(folder, "./sub/w_stub.py:build")
    expected = [str(folder / "sub"), str(folder), str(folder / "current")]
    assert sys.path[:3] == expected
    assert not set(expected) & set(sys.path[3:])


def test_classes_of_a_file_can_be_pickled(folder):
    for name in ("w_stub.py", "odd name.py"):
        _write(folder, name, "class Data:\n    x = 7\ndef build(): return Data()\n")
        thing = _load(folder, f"./{name}:build")()
        assert pickle.loads(pickle.dumps(thing)).x == 7


def test_a_process_that_only_knows_the_path_can_unpickle_classes_of_a_file(folder):
    _write(folder, "w_stub.py", "class Data:\n    x = 7\ndef build(): return Data()\n")
    reference = _refer(folder, "./w_stub.py:build")
    pickled = pickle.dumps(load_factory(reference)())
    code = f"import sys, pickle; sys.path[:0] = {list(reference.search_path)!r}; print(pickle.loads({pickled!r}).x)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "7\n"


def test_dotted_modules_packages_and_namespace_packages_are_loaded(folder):
    _write(folder, "pack_stub/__init__.py", "from .inner import build\n")
    _write(folder, "pack_stub/inner.py")
    _write(folder, "space_stub/deep/mod.py")
    for text in (
        "pack_stub:build",
        "pack_stub.inner:build",
        "space_stub.deep.mod:build",
        "./pack_stub/__init__.py:build",
    ):
        assert _load(folder, text)()[0] == "built"


def test_a_relative_import_in_a_file_named_by_its_path_says_what_to_do(folder):
    _write(folder, "pack_stub/__init__.py", "")
    _write(folder, "pack_stub/mod_stub.py", "from . import other\n")
    message = str(_refuse(folder, "./pack_stub/mod_stub.py:build"))
    assert "ImportError" in message
    assert "write package.module:factory" in message
    assert "mod_stub.py:1" in message


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("import nowhere_stub\n", "ModuleNotFoundError: No module named 'nowhere_stub'", 1),
        ("x = 1\n\nx / 0\n", "ZeroDivisionError: division by zero", 3),
        ("def build(:\n", "SyntaxError", 1),
        ("import sys\nsys.exit(4)\n", "SystemExit: 4", 2),
        ("def f():\n    import json\n    json.loads('{')\n\nf()\n", "JSONDecodeError", 3),
        ("raise RuntimeError\n", "RuntimeError", 1),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt", 1),
    ],
)
def test_what_goes_wrong_on_import_is_reported_with_the_users_line(folder, text, error, line):
    file = _write(folder, "w_stub.py", text)
    raised = _refuse(folder, "./w_stub.py:build")
    assert error in str(raised)
    assert str(raised).endswith(f"({file}:{line})")
    assert type(raised.__cause__).__name__ in str(raised)
    assert "w_stub" not in sys.modules


def test_a_script_that_parses_its_arguments_at_the_top_or_later_has_none(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-m", "3", "tunectl.execution.worker", "--steps"])
    parsed = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--steps', default=7)\n"
    build = "def build():\n    return parser.parse_args().steps, parser.prog\n"
    file = _write(folder, "w_stub.py", f"{parsed}assert parser.parse_args().steps == 7\n{build}")
    assert _load(folder, "./w_stub.py:build")() == (7, "w_stub.py")
    assert sys.argv == [str(file)]
    _write(folder, "pack_stub/__init__.py", "")
    _write(folder, "pack_stub/mod_stub.py", f"{parsed}{build}")
    assert _load(folder, "pack_stub.mod_stub:build")()[0] == 7
    assert sys.argv == ["pack_stub.mod_stub"]


def test_the_line_is_that_of_a_sibling_where_the_sibling_fails(folder):
    _write(folder, "w_stub.py", "import model_stub\n")
    sibling = _write(folder, "model_stub.py", "\nimport torch\ntorch.zeros(2) @ torch.zeros(3)\n")
    assert f"({sibling}:3)" in str(_refuse(folder, "./w_stub.py:build"))


def test_a_file_mended_after_a_failure_is_loaded(folder):
    file = _write(folder, "w_stub.py", "raise RuntimeError('first')\n")
    _refuse(folder, "./w_stub.py:build")
    file.write_text(_PLAIN)
    assert _load(folder, "./w_stub.py:build")()[0] == "built"


def test_a_missing_file_and_a_missing_module_are_errors(folder):
    assert "FileNotFoundError" in str(_refuse(folder, "./gone_stub.py:build"))
    assert "No module named 'gone_stub'" in str(_refuse(folder, "gone_stub.inner:build"))


def test_a_missing_factory_gets_the_nearest_name(folder):
    _write(folder, "w_stub.py")
    assert "nearest: build" in str(_refuse(folder, "./w_stub.py:biuld"))


@pytest.mark.parametrize(
    ("text", "found"),
    [("build = 3\n", "got a int"), ("import json as build\n", "got a module"), ("async def build(): ...\n", "async")],
)
def test_what_cannot_be_called_is_refused(folder, text, found):
    _write(folder, "w_stub.py", text)
    assert found in str(_refuse(folder, "./w_stub.py:build"))


def test_a_module_whose_name_is_taken_already_is_refused(folder):
    """numpy is loaded long before a study's folder is on the path."""
    _write(folder, "numpy.py")
    message = str(_refuse(folder, "numpy:array"))
    assert str(folder / "numpy.py") in message
    assert "or rename it" in message


def test_a_study_folder_with_a_folder_named_tunectl_still_gets_the_built_in_workloads(folder):
    _write(folder, "tunectl/__init__.py", "")
    assert _load(folder, "tunectl.workloads.digits:mlp").__name__ == "mlp"


def test_preload_is_called_where_the_module_has_one(folder):
    _write(folder, "w_stub.py", "calls = []\ndef preload(): calls.append(1)\ndef build(): return calls\n")
    preload(_refer(folder, "./w_stub.py:build"))
    assert _load(folder, "./w_stub.py:build")() == [1]
    _write(folder, "none_stub.py")
    preload(_refer(folder, "./none_stub.py:build"))


def test_what_preload_raises_is_reported(folder):
    file = _write(folder, "w_stub.py", "def preload():\n    open('/nowhere/at/all')\n")
    with pytest.raises(WorkloadError) as caught:
        preload(_refer(folder, "./w_stub.py:build"))
    assert "preload() raised FileNotFoundError" in str(caught.value)
    assert f"({file}:2)" in str(caught.value)


_KEYWORDS = """
calls = []
def preload(*, data="digits", {more}): calls.append(data)
def build(*, data="digits", width=3): return calls
"""


def test_preload_gets_the_arguments_that_it_has_parameters_for(folder):
    _write(folder, "w_stub.py", _KEYWORDS.format(more=""))
    reference = _refer(folder, "./w_stub.py:build")
    given: list[dict[str, Any]] = [{}, {"width": 5}, {"data": "mnist"}, {"data": "cifar", "width": 5}]
    for arguments in given:
        preload(reference, arguments)
    assert _load(folder, "./w_stub.py:build")() == ["digits", "digits", "mnist", "cifar"]


def test_preload_with_any_keyword_gets_all(folder):
    _write(folder, "w_stub.py", "calls = []\ndef preload(**given): calls.append(given)\ndef build(): return calls\n")
    preload(_refer(folder, "./w_stub.py:build"), {"data": "mnist", "width": 5})
    assert _load(folder, "./w_stub.py:build")() == [{"data": "mnist", "width": 5}]


def test_preload_is_not_called_where_it_needs_what_differs_between_trials(folder):
    _write(folder, "w_stub.py", _KEYWORDS.format(more="width"))
    reference = _refer(folder, "./w_stub.py:build")
    preload(reference, {"data": "mnist"})
    assert _load(folder, "./w_stub.py:build")() == []
    preload(reference, {"width": 4})
    assert _load(folder, "./w_stub.py:build")() == ["digits"]


def test_a_parameter_of_preload_that_the_factory_does_not_have_is_an_error(folder):
    _write(folder, "w_stub.py", _KEYWORDS.format(more="path"))
    with pytest.raises(WorkloadError, match=r"preload\(\) raised TypeError: .*'path'"):
        preload(_refer(folder, "./w_stub.py:build"))


def test_data_that_preload_cannot_read_is_said_without_what_is_around_it(folder):
    source = "from tunectl.workloads.data.image_data import image_splits\ndef build(): ...\n"
    _write(folder, "w_stub.py", source + "def preload(): image_splits('cifar')\n")
    with pytest.raises(
        WorkloadError, match=rf"^data 'cifar': neither {folder}/cifar nor {folder}/current/cifar nor .* exists"
    ):
        preload(_refer(folder, "./w_stub.py:build"))


def test_the_example_of_a_workload_of_ones_own_works(folder):
    study = Path(__file__).parents[2] / "studies" / "smoke" / "own_workload.yaml"
    reference = parse_reference("./own_workload.py:sine", study, folder)
    preload(reference)
    workload = load_factory(reference)(hidden=5)
    batch = default_collate([workload.data["valid"][i] for i in range(200)])
    assert workload.metrics is not None
    assert workload.finalize is not None
    averages = {name: values.mean().item() for name, values in workload.metrics(workload.model, batch).items()}
    assert workload.loss(workload.model, batch).shape == (200,)
    assert workload.finalize(averages)["explained"] < 1
    assert averages["squared_target"] == pytest.approx(workload.baseline_loss, rel=0.2)


def test_the_folders_of_other_code_are_searched_after_those_of_the_workload(tmp_path):
    _write(tmp_path / "workload", "w_mine.py", "def build(): return 'workload'\n")
    _write(tmp_path / "code", "w_beside.py", "")
    _write(tmp_path / "code", "w_optimizer.py", "import w_beside\ndef build(): return w_beside\n")
    found: Any = load_factory(_refer(tmp_path / "workload", "./w_mine.py:build"))()
    assert found == "workload"
    folders, arguments = list(sys.path), list(sys.argv)
    code = replace(_refer(tmp_path / "code", "./w_optimizer.py:build"), workload_kind="optimizer")
    found = load_factory(code)()
    assert found.__name__ == "w_beside"
    assert sys.path[: len(folders)] == folders
    assert str(tmp_path / "code") in sys.path[len(folders) :]
    assert sys.argv == arguments
    missing = replace(code, factory="other")
    with pytest.raises(WorkloadError, match=r"^optimizer ./w_optimizer.py:build: .*has no other"):
        load_factory(missing)
