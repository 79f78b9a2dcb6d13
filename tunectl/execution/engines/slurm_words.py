"""What Slurm's commands print where they fail, in one line, and what a user can do about it."""

from __future__ import annotations

import re
import shutil
import socket

from tunectl.core.errors import UsageError

COMMANDS = ("sbatch", "squeue", "scancel", "srun")
"""What must be on the PATH; submitit looks for srun, and sacct is used only where there is accounting."""

_PREFIX = re.compile(r"^[a-z]+: (?:error|fatal): ")
_COUNTED = re.compile(r", attempt number -?\d+$")
_INTERNAL = re.compile(r"^_?[a-z]+_[a-z_]+: (?!.* /)")
# A line that begins with the name of a function of Slurm's, unless it names a file.

_HERE = "run this on a host of the cluster, such as its login node"
_ADVICE = (
    (
        r"configuration (?:source|file)|ClusterName needs to be specified",
        f"Slurm is installed here without the configuration of a cluster: {_HERE}, or set SLURM_CONF to its slurm.conf",
    ),
    (
        r"[Mm]unge|authentication|credential",
        f"Slurm does not know this host, or munged does not run on it: {_HERE}",
    ),
    (
        r"Unable to contact|[Cc]onnect|timed out|did not answer|getaddrinfo",
        "its controller does not answer; `scontrol ping` says whether it is up, and the same command goes on then",
    ),
    (r"[Aa]ccount", "see resources.slurm.account and .partition; `sacctmgr show associations user=$USER` lists yours"),
    (r"partition", "see resources.slurm.partition; `sinfo` lists the partitions"),
    (r"[Tt]ime limit", "see resources.slurm.time_minutes; `sinfo` lists the limits of the partitions"),
    (r"\b[Gg](?:res|RES)\b", "see resources.slurm.gpus_per_node; `sinfo --Format=nodelist,gres` lists what nodes have"),
    (
        r"node configuration|CPU count|[Mm]emory specification",
        "see resources.slurm.cpus_per_task, .mem_gb and .gpus_per_node; `sinfo --Node --long` lists what nodes have",
    ),
    (r"\bqos\b|unrecognized option|[Ii]nvalid --", "see resources.slurm.additional"),
)


def require_commands() -> None:
    """Raise UsageError where a command of Slurm's is not on the PATH."""
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise UsageError(
            f"backend slurm: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not on the PATH of "
            f"{socket.gethostname()}: load the module that brings Slurm's commands, or {_HERE}"
        )


def said(name: str, text: str, code: int | None) -> str:
    """Why a command failed: what it printed, on one line, without what says nothing to a user."""
    lines = [_COUNTED.sub("", _PREFIX.sub("", line.strip())) for line in text.splitlines()]
    lines = list(dict.fromkeys(line for line in lines if line))
    telling = [line for line in lines if not _INTERNAL.match(line)]
    return "; ".join(telling or lines) or f"{name} ended with exit code {code}"


def with_advice(failure: str) -> str:
    """A failure with what can be done about it, where that is known."""
    advice = next((words for pattern, words in _ADVICE if re.search(pattern, failure)), "")
    return f"{failure}; {advice}" if advice else failure


def unreachable(failure: str) -> str:
    """Why nothing can be submitted from this machine, and what can be done about it."""
    return with_advice(f"backend slurm: Slurm does not answer {socket.gethostname()}: {failure}")


def no_answer(failure: str) -> str:
    """Why this machine's Slurm does not say which jobs the study has, and what can be done about it."""
    return with_advice(f"slurm: squeue on {socket.gethostname()} does not list the jobs of this study: {failure}")
