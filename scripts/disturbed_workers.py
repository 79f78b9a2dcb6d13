"""What the torture of workers has in common: which processes are whose, what was found, and the undisturbed run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comparing import Differences
from disturbing import Process, children

from tunectl.core.folders import StudyFolder, TrialFolder

ROOT = Path(__file__).resolve().parent.parent
TRACEBACK = "Traceback (most recent call last)"
_CLAIM = re.compile(r"(\d+)\..*-(\d+)-[0-9a-f]+")
_LOG = re.compile(r"/(?:trials|claimed)/(\d+)[^/]*/log\.txt$")


@dataclass
class Ledger:
    """Which faults came, by kind, and what they caused."""

    sent: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    calls: int = 0
    workers: int = 0
    hung: int = 0
    failed: int = 0
    survivors: int = 0
    lost: int = 0
    bytes: int = 0
    remnants: int = 0
    tracebacks: int = 0

    @property
    def good(self) -> bool:
        return not (
            self.hung or self.failed or self.survivors or self.lost or self.bytes or self.remnants or self.tracebacks
        )

    def take(self, found: Differences) -> None:
        self.lost += len(found.lost)
        self.bytes += found.bytes


def descendants(pid: int) -> list[Process]:
    """The processes that a process has started, and those that these have."""
    found = []
    for child in children(pid):
        process = Process.of(child)
        found += [*([process] if process is not None else []), *descendants(child)]
    return found


def claims_of(folder: Path, pid: int) -> list[str]:
    """The names of the folders that a worker has claimed."""
    with contextlib.suppress(OSError):
        names = [path.name for path in (folder / "claimed").iterdir()]
        return [name for name in names if (match := _CLAIM.fullmatch(name)) is not None and int(match[2]) == pid]
    return []


def trials_of(pid: int) -> list[Process]:
    """The processes below a worker that train: those whose output is the log of a trial, without their loaders."""
    found, parents = [], {pid}
    while parents:
        parent = parents.pop()
        for child in children(parent):
            process = Process.of(child)
            if process is None:
                continue
            if _writes_log(child):
                found.append(process)
            else:
                parents.add(child)
    return found


def _writes_log(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return _LOG.search(str(Path(f"/proc/{pid}/fd/1").readlink())) is not None
    return False


def words_of(process: Process) -> str:
    """The command line of a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    return ""


def remnants(folder: Path) -> list[str]:
    """What a complete study has left of offers and claims: its places, and what trials have only while workers do."""
    study, marks = StudyFolder(folder), TrialFolder(Path())
    names = [path.name for path in (marks.offer, marks.claimant, marks.beat, marks.stop_request, marks.ending)]
    left = [study.offered, study.claimed, study.run_state, study.run_beat]
    left += [path for name in (*names, ".*.tmp") for path in study.trials.glob(f"*/{name}")]
    return [str(path.relative_to(folder)) for path in left if path.exists()]


def undisturbed(study: Path, folder: Path, options: Sequence[str] = ("--slots", "2")) -> float:
    """Make the reference by the local backend; return its seconds."""
    began = time.monotonic()
    words = [sys.executable, "-m", "tunectl", "run", str(study), "--dir", str(folder), "--quiet", *options]
    with open(folder.with_name(folder.name + ".log"), "ab") as log:
        done = subprocess.run([*words, "--backend", "local"], cwd=ROOT, stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the undisturbed run failed: see {folder}.log")
    return time.monotonic() - began


@contextlib.contextmanager
def kept_if_wrong(place: Path, ledger: Ledger) -> Iterator[None]:
    """Remove the folders unless something went wrong; also where the script itself fails they are kept."""
    yield
    if ledger.good:
        shutil.rmtree(place)
    else:
        print(f"the folders are kept in {place}")


def can_mount() -> bool:
    """Whether a process may have mounts of its own."""
    return (
        os.geteuid() == 0
        and not subprocess.run(["unshare", "--mount", "--uts", "true"], check=False, capture_output=True).returncode
    )
