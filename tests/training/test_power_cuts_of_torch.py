"""Functions and workloads that train with torch on a machine that goes down: they end as if it never had.

The disk is simulated as a journalling file system: of a file it has what was flushed (os.fsync), and of what was
written since any first part; of names, all changes until the last flush of anything, and of those since any first part.
`scripts/power_cuts.py` does the same on a real file system.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from function_calls import Functions
from training_builders import comparable, make_request, stochastic_workload, train_trial

from tunectl.core.folders import TrialFolder
from tunectl.training.function_trial import Trial

# A trial that is cut off while it closes its files does not close them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
)

Names = dict[str, int]
"""Inodes by their path in the folder."""


class Cut(BaseException):
    """The machine went down."""


@dataclass
class Disk:
    """What a folder would be after a power cut, which comes at the change of number `cut`."""

    folder: Path
    cut: int
    flushed: dict[int, bytes] = field(default_factory=dict)
    names: list[Names] = field(default_factory=list)
    changes: int = 0
    left: dict[int, bytes] | None = None

    def now(self) -> Names:
        """The names there are."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(path.relative_to(self.folder)): path.stat().st_ino for path in paths}

    def contents(self) -> dict[int, bytes]:
        """What the system has, by inode."""
        return {inode: (self.folder / name).read_bytes() for name, inode in self.now().items()}

    def changed(self, *, flushed: Path | None = None) -> None:
        """A file was flushed, or names were changed; the machine goes down, perhaps."""
        if self.left is not None:
            return
        if flushed is not None:
            self.names = []
            if flushed.is_file():
                self.flushed[flushed.stat().st_ino] = flushed.read_bytes()
        self.names.append(self.now())
        self.changes += 1
        if self.changes == self.cut:
            self.left = self.contents()
            raise Cut

    def restore(self, generator: random.Random) -> None:
        """Leave in the folder what the disk may have."""
        assert self.left is not None
        shutil.rmtree(self.folder)
        for name, inode in generator.choice(self.names).items():
            flushed, written = self.flushed.get(inode, b""), self.left.get(inode, b"")
            content = flushed
            if written.startswith(flushed):
                content = written[: generator.choice([len(flushed), generator.randint(len(flushed), len(written))])]
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)
        self.folder.mkdir(exist_ok=True)


@contextmanager
def on(disk: Disk) -> Iterator[None]:
    """What is done to files is seen by the disk."""
    real = {name: getattr(os, name) for name in ("fsync", "rename", "unlink")}

    def fsync(descriptor: int) -> None:
        real["fsync"](descriptor)
        disk.changed(flushed=Path(f"/proc/self/fd/{descriptor}").readlink())

    def changing(name: str) -> Callable[..., None]:
        def change(*given: Any, **folders: Any) -> None:
            real[name](*given, **folders)
            disk.changed()

        return change

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "rename", changing("rename"))
        patch.setattr(os, "unlink", changing("unlink"))
        yield


def cuts(whole: int, number: int, generator: random.Random) -> list[int]:
    """Changes at which the machine goes down, the first and the last among them."""
    return [1, *sorted(generator.sample(range(2, whole), number - 2)), whole]


def trained(trial: Trial, **_values: Any) -> None:
    """Momentum on a parabola, saved at every step; the noise comes from torch's generator, whose state is saved."""
    weights, velocity = torch.full((3,), 4.0), torch.zeros(3)
    saved = trial.resume()
    first = 0
    if saved is not None:
        first, weights, velocity = saved["step"], saved["weights"], saved["velocity"]
        torch.set_rng_state(saved["random"])
    for step in range(first + 1, 13):
        velocity = 0.9 * velocity + weights + 0.1 * torch.randn(3)
        weights = weights - 0.05 * velocity
        if step % 2 == 0:
            trial.record(step, {"valid/loss": weights.square().mean()})
        trial.save(step, {"step": step, "weights": weights, "velocity": velocity, "random": torch.get_rng_state()})


def of_function(functions: Functions) -> object:
    last = torch.load(functions.folder.path / "files" / "checkpoint-12.pt", weights_only=True)["content"]
    return functions.measured(), last["weights"].tolist(), last["random"].tolist()


@pytest.mark.parametrize("flushes", ["every time", "now and then"])
def test_a_torch_function_that_saves_loses_no_evaluation_and_ends_the_same(
    tmp_path: Path, flushes: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The clock decides how often is flushed; the machine's own would make the number of changes differ.
    ticks = itertools.count(step=1000.0 if flushes == "every time" else 1.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    generator = random.Random(1)

    def one(name: str) -> Functions:
        place = tmp_path / name
        place.mkdir()
        made = Functions(place)
        made.folder = TrialFolder(place / "trials" / "00007")
        made.folder.path.mkdir(parents=True)
        return made

    undisturbed = one("undisturbed")
    with on(counting := Disk(undisturbed.folder.path, cut=-1)):
        assert undisturbed.run(trained) is not None
    expected = of_function(undisturbed)
    for number in cuts(counting.changes, 16, generator):
        functions = one(f"cut {number}")
        disk = Disk(functions.folder.path, number)
        with on(disk), pytest.raises(Cut):
            functions.run(trained)
        for _ in range(2):
            disk.restore(generator)
            result = functions.run(trained, attempt=2)
            assert result is not None
            assert (result.state, of_function(functions)) == ("completed", expected), number
    capsys.readouterr()


def test_a_workload_ends_bit_for_bit_as_if_the_machine_had_stayed_up(tmp_path: Path) -> None:
    request, generator = (
        make_request(optimizer="adam", schedule="cosine", max_train_steps=16, eval_every=4),
        random.Random(2),
    )

    def one(name: str) -> TrialFolder:
        folder = TrialFolder(tmp_path / name / "trials" / "00003")
        folder.path.mkdir(parents=True)
        return folder

    undisturbed = one("undisturbed")
    with on(counting := Disk(undisturbed.path, cut=-1)):
        assert train_trial(request, undisturbed, stochastic_workload) is not None
    expected = comparable(undisturbed)
    for number in cuts(counting.changes, 14, generator):
        folder = one(f"cut {number}")
        disk = Disk(folder.path, number)
        with on(disk), pytest.raises(Cut):
            train_trial(request, folder, stochastic_workload)
        for _ in range(2):
            disk.restore(generator)
            assert train_trial(request, folder, stochastic_workload) is not None
            assert comparable(folder) == expected, number
