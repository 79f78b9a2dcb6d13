"""Lines of prove_gpu.py that run studies: what trials see, what they share, what is left of them."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gpu_place import DriverView, Found, Place, Ran, driver_view, seen, wait_for

from tunectl.execution.devices import find_devices
from tunectl.execution.nvml import read_gpus

GOAL_TRIAL_SECONDS = 0.080  # as in bench_runner.py
MEMORY_SLACK = 2**28
"""What the driver itself may keep or take between two looks: far below a context with a block of memory."""

OCCUPY = """\
workload: {function: "{files}/functions.py:occupy"}
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 1}
"""


def occupy_study(trials: int, resources: str = "devices: auto", **values: object) -> str:
    """A study of `trials` trials of the function `occupy` with these values."""
    fixed = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in values.items())
    varied = "  number: {role: nuisance, range: [0, 1]}\n"  # a study of several trials needs something that varies
    return f"{OCCUPY}hyperparameters:\n{fixed}{varied}search: {{trials: {trials}}}\nresources: {{{resources}}}\n"


def prove_devices(place: Place) -> Found:
    """The devices found are those that CUDA shows."""
    found = find_devices("auto", place.environment())
    if place.rehearse:
        return Found(found[0].device_type == "cpu", f"{len(found)} device: {found[0].name}")
    import torch

    instances = sum(len(gpu.instances or ()) for gpu in read_gpus())
    shown = {f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(torch.cuda.device_count())}
    ours = {device.visible for device in found}
    # CUDA shows a process one MIG instance at most, each trial is a process of its own.
    holds = bool(ours) if instances else ours == shown
    names = ", ".join(f"{device.name} ({device.visible})" for device in found)
    figures = {"found": sorted(ours), "shown": sorted(shown), "torch": torch.__version__, "cuda": torch.version.cuda}
    return Found(holds, f"{names}; torch {torch.__version__}", figures)


def prove_masks(place: Place) -> Found:
    """Each trial sees its own device alone as cuda:0, whatever the form of the mask; an empty one leaves the CPU."""
    if place.rehearse:
        masks: dict[str, str | None] = {"none": None, "empty": ""}
        count = 1
    else:
        devices = find_devices("auto", place.environment())
        uuid, count = devices[0].visible, len(devices)
        masks = {"none": None, "index": "0", "uuid": uuid, "part of uuid": uuid[:12], "empty": ""}
    wrong, figures = [], {}
    for name, mask in masks.items():
        environment = (
            {} if mask is None and "CUDA_VISIBLE_DEVICES" not in os.environ else {"CUDA_VISIBLE_DEVICES": mask}
        )
        trials = count if mask is None else 1
        ran = place.run_study(f"mask-{len(figures)}", occupy_study(trials, seconds=0.2 * count), **environment)
        lines = [line for line in ran.seen() if line["event"] == "ended"]
        figures[name] = [(line["device"], line.get("count"), line.get("uuid")) for line in lines]
        on_cpu = place.rehearse or mask == ""
        good = ran.code == 0 and len(lines) == trials and all(line["device"] == place_name(on_cpu) for line in lines)
        good &= on_cpu or all(line["count"] == 1 for line in lines)
        labels = {row["device"] for row in ran.rows()}
        good &= on_cpu or labels == {line["uuid"] for line in lines}
        wrong += [] if good else [f"{name}: {figures[name]}, exit code {ran.code}, devices {sorted(labels)}"]
    return Found(not wrong, "; ".join(wrong) or f"masks tried: {', '.join(masks)}", figures)


def place_name(on_cpu: bool) -> str:
    return "cpu" if on_cpu else "cuda:0"


def prove_shared(place: Place) -> Found:
    """Four trials run on one GPU at a time."""
    resources = "devices: cpu" if place.rehearse else "devices: [0], trials_per_device: 4"
    options = ("--slots", "4") if place.rehearse else ()
    ran = place.run_study("shared", occupy_study(4, resources, fraction=0.05, seconds=6.0), *options)
    lines = [line for line in ran.seen() if line["event"] == "ended"]
    together = max((sum(a["began"] <= b["began"] < a["ended"] for a in lines) for b in lines), default=0)
    holds = ran.code == 0 and together == 4 and all(line["device"] == place.device for line in lines)
    return Found(holds, f"{together} trials at a time on {place.device}", {"together": together})


def prove_cost(place: Place) -> Found:
    """Between two trials on a GPU there are at most 80 ms, without the start of CUDA."""
    trials = place.size(12, 6)
    figures: dict[str, float] = {}
    for name, touch in (("idle", False), ("with CUDA", True)):
        options = ("--slots", "1")
        ran = place.run_study(f"cost-{name.replace(' ', '-')}", occupy_study(trials, touch=touch), *options)
        lines = sorted((line for line in ran.seen() if line["event"] == "ended"), key=lambda line: line["began"])
        if ran.code or len(lines) != trials:
            return Found(False, f"{name}: exit code {ran.code}, {len(lines)} of {trials} trials: {ran.output[-400:]}")
        gaps = [later["began"] - earlier["ended"] for earlier, later in itertools.pairwise(lines)]
        figures[f"between two trials, {name}"] = statistics.median(gaps)
        if touch and not place.rehearse:
            figures["start of CUDA"] = statistics.median(line["cuda_seconds"] for line in lines)
    # What a slow disk or a slow machine makes of it: the runner flushes some ten files between two trials.
    figures["one flush of a file to this disk"] = flush_seconds(place.folder)
    figures["a Python process that imports torch"] = import_seconds(place)
    said = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in figures.items())
    return Found(figures["between two trials, idle"] <= GOAL_TRIAL_SECONDS, f"{said}; goal 80 ms idle", figures)


def flush_seconds(folder: Path, times: int = 20) -> float:
    """The median time of writing a small file and flushing it to the disk."""
    found = []
    for number in range(times):
        began = time.perf_counter()
        with open(folder / f"flushed-{number}", "wb") as file:
            file.write(b"a line\n")
            file.flush()
            os.fsync(file.fileno())
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def import_seconds(place: Place) -> float:
    """The time of a fresh process that imports torch and ends: what a trial without the fork server costs at least."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], env=place.environment(), check=True)
    return time.perf_counter() - began


HUNGRY = """\
workload: "{files}/networks.py:hungry"
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 20, eval_every: 10}
hyperparameters:
  optimizer: sgd
  learning_rate: 0.01
  seconds: SECONDS
  fraction: {role: nuisance, values: VALUES}
search: {sampler: grid}
resources: {RESOURCES}
"""


def hungry_study(values: str, seconds: float, resources: str) -> str:
    study = HUNGRY.replace("VALUES", values).replace("SECONDS", str(seconds))
    return study.replace("RESOURCES", resources)


def prove_memory(place: Place) -> Found:
    """What does not fit alone is infeasible; what does not fit beside a neighbour is run again alone and completes."""
    alone = place.run_study("alone", hungry_study("[0.1, 3.0]", 0.0, "devices: auto"), "--slots", "1")
    ends = [(row["state"], row["reason"]) for row in alone.rows()]
    holds = ends == [("completed", ""), ("infeasible", "out_of_memory")]
    resources = "devices: cpu" if place.rehearse else "devices: [0], trials_per_device: 2"
    beside = place.run_study("beside", hungry_study("[0.6, 0.61]", 4.0, resources))
    rows = beside.rows()
    states, attempts = [row["state"] for row in rows], [int(row["attempts"]) for row in rows]
    # On the CPU nothing runs out beside the neighbour.
    holds &= states == ["completed"] * 2 and (place.rehearse or sorted(attempts) == [1, 2])
    said = f"alone: {ends}; two of 60 % together: {states} in {attempts} attempts"
    return Found(holds, said, {"alone": ends, "states": states, "attempts": attempts})


def prove_kills(place: Place) -> Found:
    """SIGKILL of trial, server and runner leaves nothing on the GPU, and memory is free before it is used again."""
    folder = place.folder / "kills"
    fraction, trials = 0.5, 3
    resources = "devices: cpu" if place.rehearse else "devices: [0]"
    study = place.write_study("kills", occupy_study(trials, f"{resources}, retries: 9", fraction=fraction, seconds=3.0))
    before = None if place.rehearse else driver_view()
    arguments = ("run", study, "--dir", folder, "--quiet", "--slots", "1")
    runner = place.start(*arguments)
    for victim in ("pid", "server"):
        holder = newest_holder(folder)
        os.kill(holder[victim], signal.SIGKILL)
        wait_for(lambda gone=holder: (newest_holder(folder, 0) or gone)["pid"] != gone["pid"], 60)
    holder = newest_holder(folder)
    runner.kill()
    runner.communicate()
    left = wait_for(lambda: not left_over(holder, before), 10)
    nothing_left, described = bool(left), left_over(holder, before)
    code, _ = place.run(*arguments)
    starts = [line for line in seen(folder) if line["event"] == "began"]
    free = [line["free"] / line["total"] for line in starts if "free" in line]
    # A trial that still held its half when the next began would have left less than that.
    freed = place.rehearse or min(free) > max(free) - 0.05
    said = f"{len(starts)} starts of {trials} trials, free memory at each {', '.join(f'{part:.3f}' for part in free)}"
    said += f"; left after the runner's death: {described or 'nothing'}; the same command then ended with {code}"
    return Found(nothing_left and freed and code == 0, said, {"free": free, "starts": len(starts)})


def newest_holder(folder: Path, seconds: float = 60.0) -> Any:
    """The note of the trial that holds memory now; None where none does within that time."""

    def newest() -> Any:
        begun = [line for line in seen(folder) if line["event"] == "began"]
        ended = {line["pid"] for line in seen(folder) if line["event"] == "ended"}
        alive = [line for line in begun if line["pid"] not in ended and is_alive(line["pid"])]
        return alive[-1] if alive else None

    return wait_for(newest, seconds)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def left_over(holder: dict[str, Any], before: DriverView | None) -> str:
    """What is left of a run whose last trial was `holder`; `before` is what the driver showed before it."""
    left = [f"process {holder[name]}" for name in ("pid", "server") if is_alive(holder[name])]
    if before is not None:
        now = driver_view()
        left += [f"process {pid} on the GPU" for pid in now.pids - before.pids]
        if now.used > before.used + MEMORY_SLACK:
            left.append(f"{(now.used - before.used) / 2**20:.0f} MiB in use")
    return ", ".join(left)


MANY = """\
workload: "{files}/networks.py:mlp"
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: STEPS, eval_every: STEPS, keep_checkpoints: 1}
hyperparameters:
  optimizer: momentum
  learning_rate: {role: nuisance, range: [0.01, 0.1], scale: log}
search: {trials: 8}
resources: {RESOURCES}
"""


def prove_many(place: Place) -> Found:
    """Small trials finish faster four at a time on one GPU than one at a time, with the same results."""
    steps = place.size(2000, 200)
    seconds: dict[str, float] = {}
    values = []
    for count in (1, 4):
        resources = "devices: cpu" if place.rehearse else f"devices: [0], trials_per_device: {count}"
        options = ("--slots", str(count)) if place.rehearse else ()
        study = MANY.replace("STEPS", str(steps)).replace("RESOURCES", resources)
        ran = place.run_study(f"many-{count}", study, *options)
        values.append([float(row["final_value"]) for row in ran.rows() if row["state"] == "completed"])
        seconds[f"{count} at a time"] = at_work(ran)
    ratio = seconds["1 at a time"] / seconds["4 at a time"]
    apart = max((abs(one - other) for one, other in zip(*values, strict=False)), default=float("nan"))
    holds = [len(found) for found in values] == [8, 8] and apart < 1e-3 and (ratio > 1 or place.rehearse)
    said = f"8 trials of {steps} steps: " + ", ".join(f"{name} {found:.1f} s" for name, found in seconds.items())
    return Found(holds, f"{said}, {ratio:.2f} times as fast; losses differ by {apart:.1e}", {"ratio": ratio, **seconds})


def at_work(ran: Ran) -> float:
    """Seconds from the first trial's launch to the last one's result."""
    begun = min(path.stat().st_mtime for path in ran.folder.glob("trials/*/log.txt"))
    return max(path.stat().st_mtime for path in ran.folder.glob("trials/*/result.json")) - begun


BATCH = """\
workload: {factory}
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 1000, eval_every: 100}
hyperparameters:
  optimizer: sgd
  learning_rate: 0.01
  batch_size: 64
  size: SIZE
"""


def prove_batch_size(place: Place) -> Found:
    """`tunectl batch-size` doubles the batch until the GPU's memory is full, and says so."""
    study = BATCH.replace("{factory}", '"{files}/networks.py:wide"').replace("SIZE", str(place.size(2_500_000, 100)))
    path, folder = place.write_study("batch", study), place.folder / "batch"
    options = ("--high", "256", "--steps", "20") if place.rehearse else ()
    code, output = place.run("batch-size", path, "--dir", folder, *options)
    try:
        with open(folder / "conclusion.json") as file:
            conclusion = json.load(file)
    except FileNotFoundError:
        return Found(False, f"exit code {code}, no conclusion: {output[-400:]}")
    rows = Ran(folder, code, output).rows()
    full = [row["batch_size"] for row in rows if row["reason"] == "out_of_memory"]
    fits = [int(row["batch_size"]) for row in rows if row["state"] == "completed"]
    holds = code == 0 and bool(fits) and (place.rehearse or (bool(full) and int(min(full, key=int)) > max(fits)))
    said = f"batches up to {max(fits, default=0)} fit, {', '.join(full) or 'none'} did not; exit code {code}"
    return Found(holds, said, {"conclusion": conclusion})


TORCHRUN = """\
workload:
  command: [python, -m, torch.distributed.run, --standalone, --nproc-per-node=1, "{files}/distributed.py"]
  environment: {RATE: "{learning_rate}"}
  metrics: [{json_lines: stdout}]
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 10}
hyperparameters:
  learning_rate: {role: nuisance, range: [1e-3, 1e-1], scale: log}
search: {trials: 2}
"""


def prove_torchrun(place: Place) -> Found:
    """A command that starts torchrun itself trains on the one device of its trial."""
    ran = place.run_study("torchrun", TORCHRUN)
    rows = ran.rows()
    states = [row["state"] for row in rows]
    devices = {row.get("devices", "") for row in rows}
    wanted = {"0.0", "0"} if place.rehearse else {"1.0", "1"}
    messages = "; ".join(filter(None, (re.sub(r"\s+", " ", row.get("message", "")) for row in rows)))
    holds = ran.code == 0 and states == ["completed"] * 2 and devices <= wanted
    return Found(holds, messages or f"{states}, devices seen: {', '.join(sorted(devices))}", {"states": states})
