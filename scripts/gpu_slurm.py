"""The line of prove_gpu.py about Slurm: a study whose workers a Slurm of one node runs on this host's GPUs."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_place import ROOT, Found, Place, seen
from gpu_runs import occupy_study

TRIALS = 2


def prove_slurm(place: Place) -> Found:
    """A worker that Slurm has started in a job with a GPU trains its trials there, and sees that GPU alone."""
    sys.path.insert(0, str(ROOT / "tests"))
    from slurm_node import missing_programs, running_node

    if missing := missing_programs():
        return Found.not_tried(f"Slurm is not installed ({', '.join(missing)}): apt install slurmctld slurmd munge")
    if importlib.util.find_spec("submitit") is None:
        return Found.not_tried("submitit is not installed: pip install submitit")
    files = _device_files(place)
    if not files:
        return Found.not_tried("no /dev/nvidia0 or the like, which Slurm needs for its GPUs")
    try:
        node = running_node(gpus=files)
        slurm = node.__enter__()
    except RuntimeError as error:
        return Found.not_tried(f"Slurm does not start here: {error}")
    try:
        resources = "devices: auto, heartbeat_seconds: 1, slurm: {gpus_per_node: 1, cpus_per_task: 2}"
        text = occupy_study(TRIALS, resources, seconds=1.0)
        ran = place.run_study("slurm", text, "--backend", "slurm", **slurm.environ)
        logs = "".join(path.read_text(errors="replace")[-400:] for path in (ran.folder / "workers").glob("*.log"))
        jobs = len(list((ran.folder / "workers").glob("*.log")))
        trials = seen(ran.folder)
    finally:
        node.__exit__(None, None, None)
    ended = [line for line in trials if line["event"] == "ended"]
    devices = {str(line["device"]) for line in ended}
    shown = {line.get("count", 0) for line in ended}
    holds = ran.code == 0 and len(ended) == TRIALS and devices == {place.device}
    holds = holds and (place.rehearse or shown == {1})
    said = f"{len(ended)} of {TRIALS} trials ended in {jobs} jobs of Slurm on {', '.join(sorted(devices)) or 'nothing'}"
    if not place.rehearse:
        said += f", of GPUs each saw {', '.join(map(str, sorted(shown)))}"
    return Found(holds, said if holds else f"{said}; exit code {ran.code}: {ran.output[-300:]} {logs}", {"jobs": jobs})


def _device_files(place: Place) -> Sequence[Path]:
    """The files that Slurm counts as GPUs; in a rehearsal a file in place of one."""
    if place.rehearse:
        file = place.folder / "gpu0"
        file.touch()
        return [file]
    found = [path for path in Path("/dev").glob("nvidia[0-9]*") if os.access(path, os.R_OK)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("nvidia")))
