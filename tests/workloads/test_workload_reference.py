"""What `workload:` may say, and what it is understood as."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunectl.workloads.workload_reference import parse_reference

_NO_TORCH = """
import sys
import tunectl.workloads.workload, tunectl.workloads.workload_reference
heavy = {"torch", "numpy", "scipy", "sklearn", "pandas", "importlib.metadata"} & set(sys.modules)
assert not heavy, heavy
"""


def _parse(text: str, tmp_path: Path, current: Path | None = None):
    return parse_reference(text, tmp_path.resolve() / "study.yaml", current or tmp_path.resolve())


def test_a_dotted_module_is_looked_for_in_the_studys_folder_then_in_the_current_one(tmp_path):
    study, current = tmp_path.resolve() / "studies", tmp_path.resolve()
    reference = parse_reference("my.models:build", study / "a.yaml", current)
    assert (reference.module, reference.file, reference.factory) == ("my.models", None, "build")
    assert reference.search_path == (str(study), str(current))
    assert reference.text == "my.models:build"


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("./my.py", "s/my.py"),
        ("../x/y.py", "x/y.py"),
        ("sub/my.py", "s/sub/my.py"),
        ("my.py", "s/my.py"),
        (".//sub/./my.py", "s/sub/my.py"),
        ("./with space/naïve Ω.py", "s/with space/naïve Ω.py"),
        ("./a.b/c.d.py", "s/a.b/c.d.py"),
        ("./a:b.py", "s/a:b.py"),
        ("./pkg/__init__.py", "s/pkg/__init__.py"),
    ],
)
def test_a_file_is_relative_to_the_study_file(tmp_path, where, expected):
    base = tmp_path.resolve()
    reference = parse_reference(f"{where}:build", base / "s" / "study.yaml", base / "elsewhere")
    assert reference.module is None
    assert reference.file == str(base / expected)
    assert reference.search_path[0] == str((base / expected).parent)
    assert set(reference.search_path[1:]) <= {str(base / "s"), str(base / "elsewhere")}
    assert len(set(reference.search_path)) == len(reference.search_path)
    assert reference.search_path.index(str(base / "s")) < reference.search_path.index(str(base / "elsewhere"))


def test_an_absolute_file_is_taken_as_it_is(tmp_path):
    reference = _parse("/abs/z.py:factory", tmp_path)
    assert reference.file == "/abs/z.py"
    assert reference.search_path[0] == "/abs"


def test_a_file_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path.resolve()))
    assert _parse("~/m.py:f", tmp_path).file == str(tmp_path.resolve() / "m.py")


def test_two_dots_after_a_symbolic_link_mean_what_they_mean_to_the_system(tmp_path):
    base = tmp_path.resolve()
    (base / "real" / "inner").mkdir(parents=True)
    (base / "link").symlink_to(base / "real" / "inner")
    assert _parse("./link/../m.py:f", tmp_path).file == str(base / "real" / "m.py")


def test_a_file_that_is_a_link_keeps_its_own_name_and_folder(tmp_path):
    base = tmp_path.resolve()
    (base / "common").mkdir()
    (base / "common" / "real.py").write_text("")
    (base / "link.py").symlink_to(base / "common" / "real.py")
    assert _parse("./link.py:f", tmp_path).file == str(base / "link.py")


def test_a_factory_name_is_read_in_the_form_in_which_python_reads_names(tmp_path):
    assert _parse("m:ﬁt", tmp_path).factory == "fit"


@pytest.mark.parametrize(
    ("text", "found", "right"),
    [
        ("tunectl.workloads.digits", "expected module:factory", "tunectl.workloads.digits:mlp"),
        ("", "expected module:factory", "module:factory"),
        (":mlp", "with no module or file before the colon", "module:factory"),
        ("digits:", "no factory after the colon", "module:factory"),
        (":", "before the colon", "module:factory"),
        ("digits:m-l-p", "'m-l-p' is not a name", "module:factory"),
        ("digits:class", "'class' is not a name", "module:factory"),
        ("digits:a.b", "'a.b' is not a name", "module:factory"),
        ("digits: mlp", "' mlp' is not a name", "module:factory"),
        ("digits:mlp()", "'mlp()' is not a name", "module:factory"),
        ("my-module:mlp", "'my-module' is not a dotted name", "./my_workload.py:factory"),
        ("a..b:mlp", "'a..b' is not a dotted name", "module:factory"),
        ("a.import.b:mlp", "is not a dotted name", "module:factory"),
        ("a::mlp", "'a:' is not a dotted name", "module:factory"),
        ("./my_workload:mlp", "expected a .py file", "such as ./my_workload.py:mlp, got"),
        ("./:mlp", "expected a .py file", "./my_workload.py:factory"),
        ("..:mlp", "expected a .py file", "./my_workload.py:factory"),
        (".digits:mlp", "expected a .py file", "./my_workload.py:factory"),
        ("./.py:mlp", "expected a .py file", "./my_workload.py:factory"),
        ("./notebook.ipynb:mlp", "expected a .py file", "./my_workload.py:factory"),
        (r"C:\work\my.py:mlp", "a path of Windows", "forward slashes"),
        ("C:/work/my.py:mlp", "a path of Windows", "forward slashes"),
        (r".\my.py:mlp", "a path of Windows", "forward slashes"),
        ("https://example.org/my.py:mlp", "expected module:factory", "module:factory"),
        ("./a\0b.py:mlp", "control character", "./my_workload.py:factory"),
        ("./a\nb.py:mlp", "control character", "./my_workload.py:factory"),
        ("~no-such-user-here/my.py:mlp", "home", "./my_workload.py:factory"),
    ],
)
def test_malformed_text_is_refused_with_what_was_expected(tmp_path, text, found, right):
    with pytest.raises(ValueError) as caught:
        _parse(text, tmp_path)
    message = str(caught.value)
    assert repr(text) in message
    assert found in message
    assert right in message
    assert message.startswith("expected ")


def test_understanding_a_reference_loads_neither_torch_nor_numpy():
    subprocess.run([sys.executable, "-c", _NO_TORCH], check=True)


def test_a_file_that_is_a_link_finds_what_is_beside_its_target(tmp_path):
    for name in ("repository", "study"):
        (tmp_path / name).mkdir()
    (tmp_path / "repository" / "w.py").write_text("import sibling_of_the_target\n")
    (tmp_path / "study" / "w.py").symlink_to("../repository/w.py")
    reference = parse_reference("./w.py:build", tmp_path / "study" / "s.yaml", tmp_path)
    assert reference.search_path == (str(tmp_path / "study"), str(tmp_path / "repository"), str(tmp_path))
    assert reference.file == str(tmp_path / "study" / "w.py")
