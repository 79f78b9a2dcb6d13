"""Where a line of prove_gpu.py runs: its folder, its device, calls of `tunectl` and what they left, and NVML."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STUDY_FILES = Path(__file__).resolve().parent / "gpu_study"


@dataclass(frozen=True, slots=True)
class Found:
    """What a line found: whether its claim holds, in words, and its figures; not `tried` where this host lacks
    something for it, which `said` names.
    """

    holds: bool
    said: str
    figures: Mapping[str, object] = field(default_factory=dict)
    tried: bool = True

    @classmethod
    def not_tried(cls, why: str) -> Found:
        """What is found where the line cannot be tried here."""
        return cls(False, f"not tried: {why}", tried=False)


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of the line's own; `rehearse`: the CPU serves as the GPU, and everything is small."""

    folder: Path
    rehearse: bool

    @property
    def device(self) -> str:
        """torch's name of the device."""
        return "cpu" if self.rehearse else "cuda:0"

    def size(self, on_gpu: int, rehearsed: int) -> int:
        """How large something is."""
        return rehearsed if self.rehearse else on_gpu

    def write_study(self, name: str, text: str) -> Path:
        """Write a study whose workload lies in gpu_study/; `{files}` in the text is that folder."""
        path = self.folder / f"{name}.yaml"
        text = text.replace("{files}", str(STUDY_FILES))
        path.write_text(text + ("\n" if "resources:" in text else "\nresources: {devices: auto}\n"))
        return path

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "tunectl", *map(str, arguments)]

    def environment(self, **changes: str | None) -> dict[str, str]:
        """The environment of a call, with these variables set, or taken out where they are None."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        inherited = {**os.environ, "PYTHONPATH": path, **changes}
        if self.rehearse:
            inherited["CUDA_VISIBLE_DEVICES"] = ""
        return {name: value for name, value in inherited.items() if value is not None}

    def start(self, *arguments: object, **environment: str | None) -> subprocess.Popen[str]:
        """Start `tunectl` with these arguments."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(**environment),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: object, **environment: str | None) -> tuple[int, str]:
        """Run `tunectl` to its end: its exit code and all it printed."""
        process = self.start(*arguments, **environment)
        output, _ = process.communicate()
        print(output)
        return process.returncode, output

    def run_study(self, name: str, text: str, *options: str, **environment: str | None) -> Ran:
        """Run a study in a folder of its name."""
        folder = self.folder / name
        study = self.write_study(name, text)
        code, output = self.run("run", study, "--dir", folder, "--quiet", *options, **environment)
        return Ran(folder, code, output)


@dataclass(frozen=True, slots=True)
class Ran:
    """A study that was run."""

    folder: Path
    code: int
    output: str

    def rows(self) -> list[dict[str, str]]:
        """The trials' table."""
        try:
            with open(self.folder / "tables" / "trials.csv", newline="") as file:
                return list(csv.DictReader(file))
        except FileNotFoundError:
            raise RuntimeError(f"no table of trials; the run ended with {self.code}: {self.output[-600:]}") from None

    def seen(self) -> list[dict[str, Any]]:
        """What the function `occupy` noted in all trials, by time."""
        return seen(self.folder)


def seen(folder: Path) -> list[dict[str, Any]]:
    """What the function `occupy` noted in all trials of a study folder so far, by time."""
    lines: list[dict[str, Any]] = []
    for path in folder.glob("trials/*/**/seen.jsonl"):
        # A line that is being written has no end yet.
        lines += [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return sorted(lines, key=lambda line: float(line.get("ended", line["began"])))


def wait_for(what: Callable[[], Any], seconds: float, pause: float = 0.05) -> Any:
    """The first true value of `what`, or its last where the time is over."""
    end = time.monotonic() + seconds
    while not (value := what()) and time.monotonic() < end:
        time.sleep(pause)
    return value


@dataclass(frozen=True, slots=True)
class DriverView:
    """What the driver says of the first GPU: the processes that compute on it, and the bytes in use."""

    pids: frozenset[int]
    used: int


def driver_view() -> DriverView:
    """Ask NVML; where it hides processes (another pid namespace), the bytes in use still count."""
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        pids = frozenset(process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        return DriverView(pids, int(pynvml.nvmlDeviceGetMemoryInfo(handle).used))
    finally:
        pynvml.nvmlShutdown()
