"""Proves that a worker which stalls, loses its trial, and comes back writes nothing into that trial.

`tunectl worker` trains one offered trial after another. Each time, one of its processes is stopped (SIGSTOP) before one
of its writes: each call that writes, makes or removes something in the study folder, by the trial's process, by the
fork server and by the worker itself, has its turn. The trial is taken back as from a dead worker, and the process goes
on. In the end no byte of a trial that was taken back may have changed, and all trials, trained by another worker, must
equal one that was left alone. Prints a table; the exit code is 1 where anything differs.

    python scripts/stalled_workers.py [--most N]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from comparing import compared, differing_bytes
from injected import CALLS, STOPPED, Cell, Injected, compiled, read_state, write_state

from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import WorkloadReference
from tunectl.core.typed_fields import typed
from tunectl.language.study_spec import ResourcesSection
from tunectl.store import claimed_trials, lost_claims, offered_trials, run_state
from tunectl.store.offered_trials import Offer
from tunectl.store.run_state import RunPhase, RunState, WorkerNeeds

HERE = Path(__file__).parent
_SAID_EVERY = 10


@dataclass(frozen=True)
class Kind:
    """What is trained: the study's text, its code, and what the command line of its program holds."""

    name: str
    study: str
    code: Path
    program: str = "no program"
    own_code: bool = False


WORKLOAD = Kind(
    "workload",
    """\
study: stalled
workload: ./blobs.py:blobs
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 30, eval_every: 10, keep_checkpoints: 3, train_examples: 48}
hyperparameters: {optimizer: adamw, learning_rate: 1e-2, dropout: 0.3, batch_size: 16, eval_batch_size: 48}
resources: {data_workers: 1, grace_seconds: 10}
""",
    HERE / "torture_study" / "blobs.py",
)
PROGRAM = Kind(
    "program",
    (HERE / "injection_study" / "program.yaml")
    .read_text()
    .replace("{role: nuisance, range: [0.05, 0.5], scale: log}", "0.1")
    .replace("search: {trials: 4}\n", ""),
    HERE / "injection_study" / "program.py",
    "program.py",
    own_code=True,
)
WRITING = tuple(call for call in CALLS if call != "fork")
PROCESSES = {"program": "the program", "worker": "the trial", "server": "the fork server", "runner": "the worker"}
WAIT_SECONDS = 60.0
QUIET_SECONDS = 0.3
"""How long the worker has to write something into a trial that it could not claim."""


def wait_until(condition: Callable[[], object], what: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Poll up to a deadline; ends the script where it passes."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        meanwhile()
        if time.monotonic() > deadline:
            raise SystemExit(f"not so after {WAIT_SECONDS:g} s: {what}")
        time.sleep(0.01)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder, and its folders and links."""
    return {
        str(path.relative_to(folder)): b"link" if path.is_symlink() else path.read_bytes() if path.is_file() else b"/"
        for path in sorted(folder.rglob("*"))
    }


@dataclass
class Site:
    """A study folder whose trials are all the same one, and the reference: that trial when it was left alone."""

    kind: Kind
    place: Path
    reference: dict[str, bytes]
    request: dict[str, object]
    library: Path
    beats: int = 0
    offers: int = 0
    worker: subprocess.Popen[bytes] | None = None
    taken: dict[int, dict[str, bytes]] = field(default_factory=dict)

    @property
    def study(self) -> StudyFolder:
        return StudyFolder(self.place / "study")

    @property
    def output(self) -> Path:
        return self.place / "worker.txt"

    @property
    def state(self) -> Path:
        return self.place / "state"

    def make(self) -> None:
        self.study.trials.mkdir(parents=True)
        self.study.study.write_text(self.kind.study)
        self.study.plan.touch()
        offered_trials.make_places(self.study)
        self.say_phase("at_work")
        self.arm()

    def say_phase(self, phase: RunPhase) -> None:
        own_code = self.kind.own_code
        command = WorkloadReference(self.kind.program, workload_kind="command")
        reference = command if own_code else typed(WorkloadReference, self.request["workload"])
        needs = WorkerNeeds(reference, own_code=own_code, current_folder=str(self.place))
        resources = ResourcesSection(devices="cpu", grace_seconds=10.0)
        run_state.write_run_state(self.study, RunState("token", phase, needs, resources, heartbeat_seconds=1.0))

    def beat(self) -> None:
        self.beats += 1
        run_state.write_run_beat(self.study, self.beats)

    def arm(self, *faults: Injected) -> None:
        """Count from 0 on, with these faults. The file stays the same one: processes have it in their memory."""
        fresh = self.state.with_suffix(".new")
        write_state(fresh, self.study.path, self.kind.program, faults)
        if not self.state.exists():
            shutil.copy(fresh, self.state)
        with open(self.state, "r+b") as file:
            file.write(fresh.read_bytes())

    def disarm(self) -> None:
        """Stop no process any more; one that was stopped by the last fault after all goes on."""
        self.arm()
        time.sleep(0.02)
        if self.worker is not None and self.worker.poll() is None:
            self.worker.send_signal(signal.SIGCONT)

    def start_worker(self, *, disturbed: bool = True, slots: int = 1) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if disturbed:
            environment |= {"LD_PRELOAD": str(self.library), "TUNECTL_FAULTS": str(self.state)}
        command = [sys.executable, "-m", "tunectl", "worker", str(self.study.path), "--slots", str(slots), "--no-wait"]
        with open(self.output, "ab") as output:
            self.worker = subprocess.Popen(command, stdout=output, stderr=output, env=environment)

    def write_request(self, trial: int, attempt: int) -> None:
        """Write the request of a trial as a run does before each attempt."""
        home = offered_trials.home_folder(self.study, trial)
        home.path.mkdir(exist_ok=True)
        request = {key: value for key, value in self.request.items() if key != "crc32"}
        home.request.write_text(json.dumps({**request, "trial": trial, "attempt": attempt}))

    def offer(self) -> int:
        trial, self.offers = self.offers, self.offers + 1
        self.write_request(trial, attempt=1)
        offered_trials.offer_trial(self.study, Offer(trial, 1))
        return trial

    def said(self, trial: int) -> list[str]:
        lines = self.output.read_text(errors="replace").splitlines()
        return [line for line in lines if line.startswith(f"trial {trial}:")]

    def is_home(self, trial: int) -> bool:
        return offered_trials.home_folder(self.study, trial).path.is_dir()

    def keep_worker(self) -> None:
        """Write the run's heartbeat, and start the worker again where it has ended."""
        self.beat()
        assert self.worker is not None
        if self.worker.poll() is not None:
            self.start_worker()

    def take(self, trial: int) -> bool:
        """Take the trial back, wherever it is; False where its worker has given it back."""
        for claimed in claimed_trials.claimed_trials(self.study):
            if claimed.trial == trial:
                return lost_claims.take_back(claimed)
        return offered_trials.withdraw_trial(self.study, trial)


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return True  # it has ended


def counted_calls(site: Site) -> Counter[tuple[str, str]]:
    """How often each process of a worker makes each call for one trial."""
    site.arm()
    trial = site.offer()
    wait_until(lambda: len(site.said(trial)) > 1, "the trial ends", site.keep_worker)
    return read_state(site.state, ())[0]


def stall(site: Site, fault: Injected) -> str:
    """Stop the process at this call, take the trial back, and let the process go on; what happened, in a word."""
    site.arm(fault)
    trial = site.offer()

    def is_over() -> bool:
        return bool(read_state(site.state, (fault,))[1]) or (site.is_home(trial) and len(site.said(trial)) > 1)

    wait_until(is_over, f"{fault} or the end of trial {trial}", site.keep_worker)
    happened = read_state(site.state, (fault,))[1]
    if not happened:
        site.disarm()
        return "not reached"
    pid = happened[0].pid
    wait_until(lambda: is_stopped(pid), "the process is stopped", site.beat)
    was_taken = site.take(trial)
    if was_taken:
        site.taken[trial] = content(site.study.trials / f"{trial:05d}")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    until = time.monotonic() + QUIET_SECONDS

    def is_done() -> bool:
        lines = site.said(trial)
        return time.monotonic() > until and (not lines or any("claimed" not in line for line in lines))

    wait_until(is_done, f"the worker is done with trial {trial}", site.keep_worker)
    return "taken back" if was_taken else "given back before"


def changed(site: Site) -> list[str]:
    """Files of trials that were taken back and have changed since."""
    wrong = []
    for trial, before in site.taken.items():
        now = content(site.study.trials / f"{trial:05d}")
        wrong += [f"trial {trial}: {name}" for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    return wrong


def train_the_rest(site: Site) -> None:
    """Let another worker train all trials that have no result."""
    lost_claims.finish_taking_back(site.study)
    site.say_phase("left")
    for trial in range(site.offers):
        home = offered_trials.home_folder(site.study, trial)
        offered_trials.remove_marks(home)
        if not home.result.exists():
            site.write_request(trial, attempt=2)
            offered_trials.offer_trial(site.study, Offer(trial, 2))
    site.start_worker(disturbed=False, slots=2)
    assert site.worker is not None
    if site.worker.wait(1800) != 0:
        raise SystemExit(f"the last worker failed, see {site.output}")


def differing(site: Site) -> dict[str, int]:
    """The bytes that differ from the reference, by file; a trial without a result is lost."""
    found = compared(site.study.path, own_code=site.kind.own_code)
    wrong = {}
    for trial in range(site.offers):
        for name, expected in site.reference.items():
            path = f"trials/{trial:05d}/{name}"
            got = found.get(path, b"").replace(b'"trial": %d,' % trial, b'"trial": 0,')
            if count := differing_bytes(got, expected):
                wrong[path] = count
    return wrong


def reference(place: Path, kind: Kind) -> tuple[dict[str, bytes], dict[str, object]]:
    """A trial that is trained alone by `tunectl run`: what is compared of its files, and its request."""
    shutil.copy(kind.code, place / kind.code.name)
    study = place / "stalled.yaml"
    study.write_text(kind.study)
    command = [sys.executable, "-m", "tunectl", "run", study.name, "--dir", "alone", "--quiet", "--no-wait"]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    of = "trials/00000/"
    found = compared(place / "alone", own_code=kind.own_code)
    files = {name.removeprefix(of): text for name, text in found.items() if name.startswith(of)}
    return files, json.loads(TrialFolder(place / "alone" / "trials" / "00000").request.read_bytes())


def cases(calls: Counter[tuple[str, str]], most: int | None) -> list[Injected]:
    """The calls at which a process is stopped; of more than `most` those, evenly drawn, that are not `open` first."""
    found = [
        Injected(Cell("stalled", role, call, STOPPED), place)
        for role in PROCESSES
        for call in WRITING
        for place in range(1, calls[role, call] + 1)
    ]
    found.sort(key=lambda fault: fault.cell.call == "open")
    if most is None or most >= len(found):
        return found
    return [found[number * len(found) // most] for number in range(most)]


def show(
    counts: Counter[tuple[str, str, str]], site: Site, wrong: Sequence[str], bytes_by_file: dict[str, int]
) -> None:
    kinds = ("taken back", "given back before", "not reached")
    print(
        f"{'process':<16} {'call':<10} {'stopped':>8} {'taken back':>11} {'given back before':>18} {'not reached':>12}"
    )
    for role, name in PROCESSES.items():
        for call in WRITING:
            row = [counts[role, call, kind] for kind in kinds]
            if any(row):
                print(f"{name:<16} {call:<10} {sum(row[:2]):>8} {row[0]:>11} {row[1]:>18} {row[2]:>12}")
    print(f"trials: {site.offers}; taken back from a worker that came back: {len(site.taken)}")
    print(f"files of these that changed afterwards: {len(wrong)}")
    print(f"bytes that differ in the end: {sum(bytes_by_file.values())}")
    for line in [*wrong, *(f"{name}: {count} bytes" for name, count in bytes_by_file.items())][:20]:
        print(f"  {line}")


def prove(kind: Kind, most: int | None) -> bool:
    """Stop a worker of this kind of trial at its writes, and print what was found; whether nothing differs."""
    with tempfile.TemporaryDirectory(prefix="stalled-") as made:
        place = Path(made)
        site = Site(kind, place, *reference(place, kind), compiled(place))
        site.make()
        site.start_worker()
        assert site.worker is not None
        counts: Counter[tuple[str, str, str]] = Counter()
        try:
            faults = cases(counted_calls(site), most)
            for number, fault in enumerate(faults, start=1):
                counts[fault.cell.role, fault.cell.call, stall(site, fault)] += 1
                if number % _SAID_EVERY == 0:
                    print(f"{kind.name}: {number} of {len(faults)} stops", flush=True)
            site.disarm()
            site.worker.terminate()
            site.worker.wait(WAIT_SECONDS)
        finally:
            site.worker.kill()
            site.worker.wait()
        wrong = changed(site)
        train_the_rest(site)
        bytes_by_file = differing(site)
        print(f"{kind.name}:")
        show(counts, site, wrong, bytes_by_file)
        return not (wrong or bytes_by_file)


def main() -> int:
    """Run the proof; the exit code is 1 where anything differs."""
    parser = argparse.ArgumentParser(description="Stop a worker's processes at their writes, and take its trials.")
    parser.add_argument("--most", type=int, help="the number of stops of each kind of trial (default: each call once)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that it leaves no worker behind
    proved = [prove(kind, options.most) for kind in (WORKLOAD, PROGRAM)]
    return int(not all(proved))


if __name__ == "__main__":
    sys.exit(main())
