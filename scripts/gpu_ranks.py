"""The lines of prove_gpu.py about several devices for one trial: two processes on one GPU, or each on its own; NCCL."""

from __future__ import annotations

import time
from pathlib import Path

from gpu_place import Found, Place

from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.execution.backends.backend import ProcessEnded
from tunectl.execution.backends.local import LocalBackend
from tunectl.execution.devices import find_devices
from tunectl.execution.slots import Slot, make_slots
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.study_spec import ResourcesSection
from tunectl.store.step_files import read_updates
from tunectl.store.trial_files import read_trial, write_request

WORKLOAD = WorkloadReference("tunectl.workloads.digits:mlp", "mlp", module="tunectl.workloads.digits")
TOLERANCE = 1e-3
"""In single precision, over updates that a sum in another order lets drift apart."""

_MOST_SECONDS = 60.0


def prove_ranks(place: Place) -> Found:
    """A trial in two processes has the losses of one in a single process.

    Two processes on one GPU exchange through the host's memory: NCCL refuses two of its ranks on one device. Where
    there are two GPUs, each process has its own, and NCCL is what they exchange by.
    """
    resources = ResourcesSection(devices="cpu" if place.rehearse else "auto")
    devices = find_devices(resources.devices, place.environment())
    together = len(devices) > 1
    alone = make_slots(devices)[0]
    slots = {1: alone, 2: make_slots(devices, devices_per_trial=2)[0] if together else alone}
    backend = LocalBackend()
    backend.start()
    try:
        backend.load(WORKLOAD, {})
        backend.wait_ready()
        found = {count: _train(backend, place.folder / str(count), slot, count, place) for count, slot in slots.items()}
    finally:
        backend.close()
    wrong = [f"{count}: {said}" for count, (_, _, said) in found.items() if said]
    if wrong:
        return Found(False, f"processes {'; '.join(wrong)}")
    apart = max(abs(one - other) for one, other in zip(found[1][0], found[2][0], strict=True))
    how = "on two GPUs, by NCCL" if together else f"on one {'CPU' if place.rehearse else 'GPU'}, through the host"
    milliseconds = {count: 1000 * seconds / len(losses) for count, (losses, seconds, _) in found.items()}
    said = f"two processes {how}: losses of {len(found[1][0])} updates at most {apart:.1e} apart; an update takes "
    said += f"{milliseconds[2]:.2f} ms, and {milliseconds[1]:.2f} ms in one process"
    return Found(apart < TOLERANCE, said, {"apart": apart, "milliseconds": milliseconds, "gpus": len(devices)})


def prove_nccl(place: Place) -> Found:
    """NCCL starts, and adds and sends in a group of one process: of torch's own, and of those that trials have.

    A GPU is enough for that. What two processes on two GPUs exchange by it, the line `ranks` shows where there are two.
    """
    import torch
    import torch.distributed as dist

    from tunectl.core.rank_exchanges import RankExchanges
    from tunectl.training.ranks import ProcessRanks

    if not place.rehearse and not dist.is_nccl_available():
        return Found.not_tried(f"torch {torch.__version__} was built without NCCL")
    meeting, exchanges = place.folder / "meeting", place.folder / "exchanges"
    meeting.touch()
    exchanges.touch()
    ranks = ProcessRanks(0, 1, str(meeting), place.device, RankExchanges(str(exchanges), 1))
    if not place.rehearse and ranks._on_gpu is None:
        return Found(False, "the processes of a trial do not exchange by NCCL")
    dist.init_process_group(
        "gloo" if place.rehearse else "nccl", init_method=f"file://{place.folder}/own", world_size=1, rank=0
    )
    try:
        began, wrong = time.monotonic(), []
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64):
            wanted = torch.arange(1000, device=place.device).to(dtype)
            for name, exchange in (
                ("all_reduce", dist.all_reduce),
                ("sum_", lambda tensor: ranks.sum_([tensor])),
                ("broadcast_", lambda tensor: ranks.broadcast_([tensor])),
            ):
                exchange(found := wanted.clone())
                if not torch.equal(found, wanted):
                    wrong.append(f"{name} of {dtype}")
        seconds = time.monotonic() - began
    finally:
        dist.destroy_process_group()
    version = "" if place.rehearse else " " + ".".join(map(str, torch.cuda.nccl.version()))
    how = "gloo, for a rehearsal" if place.rehearse else f"NCCL{version}"
    said = f"wrong: {', '.join(wrong)}" if wrong else f"{how}: 12 exchanges of four types, in {seconds:.1f} s"
    return Found(not wrong, said, {"seconds": seconds, "by": how})


def _train(backend: LocalBackend, home: Path, slot: Slot, count: int, place: Place) -> tuple[list[float], float, str]:
    """The losses of all updates, the seconds of training, and what went wrong, "" where nothing did."""
    configuration = TrainingConfiguration(optimizer="momentum", learning_rate=0.05, batch_size=101, grad_clip_norm=1.0)
    folder = StudyFolder(home).trial(count)
    folder.path.mkdir(parents=True)
    request = TrialRequest(
        study="ranks",
        trial=count,
        seed=0,
        workload=WORKLOAD,
        arguments={},
        configuration=configuration.to_json(),
        objective=Objective("valid/loss", "minimize"),
        max_train_steps=place.size(200, 20),
        eval_every=place.size(100, 10),
        keep_checkpoints=1,
        devices=count,
    )
    write_request(folder, request)
    backend.launch(count, folder.path, slot, 1)
    ended = _ended(backend)
    result = read_trial(folder).result
    if result is None or result.state != "completed":
        return [], 0.0, result.message if result else f"{ended and ended.message}: {_log(folder)}"
    return [loss for block in read_updates(folder) for loss in block.loss], result.train_seconds, ""


def _ended(backend: LocalBackend) -> ProcessEnded | None:
    until = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < until:
        for event in backend.poll(0.1):
            if isinstance(event, ProcessEnded):
                return event
    return None


def _log(folder: TrialFolder) -> str:
    return folder.log.read_text()[-600:] if folder.log.exists() else "no log"
