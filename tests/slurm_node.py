"""A Slurm of one node for tests: munged, slurmctld and slurmd in a folder of their own, on free ports, for one call.

`python tests/slurm_node.py [FOLDER]` starts one, prints what to set in a shell that uses it, and ends it, with
all of its jobs, when its standard input is closed. So tests start it, too: however the test run ends, also by SIGKILL,
nothing of it is left. There is no accounting (no sacct), and no systemd. The node has more CPUs than the machine, so
that several jobs run beside one another; their times mean nothing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
NODE, PARTITION, OTHER_PARTITION = "node1", "main", "urgent"
CPUS = 8
KILL_WAIT_SECONDS = 8
REMOVE = "--remove"  # the folder, when the node has ended
START_SECONDS = 60.0
END_SECONDS = 15.0
_LOOK_SECONDS = 0.05

_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
JobRequeue=1
KillWait={kill_wait}
MinJobAge=300
MessageTimeout=20
NodeName={node} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN{gpus}
PartitionName={partition} Nodes={node} Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName={other} Nodes={node} MaxTime=INFINITE PriorityTier=9 State=UP
"""
# A job of the partition "urgent" pre-empts those of "main".

GPUS_FILE = "gpus"
"""In the node's folder, before it starts: the device files of its GPUs, one on a line."""


def missing_programs() -> list[str]:
    """The programs of Slurm and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _until(is_true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


# --- the programs, in a process that ends with its standard input


@dataclass
class _Daemons:
    folder: Path
    environ: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *words: str) -> None:
        with open(self.folder / "daemons.log", "ab") as log:
            process = subprocess.Popen(
                words, cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.started.append(process)

    def call(self, *words: str, seconds: float = 10.0) -> subprocess.CompletedProcess[str] | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(words, env=self.environ, capture_output=True, text=True, timeout=seconds, check=False)
        return None

    def answers(self) -> bool:
        """Whether the node takes jobs. Raises RuntimeError where a program has ended."""
        for process in self.started:
            if process.poll() is not None:
                log = (self.folder / "daemons.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {log}")
        found = self.call("sinfo", "--noheader", f"--nodes={NODE}", f"--partition={PARTITION}", "--format=%T")
        return found is not None and found.stdout.strip() == "idle"

    def end(self) -> None:
        """Cancel all jobs and end the programs; what does not end is killed."""
        if len(self.started) > 1:
            self.call("scancel", "--signal=KILL", "--full", f"--user={os.getuid()}")
            self.call("scancel", f"--user={os.getuid()}")
            _until(self._is_empty, END_SECONDS)
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.kill()
            process.wait()
        for pid in _stepds(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _is_empty(self) -> bool:
        found = self.call("squeue", "--noheader")
        return found is None or found.returncode != 0 or not found.stdout.strip()


def _stepds(folder: Path) -> list[int]:
    """The processes of slurmd that watch over a job of this node; they outlive a slurmd that was killed."""
    mark, found = f"SLURM_CONF={folder}/slurm.conf".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "comm").read_text().startswith("slurmstepd") and mark in (path / "environ").read_bytes():
                found.append(int(path.name))
    return found


def _write_configuration(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    listed = folder / GPUS_FILE
    gpus = listed.read_text().splitlines() if listed.exists() else []
    (folder / "gres.conf").write_text("".join(f"NodeName={NODE} Name=gpu File={gpu}\n" for gpu in gpus))
    slurmctld_port, slurmd_port = _free_ports(2)
    text = _CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        slurmctld_port=slurmctld_port,
        slurmd_port=slurmd_port,
        user=os.environ.get("USER") or Path("/proc/self").owner(),
        folder=folder,
        kill_wait=KILL_WAIT_SECONDS,
        node=NODE,
        cpus=CPUS,
        partition=PARTITION,
        other=OTHER_PARTITION,
        gpus=f" Gres=gpu:{len(gpus)}" if gpus else "",
    )
    (folder / "slurm.conf").write_text(text + ("GresTypes=gpu\n" if gpus else ""))


def environment_of(folder: Path) -> dict[str, str]:
    """What a command of Slurm needs in its environment to find the node in this folder."""
    return {"SLURM_CONF": str(folder / "slurm.conf")}


def _serve(folder: Path) -> int:
    """Start the node, print a line when it takes jobs, and end it when standard input is closed."""
    environ = {**os.environ, **environment_of(folder), "PATH": _search_path()}
    _write_configuration(folder)
    daemons = _Daemons(folder, environ)
    try:
        munge = [
            f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")
        ]
        daemons.start("munged", "--foreground", "--force", f"--key-file={folder}/munge.key", *munge)
        there, (munged,) = (folder / "munge.socket").exists, daemons.started
        if not _until(lambda: there() or munged.poll() is not None, START_SECONDS) or not there():
            raise RuntimeError("munged did not start")
        daemons.start("slurmctld", "-D", "-c")
        daemons.start("slurmd", "-D", "-c", "-N", NODE)
        if not _until(daemons.answers, START_SECONDS):
            raise RuntimeError(f"the node takes no jobs after {START_SECONDS:.0f} seconds: see {folder}")
        for name, value in environment_of(folder).items():
            print(f"export {name}={value}", flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        print(f"error: {error}", flush=True)
        return 1
    finally:
        daemons.end()
    return 0


# --- for tests

PATIENCE_SECONDS = 120.0
"""How long tests wait for what jobs do: a job starts after seconds, and its worker imports torch."""


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition holds; fails after these seconds."""
    if not _until(lambda: bool(condition()), seconds):
        raise AssertionError(f"not so after {seconds:.0f} s: {what}")


@dataclass(frozen=True)
class SlurmNode:
    """A node that runs. `environ` is the environment of commands that use it."""

    folder: Path
    environ: Mapping[str, str]

    def call(self, *words: str) -> str:
        """What a command of Slurm prints. Raises CalledProcessError with its words where it fails."""
        done = subprocess.run(words, env=self.environ, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


@contextlib.contextmanager
def running_node(gpus: Sequence[Path] = ()) -> Iterator[SlurmNode]:
    """A Slurm of one node, which ends with the block, or with this process. `gpus`: the device files of its GPUs."""
    folder = Path(tempfile.mkdtemp(prefix="tunectl-slurm-"))
    folder.chmod(0o755)
    if gpus:
        (folder / GPUS_FILE).write_text("".join(f"{path}\n" for path in gpus))
    words = [sys.executable, str(Path(__file__).resolve()), str(folder), REMOVE]
    # In a session of its own: Ctrl-C at the terminal reaches the tests, which then close its standard input.
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("export "):
            raise RuntimeError(f"Slurm did not start: {line} see {folder}")
        yield SlurmNode(folder, {**os.environ, **environment_of(folder), "PATH": _search_path()})
    finally:
        process.stdin.close()
        process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(4 * END_SECONDS)
        process.kill()
        process.wait()


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="tunectl-slurm-")).resolve()
    code = _serve(place)
    if REMOVE in sys.argv and code == 0:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(code)
