"""Settings for all tests: random examples are few and always the same; `make fuzz` tries many new ones.

For users, a finding or plot that fails is only a warning; in the tests it raises.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any

import pytest
import typer
from hypothesis import settings
from study_calls import HERE, STUDY, Called, call_in_process
from warm_server import WarmServers, unflushed

from tunectl.core.files import write_if_changed
from tunectl.execution.backends.local import server_environment
from tunectl.execution.backends.server_process import start_server
from tunectl.execution.runtime_folder import VARIABLE
from tunectl.store import index_schema

if TYPE_CHECKING:
    from tunectl.report.renderer import PlotFiles, Renderer, Undrawn

os.environ["TUNECTL_RAISE_FAULTS"] = "1"

_CURRENT = b"PYTEST_CURRENT_TEST"

# With PYTHONDONTWRITEBYTECODE, as in many containers, each process would rewrite the asserts of all tests again (12 s).
writes_no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, False

settings.register_profile("suite", max_examples=40, derandomize=True)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Of all that is made here nothing is garbage: to look for some took a fifth of the time, and more in each test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_finish() -> None:
    """What tests import and start is as the environment says."""
    sys.dont_write_bytecode = writes_no_bytecode


@pytest.fixture(scope="session", autouse=True)
def own_runtime_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the tests share cores with no other run of the machine, and not with those of other test processes."""
    folder = tmp_path_factory.mktemp("runtime")
    folder.chmod(0o700)
    os.environ[VARIABLE] = str(folder)
    yield
    del os.environ[VARIABLE]


def no_flushes(connect: Callable[[Path, str], Connection], begin_wal: Callable[[Connection], None]) -> dict[str, Any]:
    """The functions by which an index is made and written, without waiting for the disk."""

    def connected(path: Path, mode: str) -> Connection:
        connection = connect(path, mode)
        if mode == "rwc":  # of a file that is there, the first statement finds the damage
            connection.execute("PRAGMA synchronous = OFF")
        return connection

    def begun(connection: Connection) -> None:
        begin_wal(connection)
        connection.execute("PRAGMA synchronous = OFF")

    return {"connect": connected, "begin_wal": begun}


@pytest.fixture(scope="session", autouse=True)
def fast_machine() -> Iterator[WarmServers]:
    """Nothing waits for the disk, fork servers of this process need not import torch, and the command line is built
    once, not for each call.
    """
    warm = WarmServers(start_server, {**os.environ, **server_environment()})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", unflushed)
        for name, call in no_flushes(index_schema.connect, index_schema.begin_wal).items():
            patched.setattr(index_schema, name, call)
        patched.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        patched.setattr("tunectl.execution.backends.local.start_server", warm.start)
        yield warm
    warm.close()


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Write a study, and its workload beside it."""

    def write(file: str = "small.yaml", **changes: Any) -> Path:
        values = {
            "name": "small",
            "factory": "regression",
            "metric": "valid/distance",
            "steps": 40,
            "trials": 2,
            "retries": 1,
            "learning_rate": "learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}",
            "more": "",
        } | changes
        shutil.copy(HERE / "misbehaving.py", tmp_path / "misbehaving.py")
        path = tmp_path / file
        path.write_text(STUDY.format(**values))
        return path

    return write


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80"}


@contextlib.contextmanager
def environment_put_back() -> Iterator[None]:
    """Libraries set variables where they are imported, as scikit-learn, joblib and torch's compiler do: tests that come
    later would start servers with these, which no fork of the warm process has, or not, depending on their order.
    """
    before = environment_bytes()
    yield
    if environment_bytes() != before:
        for name in os.environb.keys() - before.keys() - {_CURRENT}:
            del os.environb[name]
        os.environb.update(before)


def environment_bytes() -> dict[bytes, bytes]:
    """All variables but the one that names the test, as Python holds them: to decode them at each test takes time."""
    found: dict[bytes, bytes] = {**vars(os.environ)["_data"]}
    found.pop(_CURRENT, None)
    return found


@pytest.fixture(scope="module", autouse=True)
def _environment_after_a_file(fast_machine: WarmServers, own_runtime_folder: None) -> Iterator[None]:
    with environment_put_back():
        yield


@pytest.fixture(autouse=True)
def _as_before_each_test(_environment_after_a_file: None) -> Iterator[None]:
    """With two threads, those of two test processes wait for each other on two cores, which takes more time than it
    saves.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    with environment_put_back():
        yield


@contextlib.contextmanager
def no_renderers() -> Iterator[list[Renderer]]:
    yield []


_drawn: set[str] = set()


def draw_once(plots: Sequence[PlotFiles], ready: Sequence[Renderer] = ()) -> list[Undrawn]:
    """Draw the plots whose names are new in this process; of others the files get the definition, not a picture."""
    from tunectl.report.renderer import draw_all

    new = [plot for plot in plots if Path(plot.svg).name not in _drawn]
    for plot in plots:
        if plot not in new:
            for path in (Path(plot.svg), Path(plot.png)):
                write_if_changed(path, plot.definition.encode(), within=path.parent.parent)
    _drawn.update(Path(plot.svg).name for plot in new)
    return draw_all(new)


@pytest.fixture
def each_plot_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plot of each name is drawn once in this process: to draw them takes most of the time of a report."""
    monkeypatch.setattr("tunectl.report.renderer.renderers", no_renderers)
    monkeypatch.setattr("tunectl.report.plots.draw_all", draw_once)


@pytest.fixture
def tunectl(tmp_path: Path, environment: dict[str, str], each_plot_drawn_once: None) -> Callable[..., Called]:
    """Call the command in this process, in the test's folder, which saves the time of its imports."""

    return functools.partial(call_in_process, tmp_path, environment)
