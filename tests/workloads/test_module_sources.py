"""Where `check` finds the source of a workload, importing nothing on the way."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import zipfile

import pytest

from tunectl.workloads.workload_reference import parse_reference, read_signature


def test_modules_in_packages_and_namespace_packages_are_found_without_importing_parents(folder):
    folder.write("space_stub/inner/deeper/mod.py", "def build(width): ...")
    assert folder.read("space_stub.inner.deeper.mod:build").parameters == ("width",)
    folder.write("pack_stub/__init__.py", "def build(depth): ...")
    folder.write("pack_stub/mod.py", "def build(width): ...")
    assert folder.read("pack_stub:build").parameters == ("depth",)
    assert folder.read("pack_stub.mod:build").parameters == ("width",)


def test_a_namespace_package_itself_is_refused(folder):
    folder.write("space_stub/mod.py")
    message = folder.refuse("space_stub:build")
    assert "without __init__.py" in message
    assert str(folder.path / "space_stub") in message


def test_the_studys_folder_comes_before_the_current_one(folder):
    base = folder.path
    for name, keyword in (("study", "first"), ("current", "second")):
        folder.write(f"{name}/twice_stub.py", f"def build({keyword}): ...")
    reference = parse_reference("twice_stub:build", base / "study" / "s.yaml", base / "current")
    assert read_signature(reference).parameters == ("first",)
    (base / "study" / "twice_stub.py").unlink()
    assert read_signature(reference).parameters == ("second",)


def test_a_missing_module_says_where_it_was_looked_for_and_what_is_near(folder):
    folder.write("my_models.py")
    message = folder.refuse("my_model:build")
    assert "no module my_model found" in message
    assert str(folder.path) in message
    assert "nearest: my_models" in message


def test_a_missing_module_in_a_package_is_named_in_full(folder):
    folder.write("pack_stub/__init__.py")
    folder.write("pack_stub/layers.py")
    message = folder.refuse("pack_stub.layer:build")
    assert "no module pack_stub.layer" in message
    assert "nearest: layers" in message
    assert "not a package" in folder.refuse("pack_stub.layers.more:build")


@pytest.mark.parametrize("line", ["__path__ = extend(__path__)", "import sys; sys.modules['pack_stub.x'] = 1"])
def test_a_package_that_changes_where_its_modules_are_found_is_open(folder, line):
    folder.write("pack_stub/__init__.py", line)
    signature = folder.read("pack_stub.x:build")
    assert signature.open
    assert "changes __path__ or sys.modules" in signature.reason


def test_a_missing_file_names_the_nearest_one(folder):
    folder.write("my_workload.py")
    message = folder.refuse("./my_worklaod.py:build")
    assert f"{folder.path / 'my_worklaod.py'} does not exist" in message
    assert "nearest: my_workload.py" in message
    assert "nor does its folder" in folder.refuse("./nowhere/my_workload.py:build")


def test_a_folder_and_a_pipe_are_refused(folder):
    (folder.path / "w.py").mkdir()
    assert "got the folder" in folder.refuse("./w.py:build")
    os.mkfifo(folder.path / "pipe.py")
    assert "expected a regular file" in folder.refuse("./pipe.py:build")


def test_a_link_that_leads_nowhere_is_a_missing_file(folder):
    (folder.path / "w.py").symlink_to(folder.path / "gone.py")
    assert "does not exist" in folder.refuse("./w.py:build")


@pytest.mark.parametrize(
    "name", ["my workload.py", "naïve Ω.py", "a.b.c.py", "1st-try.py", "class.py", "numpy.py", "json.py"]
)
def test_a_file_may_have_any_name(folder, name):
    folder.write(f"odd folder.d/{name}", "def build(width): ...")
    assert folder.read(f"./odd folder.d/{name}:build").parameters == ("width",)


def test_a_module_named_like_one_of_pythons_own_is_refused(folder):
    folder.write("json.py", "def build(width): ...")
    message = folder.refuse("json:build")
    assert "a standard module of Python" in message
    assert "./json.py" in message


def test_modules_without_python_source_are_open(folder):
    for reference in ("math:cos", "numpy._core._multiarray_umath:build"):
        signature = folder.read(reference)
        assert signature.open
        assert "no Python source" in signature.reason


def test_a_module_in_a_zip_archive_is_open(folder, monkeypatch):
    with zipfile.ZipFile(folder.path / "lib.zip", "w") as archive:
        archive.writestr("zipped_stub.py", "def build(): ...")
    monkeypatch.syspath_prepend(str(folder.path / "lib.zip"))
    assert folder.read("zipped_stub:build").open


def test_packages_that_only_a_finder_of_their_own_knows_are_found(folder, monkeypatch):
    """Packages installed as editable are found by finders, not on sys.path."""
    file = folder.write("hidden/editable_stub.py", "def build(width): ...")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return importlib.util.spec_from_file_location(name, file) if name == "editable_stub" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert folder.read("editable_stub:build").parameters == ("width",)


def test_no_folder_named_tunectl_comes_before_tunectl(folder):
    folder.write("tunectl/__init__.py")
    folder.write("tunectl/workloads/digits.py", "def mlp(*, other): ...")
    assert "num_layers" in folder.read("tunectl.workloads.digits:mlp").parameters


def test_a_file_written_a_moment_ago_is_seen(folder):
    folder.refuse("late_stub:build")
    folder.write("late_stub.py", "def build(width): ...")
    assert folder.read("late_stub:build").parameters == ("width",)


def test_nothing_of_the_distribution_metadata_is_needed(folder, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distributions", None)
    folder.write("w.py", "def build(width): ...")
    assert folder.read("./w.py:build").parameters == ("width",)
