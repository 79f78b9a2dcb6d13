"""A worker module for tests: does in its process what the trial's request.json, or the workload's factory, asks for."""

# ruff: noqa: T201  (what a trial prints is what is tested)

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunectl.core.records import Scalar, WorkloadReference
from tunectl.execution.protocol import Assignment
from tunectl.workloads.data import data_notes

Stop = Callable[[], bool]

LOADED_PID = os.getpid()


def warm_up(*, own_code: bool) -> None:
    if os.environ.get("TOY_WARM_UP") == "raises":
        raise ImportError("no such library")


def preload(workload: WorkloadReference, arguments: Mapping[str, Scalar], _code: Sequence[WorkloadReference]) -> None:
    name = workload.factory
    if name == "raises":
        raise ValueError("there is no such data set")
    if name == "notes":
        data_notes.note(f"loaded with {dict(arguments)}")
    if name == "exits":
        sys.exit("no licence")
    if name == "dies":
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "leaves_a_thread":
        threading.Thread(target=threading.Event().wait, name="reader", daemon=True).start()
    if name == "never_loads":
        Path(workload.text).write_text(str(os.getpid()))
        threading.Event().wait()
    if name == "leaves_a_child":
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    if name == "spoils_signals":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)


def catch_up() -> None:
    pass


def work(assignment: Assignment, stop: Stop) -> int:
    if assignment.task == "probe":
        return _probe(assignment)
    folder = Path(assignment.folder)
    request = json.loads((folder / "request.json").read_text())
    (folder / "pids.jsonl").open("a").write(json.dumps([os.getpid(), assignment.attempt]) + "\n")
    code: int = globals()["_" + request["behaviour"]](folder, assignment, stop)
    return code


def _probe(assignment: Assignment) -> int:
    name = assignment.request["study"]
    if name == "dies":
        print("in the middle of it")
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hangs":
        signal.pause()
    if name.startswith("kills "):
        _kill(name)
        name = "works"
    answer = {
        "message": name if name != "works" else "",
        "where": "mine.py:3" if name != "works" else "",
        "traceback": "",
        "checkpoint_bytes": 1234,
    }
    os.write(assignment.answer, json.dumps(answer).encode())
    return 0


def _kill(order: str) -> None:
    """`kills itself once PATH`, `kills its server always PATH`; PATH gets the pids."""
    _, victim, how_often, path = order.replace("its server", "server").split(" ", 3)
    if how_often == "once" and Path(path).exists():
        return
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getppid() if victim == "server" else os.getpid(), signal.SIGKILL)
    signal.pause()


def _finish(folder: Path, assignment: Assignment, state: str = "completed", reason: str = "") -> int:
    trial = int(folder.name.partition(".")[0])  # a worker has claimed `00007.<claim>`
    result = {"trial": trial, "state": state, "reason": reason, "attempt": assignment.attempt, "format": 1}
    (folder / "result.json").write_text(json.dumps(result))
    return 0


def _completes(folder: Path, assignment: Assignment, stop: Stop) -> int:
    print("trained")
    return _finish(folder, assignment)


def _fails(folder: Path, assignment: Assignment, stop: Stop) -> int:
    return _finish(folder, assignment, "failed", "exit_code_1")


def _reports(folder: Path, assignment: Assignment, stop: Stop) -> int:
    print("half a line", end="")
    facts = {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "loaded_pid": LOADED_PID,
        "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "attempt": assignment.attempt,
        "device": assignment.device,
        "stdin": sys.stdin.read(),
        "fds": sorted(str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if _is_open(int(link.name))),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "seconds": time.monotonic() - assignment.launched,
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    return _finish(folder, assignment)


def _is_open(fd: int) -> bool:
    # Beyond the standard streams; the descriptor under which the folder was listed is closed by now.
    try:
        os.fstat(fd)
    except OSError:
        return False
    return fd > 2


def _exits_3(folder: Path, assignment: Assignment, stop: Stop) -> int:
    os._exit(3)


def _calls_sys_exit(folder: Path, assignment: Assignment, stop: Stop) -> int:
    sys.exit("enough")


def _raises(folder: Path, assignment: Assignment, stop: Stop) -> int:
    raise RuntimeError("outside of the user's code")


def _kills_itself(folder: Path, assignment: Assignment, stop: Stop) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("the process has ended")


def _crashes_once(folder: Path, assignment: Assignment, stop: Stop) -> int:
    if assignment.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return _finish(folder, assignment)


def _writes_then_crashes(folder: Path, assignment: Assignment, stop: Stop) -> int:
    _finish(folder, assignment)
    ctypes.string_at(0)
    raise AssertionError("the process has ended")


def _waits_for_stop(folder: Path, assignment: Assignment, stop: Stop) -> int:
    (folder / "waiting").write_text(str(os.getpid()))
    while not stop():
        signal.sigtimedwait([signal.SIGUSR1], 0.005)
    (folder / "saved").touch()
    return 75


def _ignores_stop(folder: Path, assignment: Assignment, stop: Stop) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "waiting").write_text(str(os.getpid()))
    while True:
        signal.pause()


def _sleeper(folder: Path, name: str, *, new_session: bool = False, daemon: bool = False) -> None:
    """A child that sleeps until it is killed; `daemon`: forked twice, so its parent has ended by then."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        if new_session:
            os.setsid()
        if daemon and os.fork() != 0:
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (folder / name).write_text(str(os.getpid()))
        os.write(writing, b"x")
        while True:
            signal.pause()
    os.read(reading, 1)


def _leaves_children(folder: Path, assignment: Assignment, stop: Stop) -> int:
    _sleeper(folder, "child")
    _sleeper(folder, "session", new_session=True)
    _sleeper(folder, "daemon", new_session=True, daemon=True)
    return _finish(folder, assignment)


def _leaves_children_and_waits(folder: Path, assignment: Assignment, stop: Stop) -> int:
    _sleeper(folder, "child")
    _sleeper(folder, "session", new_session=True)
    _sleeper(folder, "daemon", new_session=True, daemon=True)
    return _waits_for_stop(folder, assignment, stop)


def _leaves_children_and_crashes(folder: Path, assignment: Assignment, stop: Stop) -> int:
    _leaves_children(folder, assignment, stop)
    (folder / "result.json").unlink()
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError("the process has ended")


def _writes_to_fd_1(folder: Path, assignment: Assignment, stop: Stop) -> int:
    os.write(1, b"straight to the descriptor\n")
    print("through the stream")
    subprocess.run(["echo", "through a child"], check=True)
    sys.stdout.buffer.write(b"through the buffer\n")
    return _finish(folder, assignment)


def _kills_the_server(folder: Path, assignment: Assignment, stop: Stop) -> int:
    if assignment.attempt == 1:
        _sleeper(folder, "child")
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    return _finish(folder, assignment)


def _notes_its_times(folder: Path, assignment: Assignment, stop: Stop) -> int:
    with (folder.parent.parent / "times.txt").open("a", buffering=1) as file:
        file.write(f"{os.getpid()} {time.monotonic_ns()}\n")
        sum(range(300_000))  # some milliseconds
        file.write(f"{os.getpid()} {time.monotonic_ns()}\n")
    return _completes(folder, assignment, stop)
