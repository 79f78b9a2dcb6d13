"""What is said where Slurm does not answer, from what its commands really print (Slurm 22.05)."""

from __future__ import annotations

import pytest

from tunectl.core.errors import UsageError
from tunectl.execution.engines.slurm_words import COMMANDS, no_answer, require_commands, said, with_advice

NO_CONFIGURATION = """\
squeue: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
squeue: error: fetch_config: DNS SRV lookup failed
squeue: error: _establish_config_source: failed to fetch config
squeue: fatal: Could not establish a configuration source
"""
NO_HOST = "".join(
    f"squeue: error: get_addr_info: getaddrinfo() failed: Name or service not known, attempt number {number}\n"
    for number in range(-4, 6)
)
NO_FILE = """\
squeue: error: s_p_parse_file: cannot stat file /c/slurm.conf: No such file or directory, retrying in 1sec up to 60sec
squeue: error: ClusterName needs to be specified
squeue: fatal: Unable to process configuration file
"""
UNREACHABLE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NO_CONFIGURATION, "Could not establish a configuration source"),
        (NO_HOST + UNREACHABLE, UNREACHABLE.strip()),
        (NO_HOST, "get_addr_info: getaddrinfo() failed: Name or service not known"),
        (
            NO_FILE,
            "s_p_parse_file: cannot stat file /c/slurm.conf: No such file or directory, retrying in 1sec up to 60sec; "
            "ClusterName needs to be specified; Unable to process configuration file",
        ),
        ("\n", "squeue ended with exit code 3"),
    ],
)
def test_of_what_a_command_prints_that_is_said_which_a_user_can_use(text, expected) -> None:
    assert said("squeue", text, 3) == expected


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (said("squeue", NO_CONFIGURATION, 1), "set SLURM_CONF"),
        (said("squeue", NO_FILE, 1), "set SLURM_CONF"),
        (UNREACHABLE.strip(), "scontrol ping"),
        ("Munge encode failed: Failed to access /run/munge/munge.socket.2: No such file or directory", "munged"),
        ("Batch job submission failed: Invalid partition name specified", "resources.slurm.partition;"),
        ("Invalid account or account/partition combination specified", "resources.slurm.account"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "resources.slurm.time_minutes"),
        ("Requested node configuration is not available", "resources.slurm.cpus_per_task"),
        ("Invalid generic resource (gres) specification", "resources.slurm.gpus_per_node"),
        ("Invalid qos specification", "resources.slurm.additional"),
        ("unrecognized option '--qoss=high'", "resources.slurm.additional"),
    ],
)
def test_what_can_be_done_follows_from_slurms_words(failure, advice) -> None:
    assert with_advice(failure).startswith(f"{failure}; ")
    assert advice in with_advice(failure)


def test_words_without_a_known_cause_have_no_advice() -> None:
    assert with_advice("sbatch: the site's plugin refuses this") == "sbatch: the site's plugin refuses this"


def test_where_what_was_asked_what_was_said_and_what_to_do_are_in_one_line(monkeypatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    assert no_answer(said("squeue", NO_CONFIGURATION, 1)) == (
        "slurm: squeue on desk does not list the jobs of this study: Could not establish a configuration source; Slurm "
        "is installed here without the configuration of a cluster: run this on a host of the cluster, such as its "
        "login node, or set SLURM_CONF to its slurm.conf"
    )


def test_each_command_that_is_missing_is_named(tmp_path, monkeypatch) -> None:
    for name in COMMANDS[:-1]:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"^backend slurm: srun is not on the PATH of .*login node$"):
        require_commands()
