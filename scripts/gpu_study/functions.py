"""Functions that a study of prove_gpu.py trains: they note what they see of the GPU, and hold some of its memory."""

from __future__ import annotations

import json
import os
import time

import torch


def occupy(trial, *, number, touch=True, fraction=0.0, seconds=0.0):
    """Note when it began and ended and which devices it sees; hold a part of the GPU's memory for `seconds` seconds.

    Without `touch` it leaves CUDA alone.
    """
    noted = {
        "number": number,
        "pid": os.getpid(),
        "server": os.getppid(),
        "began": time.monotonic(),
        "device": trial.device,
    }
    block = None
    if touch and trial.device != "cpu":
        began = time.monotonic()
        torch.zeros(1, device=trial.device).item()
        noted["cuda_seconds"] = time.monotonic() - began
        free, total = torch.cuda.mem_get_info()
        noted |= {"free": free, "total": total, "count": torch.cuda.device_count()}
        noted["uuid"] = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        block = torch.empty(int(fraction * total), dtype=torch.uint8, device=trial.device) if fraction else None
    note(trial, noted | {"event": "began"})
    end = time.monotonic() + seconds
    while time.monotonic() < end and not trial.should_stop:
        time.sleep(0.01)
    trial.record(1, {"valid/loss": 1.0})
    note(trial, noted | {"event": "ended", "ended": time.monotonic()})
    del block


def note(trial, noted):
    with open(trial.dir / "seen.jsonl", "a") as file:
        file.write(json.dumps(noted) + "\n")
