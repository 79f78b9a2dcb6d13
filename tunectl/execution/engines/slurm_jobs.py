"""The jobs of Slurm as its commands print them: ids, states and reasons, from the text of squeue and sacct.

Only text is read here; slurm_commands calls the commands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.execution.worker_engine import JobState

_COLUMNS = {
    "JobArrayID": 160,
    "State": 24,
    "RestartCnt": 12,
    "exit_code": 16,
    "Reason": 160,
    "PreemptTime": 24,
    "Name": 128,
}
SQUEUE_FORMAT = ",".join(f"{name}:{width}" for name, width in _COLUMNS.items())
"""For `squeue --Format`: columns of fixed width, as a reason may contain any character."""

FORMAT_WITH_COMMAND = f"{SQUEUE_FORMAT},Command:4096"
"""As SQUEUE_FORMAT, and then the path of the job's script."""

SACCT_FORMAT = "JobID,State,ExitCode,JobName,Reason"
"""For `sacct --duplicates --parsable2 --format`."""

_QUEUED = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
_ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "RECONFIG_FAIL", "TIMEOUT"}
)
# The states of job_state_string() in Slurm's slurm_protocol_defs.c. Every other one is of a job that may have
# processes: also REVOKED, which a cluster says of a job that another cluster of its federation has started.

_NO_REASON = frozenset({"", "None", "(null)", "N/A"})
_SAID_BY_STATE = frozenset({"TimeLimit", "NodeDown", "NonZeroExitCode", "OutOfMemory", "Prolog"})
_LAST_SIGNAL = 31  # after it are real-time signals: Slurm has 53 for a log that it could not open
_ARRAY = re.compile(r"(?P<array>\d+)_\[(?P<tasks>[\d,:-]+)(?:%\d+)?\]")
_JOB = re.compile(r"(?P<job>\d+(?:_\d+)?)(?:r(?P<restarts>\d+))?")
_BY = re.compile(r"CANCELLED by (?P<user>\d+)")

REQUEUED = "REQUEUED"
"""Why a life of a job ended that Slurm has started again, or will: squeue does not say more."""

COMPLETING = "COMPLETING"
"""The reason of a running job that is about to end: squeue does not say why."""

_CAUSES = {"PREEMPTION": "PREEMPTED", "NODE FAILURE": "NODE_FAIL", "TIME LIMIT": "TIMEOUT", "JOB REQUEUE": REQUEUED}
_CAUSE = re.compile(rf"\*\*\* JOB \S+ ON \S+ CANCELLED AT \S+(?: DUE TO ({'|'.join(_CAUSES)})| \*\*\*)")
# What slurmstepd writes to the log of a job that it ends (slurmstepd/req.c).


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A line of squeue or sacct. `restarts` is how often Slurm has started the job again. `name` is the job's, and
    `command` the path of its script, "" where they were not asked for.
    """

    state: JobState
    word: str
    reason: str
    restarts: int
    name: str = ""
    command: str = ""

    def is_of(self, name: str, folder: Path) -> bool:
        """Whether it has this name, or its script was submitted from this folder: a site or a user may change the name
        of a job, not the path of its script.
        """
        return self.name == name or (self.command != "" and Path(self.command).parent.resolve() == folder.resolve())

    def is_of_another_study(self, name: str) -> bool:
        """Whether an engine submitted it, as its name says, and not under this one."""
        return self.name.startswith(NAME_PREFIX) and self.name != name


NAME_PREFIX = "tunectl-"
"""How the names of all jobs begin that an engine submits."""


def life_of(job: str, restarts: int) -> str:
    """The name of one life of a job: a job that Slurm starts again is another worker. `12_3`, then `12_3r1`."""
    return f"{job}r{restarts}" if restarts else job


def job_name(mark: str, study: Path) -> str:
    """The name of all jobs of a study folder: the folder's own, and what its `mark` (see study_mark) has of letters."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", study.name)[:60]
    return f"{NAME_PREFIX}{name}-{mark.removeprefix('tunectl-').strip('-')}"


def job_and_restarts(life: str) -> tuple[str, int] | None:
    """The job, and how often it was started again before this life; None where the text is not a job of Slurm."""
    match = _JOB.fullmatch(life)
    return None if match is None else (match["job"], int(match["restarts"] or 0))


def squeue_jobs(text: str) -> dict[str, QueuedJob]:
    """The jobs in what squeue prints with one of these formats, by their ids; raises ValueError for another text."""
    found: dict[str, QueuedJob] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("CLUSTER:"):
            continue
        cells, start = [], 0
        for width in _COLUMNS.values():
            cells.append(line[start : start + width].strip())
            start += width
        ids, word, restarts, code, reason, preempted, name = cells
        job = _queued_job(word, restarts, code, reason)
        if preempted not in _NO_REASON and (job.state == "running" or word in ("COMPLETED", "FAILED")):
            job = replace(job, reason="PREEMPTED")  # it ended by itself in its time of grace, or will
        job = replace(job, name=name, command=line[start:].strip())
        for one in _expanded(ids):
            if one not in found or _weight(job) > _weight(found[one]):
                found[one] = job
    return found


def _weight(job: QueuedJob) -> int:
    """Of two clusters that list a job, that one counts which has it, then that one on which it has ended."""
    return 0 if job.word == "REVOKED" else 1 if job.state == "ended" else 2


def sacct_lives(text: str, name: str) -> dict[str, tuple[JobState, str]]:
    """Each life of the jobs with this name in what sacct prints with SACCT_FORMAT: its state and reason.

    A job that was started again has a line for each life, in their order. Where the ids of a cluster have begun again,
    one of another name is another job. Raises ValueError for another text.
    """
    found: dict[str, tuple[JobState, str]] = {}
    seen: Counter[str] = Counter()
    for line in text.splitlines():
        if not line.strip():
            continue
        ids, word, code, named, reason = line.split("|", 4)
        if "." in ids or named != name:  # a step of a job, or another job
            continue
        job = _queued_job(word, "0", code, reason)
        for one in _expanded(ids):
            found[life_of(one, seen[one])] = (job.state, job.reason)
            seen[one] += 1
    return found


def _queued_job(state: str, restarts: str, code: str, reason: str) -> QueuedJob:
    word = state.split(maxsplit=1)[0] if state else ""
    if not word.replace("_", "").isalpha():
        raise ValueError(f"{state!r} is not the state of a job")
    kind: JobState = "queued" if word in _QUEUED else "ended" if word in _ENDED else "running"
    given = "" if reason in _NO_REASON else reason
    explained = _why_ended(state, word, code, given) if kind == "ended" else given
    return QueuedJob(kind, word, explained, int(restarts) if restarts.isdecimal() else 0)


def _why_ended(state: str, word: str, code: str, reason: str) -> str:
    """`FAILED (exit code 1)`, `CANCELLED by ada`, `TIMEOUT`; "" for a job that ended by itself."""
    if word == "COMPLETED":
        return ""
    if match := _BY.search(state):
        return f"{word} by {_user(int(match['user']))}"
    number, killed_by = _exit_code(code)
    if word == "FAILED" and (number or killed_by):
        return f"{word} (signal {killed_by})" if killed_by else f"{word} (exit code {number})"
    return f"{word} ({reason})" if reason and reason not in _SAID_BY_STATE else word


def _exit_code(text: str) -> tuple[int, int]:
    """The exit code and the signal in `1:0`, or in what wait(2) gives, as squeue prints it; (0, 0) for another text.

    With a signal that no process can get, Slurm means a failure of its own, which is in its reason.
    """
    number, colon, killed_by = text.partition(":")
    if not number.isdecimal() or (colon and not killed_by.isdecimal()):
        return 0, 0
    code, by = (int(number), int(killed_by)) if colon else (int(number) >> 8, int(number) & 0x7F)
    return (0, by) if 0 < by <= _LAST_SIGNAL else (0, 0) if by else (code, 0)


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _expanded(ids: str) -> Iterator[str]:
    """The ids of `12_[3-5,7%2]`, or the one that the text is; raises ValueError for another text."""
    if match := _ARRAY.fullmatch(ids):
        yield from (f"{match['array']}_{task}" for task in _tasks(match["tasks"]))
    elif _JOB.fullmatch(ids):
        yield ids
    else:
        raise ValueError(f"{ids!r} is not the id of a job")


def _tasks(text: str) -> Iterable[int]:
    for part in text.split(","):
        span, _, step = part.partition(":")
        low, _, high = span.partition("-")
        yield from range(int(low), int(high or low) + 1, int(step or 1))


def cause_in_log(lines: Iterable[str], *, may_be_cancelled: bool) -> str:
    """Why Slurm ended the last life whose end a job's log has; "" where it does not say.

    Where a job `may_be_cancelled`, an end without a reason is that of scancel.
    """
    found = [match[1] for line in lines if (match := _CAUSE.search(line)) is not None]
    words = [_CAUSES[cause] if cause else "CANCELLED" for cause in found if cause or may_be_cancelled]
    return words[-1] if words else ""


def lives(jobs: Mapping[str, QueuedJob]) -> dict[str, tuple[JobState, str]]:
    """Each life of these jobs with its state and the reason, also the earlier ones of a job that was started again."""
    found: dict[str, tuple[JobState, str]] = {}
    for name, job in jobs.items():
        for restarts in range(job.restarts):
            # Until its processes have ended, the last life may still write.
            is_ending = job.word == COMPLETING and restarts == job.restarts - 1
            found[life_of(name, restarts)] = ("running", job.reason or COMPLETING) if is_ending else ("ended", REQUEUED)
        is_ending = job.word == COMPLETING and not job.reason
        found[life_of(name, job.restarts)] = (job.state, COMPLETING if is_ending else job.reason)
    return found


def is_alive(text: str, job: str, restarts: int, name: str) -> bool | None:
    """Whether a life of a job is queued or running, by what squeue printed about this job; None for another text.

    `name` is that of this study's jobs: one that an engine has submitted for another study is none of this study.
    """
    try:
        jobs = squeue_jobs(text)
    except ValueError:
        return None
    state = lives({one: found for one, found in jobs.items() if not found.is_of_another_study(name)})
    return state.get(life_of(job, restarts), ("ended", ""))[0] != "ended"
