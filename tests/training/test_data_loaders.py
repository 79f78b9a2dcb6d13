"""A data-loader process that dies, or whose trial does: hazards of `data_workers`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from training_builders import StopAt, comparable, cross_entropy, error_rate, make_request, stochastic_workload
from training_builders import train_trial as train

from tunectl.core.errors import Infeasible, LoaderError
from tunectl.core.exception_place import innermost_frame
from tunectl.core.exception_text import exception_line
from tunectl.core.folders import TrialFolder
from tunectl.training.batches import DrawnByKey, LoadedBatches
from tunectl.training.data_loaders import fetching, loader_death
from tunectl.training.data_order import DataOrder
from tunectl.training.seeds import Purpose
from tunectl.workloads.workload import Workload

TORCH_SAYS = "DataLoader worker (pid 17) is killed by signal: Killed. "


class Ending(Dataset[Any]):
    """Ends the loader process that is asked for example 13, in the way of `end`, while `marker` exists."""

    def __init__(self, inner: Dataset[Any], marker: Path, end: Callable[[], Any]) -> None:
        self.inner, self.marker, self.end, self.home = inner, marker, end, os.getpid()

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        if index == 13 and os.getpid() != self.home and self.marker.exists():
            self.end()
        return self.inner[index]


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ended_from_outside() -> None:
    # Torch's handler takes one of the trial's own for an order, and ends well; a stranger's kills.
    if os.fork() == 0:
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(0)
    signal.pause()


def left() -> None:
    os._exit(3)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    path = tmp_path / "die"
    path.touch()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    folder = TrialFolder(tmp_path / "00003")
    folder.path.mkdir()
    return folder


def workload(marker: Path, end: Callable[[], Any]) -> Workload:
    plain = stochastic_workload()
    data = {**plain.data, "train": Ending(plain.data["train"], marker, end)}
    return Workload(plain.model, data, cross_entropy, error_rate)


@pytest.mark.parametrize("end", [killed, ended_from_outside, left])
def test_a_loader_process_that_dies_is_no_fault_of_the_trial_which_then_ends_as_if_undisturbed(
    end: Callable[[], Any], folder: TrialFolder, marker: Path, tmp_path: Path
):
    request = make_request(data_workers=2, max_train_steps=14)
    # Torch notices a dead process, or its connection is closed before torch does.
    with pytest.raises(LoaderError, match=r"DataLoader worker|a data-loader process closed its connection"):
        train(request, folder, lambda: workload(marker, end))
    marker.unlink()
    train(request, folder, lambda: workload(marker, end))
    clean = TrialFolder(tmp_path / "clean")
    clean.path.mkdir()
    train(make_request(max_train_steps=14), clean, lambda: workload(marker, end))
    assert comparable(folder) == comparable(clean)


def torch_raises() -> None:
    raise RuntimeError(TORCH_SAYS)


@pytest.mark.parametrize("made_of_it", [Infeasible("the solver failed"), ValueError("no"), MemoryError("much")])
def test_what_the_workload_makes_of_the_death_is_not_taken_for_a_verdict(made_of_it: Exception, folder: TrialFolder):
    # Torch raises from a signal handler, so wherever the workload is, and the workload may catch it.
    calls = 0

    def loss(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 9:
            try:
                torch_raises()
            except RuntimeError:
                raise made_of_it from None
        return cross_entropy(model, batch)

    def factory() -> Workload:
        plain = stochastic_workload()
        return Workload(plain.model, plain.data, loss, error_rate)

    with pytest.raises(LoaderError, match="killed by signal"):
        train(make_request(), folder, factory)


def test_a_ruined_model_does_not_make_the_death_a_verdict(folder: TrialFolder):
    def factory() -> Workload:
        plain = stochastic_workload()

        def loss(model: nn.Module, batch: Any) -> Tensor:
            if model.training:
                with torch.no_grad():
                    next(model.parameters()).fill_(float("nan"))
                torch_raises()
            return cross_entropy(model, batch)

        return Workload(plain.model, plain.data, loss, error_rate)

    with pytest.raises(LoaderError):
        train(make_request(), folder, factory)


def test_a_death_while_resume_is_loaded_keeps_resume(folder: TrialFolder, monkeypatch: pytest.MonkeyPatch):
    train(make_request(), folder, stop=StopAt(11))
    before = folder.resume.read_bytes()
    monkeypatch.setattr("tunectl.training.assembled_trial.load_parts", lambda state, parts: torch_raises())
    with pytest.raises(LoaderError):
        train(make_request(), folder)
    assert folder.resume.read_bytes() == before


@pytest.mark.parametrize("text", ["Caught ValueError in DataLoader worker process 0.", "my DataLoader worker (pid 3)"])
def test_an_error_of_the_data_set_is_the_data_set_s(text: str):
    assert loader_death(RuntimeError(text)) is None
    assert loader_death(ValueError(TORCH_SAYS)) is None


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), EOFError(), FileNotFoundError(2, "socket")])
def test_a_loader_that_hangs_up_before_torch_sees_it_dead_has_died(error: Exception):
    with pytest.raises(LoaderError, match="closed its connection"), fetching():
        raise error


def test_a_file_that_the_data_set_misses_in_a_loader_is_the_data_set_s_error(folder: TrialFolder, marker: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(make_request(data_workers=2), folder, lambda: workload(marker, Path("/nowhere").read_bytes))


def test_loader_processes_die_with_a_trial_that_is_killed(tmp_path: Path):
    # The loaders hold the pipe's other end: it closes when the last of them is gone. Without the kernel's help torch's
    # own look at the parent comes every five seconds, and not at all while the data set waits, as here.
    reading, writing = os.pipe()
    trial = os.fork()
    if trial == 0:
        try:
            os.setpgid(0, 0)
            os.close(reading)
            order = DataOrder(0, 20, 4)
            keys = ((number, order.examples(number).tolist()) for number in range(5))
            make = DrawnByKey(Waiting(writing), 0, Purpose.EXAMPLES, default_collate)
            source = LoadedBatches(make, keys, torch.device("cpu"), 2)
            source.take(0)
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"w", "a loader waits inside the data set"
    os.kill(trial, signal.SIGKILL)
    os.waitpid(trial, 0)
    try:
        seen = b"?"
        while seen:
            assert select.select([reading], [], [], 3.0)[0], "a loader outlived its trial"
            seen = os.read(reading, 1)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trial, signal.SIGKILL)


class Waiting(Dataset[Any]):
    """Says that it was asked, and never answers."""

    def __init__(self, writing: int) -> None:
        self.writing = writing

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        os.write(self.writing, b"w")
        signal.pause()


@pytest.mark.parametrize("error", [ValueError("bad label"), KeyboardInterrupt("mine"), SystemExit(3)])
def test_what_the_data_set_raises_in_a_loader_process_keeps_its_words_and_its_place(
    error: BaseException, folder: TrialFolder, marker: Path
):
    def raises() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        train(make_request(data_workers=2), folder, lambda: workload(marker, raises))
    assert exception_line(caught.value) == exception_line(error)
    assert innermost_frame(caught.value) == f"{__file__}:{raises.__code__.co_firstlineno + 1}"


def test_infeasible_that_torch_hands_on_from_a_loader_process_of_the_user_s_keeps_its_reason():
    class Data(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            raise Infeasible("too wide")

    with pytest.raises(Infeasible) as caught:
        list(DataLoader(Data(), num_workers=1))
    assert caught.value.reason == "too wide"
