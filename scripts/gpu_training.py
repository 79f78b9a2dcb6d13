"""Lines of prove_gpu.py that train in this process: the loop's cost, its synchronisations, resume, float16."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts: what deterministic products need

import torch
from gpu_place import STUDY_FILES, Found, Place
from torch import nn
from torch.nn.functional import cross_entropy

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, TrialResult, WorkloadReference
from tunectl.language.configuration import TrainingConfiguration
from tunectl.store.trial_files import read_trial
from tunectl.training import loop, trial
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial
from tunectl.workloads.classification import image_classification
from tunectl.workloads.data.image_data import image_splits
from tunectl.workloads.workload import Workload

sys.path.insert(0, str(STUDY_FILES))
import networks

GOAL_RATIO = 1.05
ROUNDS = 3
RESUME_TOLERANCE = 0.02
"""Without deterministic algorithms: how far, relatively, a resumed trial's losses may lie from the undisturbed ones."""

FLOAT16_TOLERANCE = 0.02

Factory = Callable[..., Workload]


@dataclass(frozen=True, slots=True)
class Training:
    """A training of `steps` updates of a workload; `configuration` is what differs from momentum 0.9 at 0.05."""

    factory: Factory
    steps: int
    eval_every: int
    configuration: dict[str, Any]

    def settings(self) -> TrainingConfiguration:
        plain = {"optimizer": "momentum", "learning_rate": 0.05, "momentum": 0.9, "batch_size": 128}
        return TrainingConfiguration(**{**plain, **self.configuration})


def train(
    training: Training,
    folder: Path,
    device: str,
    *,
    stop: Callable[[], bool] = lambda: False,
    seconds: TrialSeconds | None = None,
) -> TrialResult | None:
    """Train as a trial does; None where it was stopped."""
    settings = training.settings()
    request = TrialRequest(
        study="prove-gpu",
        trial=0,
        seed=1,
        workload=WorkloadReference("networks:net", "net", module="networks"),
        arguments={},
        configuration={name: getattr(settings, name) for name in TrainingConfiguration.__dataclass_fields__},
        objective=Objective("valid/loss", "minimize"),
        max_train_steps=training.steps,
        eval_every=training.eval_every,
        keep_checkpoints=0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    counted, clock = seconds or TrialSeconds(), Clock(save_every_seconds=1e9)
    return run_trial(
        request, TrialFolder(folder), training.factory, device=device, stop=stop, seconds=counted, clock=clock
    )


def train_bare(training: Training, device: str) -> float:
    """The seconds of the updates of a bare loop with the data on the device and torch's fused kernels."""
    settings = training.settings()
    torch.manual_seed(1)
    workload = training.factory()
    model = workload.model.to(device)
    inputs, labels = (tensor.to(device) for tensor in workload.data["train"].tensors)
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.learning_rate, momentum=0.9, fused=True)
    casts = settings.precision == "bfloat16"
    cast = partial(torch.autocast, torch.device(device).type, dtype=torch.bfloat16, enabled=casts)
    order, place = torch.randperm(len(labels), device=device), 0
    model.train()
    synchronise(device)
    began = time.perf_counter()
    for _ in range(training.steps):
        if place + settings.batch_size > len(labels):
            order, place = torch.randperm(len(labels), device=device), 0
        chosen = order[place : place + settings.batch_size]
        place += settings.batch_size
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = cross_entropy(model(inputs.index_select(0, chosen)), labels.index_select(0, chosen))
        loss.backward()
        optimizer.step()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def per_update(seconds: Callable[[int], float], steps: int) -> float:
    """The seconds of an update, from two trainings of which one is three times as long: what a training costs once,
    however long it is, cancels.
    """
    short, long = seconds(steps), seconds(3 * steps)
    return (long - short) / (2 * steps)


def prove_loop(place: Place, name: str, factory: Factory, steps: int) -> Found:
    """The trial's loop costs at most 1.05 times a bare fused one, in float32 and bfloat16."""
    figures: dict[str, float] = {}
    for precision in ("float32", "bfloat16"):
        found: dict[str, list[float]] = {"bare": [], "trial": []}
        for number in range(place.size(ROUNDS, 1) + 1):

            def bare(steps: int, precision: str = precision) -> float:
                return train_bare(Training(factory, steps, steps, {"precision": precision}), place.device)

            def ours(steps: int, precision: str = precision, number: int = number) -> float:
                seconds, folder = TrialSeconds(), place.folder / f"{precision}-{number}-{steps}"
                training = Training(factory, steps, steps, {"precision": precision})
                train(training, folder, place.device, seconds=seconds)
                return seconds.train_seconds

            if number == 0:  # the first round loads what is loaded late
                bare(steps), ours(steps)
                continue
            found["bare"].append(per_update(bare, steps))
            found["trial"].append(per_update(ours, steps))
        ratios = [trial / plain for trial, plain in zip(found["trial"], found["bare"], strict=True)]
        figures[f"{precision} ratio"] = statistics.median(ratios)
        figures[f"{precision} bare ms"] = 1e3 * statistics.median(found["bare"])
        figures[f"{precision} trial ms"] = 1e3 * statistics.median(found["trial"])
    worst = max(figures["float32 ratio"], figures["bfloat16 ratio"])
    said = ", ".join(
        f"{precision}: {figures[f'{precision} trial ms']:.3f} ms an update against "
        f"{figures[f'{precision} bare ms']:.3f} ({figures[f'{precision} ratio']:.3f})"
        for precision in ("float32", "bfloat16")
    )
    return Found(worst <= GOAL_RATIO or place.rehearse, f"{name}, {said}; goal {GOAL_RATIO}", figures)


def prove_loop_mlp(place: Place) -> Found:
    return prove_loop(place, "MLP 64-128-10", networks.mlp, place.size(400, 30))


def prove_loop_cnn(place: Place) -> Found:
    factory = partial(networks.cnn, width=place.size(32, 4))
    return prove_loop(place, "CNN", factory, place.size(100, 6))


def prove_loop_resnet(place: Place) -> Found:
    factory = partial(networks.resnet18, width=place.size(64, 4))
    return prove_loop(place, "ResNet-18", factory, place.size(40, 2))


VARIANTS: dict[str, dict[str, Any]] = {
    "momentum": {},
    "clipping": {"grad_clip_norm": 0.5},
    "adamw, averages": {"optimizer": "adamw", "learning_rate": 1e-3, "polyak_decay": 0.99},
    "accumulation": {"accumulate_steps": 4},
    "bfloat16": {"precision": "bfloat16"},
    "float16, fused": {"precision": "float16"},
    "warmup, cosine": {"warmup_steps": 20, "schedule": "cosine"},
    "muon, adaptive clipping": {"optimizer": "muon", "learning_rate": 1e-3, "grad_clip": "adaptive"},
    "lion, clipped updates": {"optimizer": "lion", "learning_rate": 1e-4, "grad_clip": "update"},
}


@contextlib.contextmanager
def waits_are_errors() -> Iterator[None]:
    """Within the loop, between evaluations, whatever waits for the device raises."""
    inside = {name: getattr(loop, name) for name in ("flush", "measure", "save_stopped")}
    trained = trial.train

    def allowed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            torch.cuda.set_sync_debug_mode("default")
            try:
                return function(*arguments)
            finally:
                torch.cuda.set_sync_debug_mode("error")

        return call

    def train_watched(*arguments: Any) -> Any:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return trained(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    for name, function in inside.items():
        setattr(loop, name, allowed(function))
    trial.train = train_watched
    try:
        yield
    finally:
        for name, function in inside.items():
            setattr(loop, name, function)
        trial.train = trained


def augmented_digits() -> Workload:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return image_classification(model, image_splits("digits"), augmentation="flip_crop", mixup=0.2)


def prove_no_waits(place: Place) -> Found:
    """Between evaluations no statement of the loop waits for the GPU."""
    wrong: dict[str, str] = {}
    cases = {name: (networks.mlp, configuration) for name, configuration in VARIANTS.items()}
    cases["examples drawn one by one"] = (partial(networks.mlp, drawn=True), {})
    cases["CNN with dropout"] = (partial(networks.cnn, width=4), {})
    cases["flips, crops and mixtures"] = (augmented_digits, {"learning_rate": 1e-4})
    watched = contextlib.nullcontext() if place.rehearse else waits_are_errors()
    with watched:
        for name, (factory, configuration) in cases.items():
            if place.rehearse and configuration.get("precision") == "float16":
                continue
            training = Training(factory, 60, 30, configuration)
            try:
                result = train(training, place.folder / name.replace(" ", "-"), place.device)
            except RuntimeError as error:
                wrong[name] = f"{str(error).splitlines()[0]} at {place_of(error)}"
            else:
                if result is None or result.state == "failed":
                    wrong[name] = f"ended {result and (result.state, result.reason)}"
    said = "; ".join(f"{name}: {what}" for name, what in wrong.items())
    return Found(not wrong, said or f"no wait in {', '.join(cases)}", {"waits": wrong})


def place_of(error: BaseException) -> str:
    """Where in the package an exception came up."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if "tunectl" in path.parts or path.parent == STUDY_FILES:
            place = f"{path.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def prove_resume(place: Place) -> Found:
    """A stopped trial that continues ends as if never stopped: bit for bit under deterministic algorithms."""
    figures: dict[str, float] = {}
    cases = {"MLP": networks.mlp, "CNN": partial(networks.cnn, width=place.size(32, 4))}
    for deterministic in (True, False):
        torch.use_deterministic_algorithms(deterministic)
        try:
            for name, factory in cases.items():
                kind = "deterministic" if deterministic else "default"
                training = Training(factory, 120, 20, {"precision": "bfloat16"} if name == "CNN" else {})
                figures[f"{name}, {kind}"] = resumed_difference(training, place, f"{name}-{kind}")
        finally:
            torch.use_deterministic_algorithms(False)
    exact = all(value == 0 for name, value in figures.items() if name.endswith("deterministic"))
    close = all(value <= RESUME_TOLERANCE for value in figures.values())
    said = ", ".join(f"{name}: {value:.1e}" for name, value in figures.items())
    return Found(exact and close, f"largest relative difference of a measurement: {said}", figures)


def resumed_difference(training: Training, place: Place, name: str) -> float:
    """The largest relative difference between the measurements of a trial stopped twice and one that never was."""
    whole, parts = place.folder / f"{name}-whole", place.folder / f"{name}-parts"
    train(training, whole, place.device)
    for updates in (50, 33):
        asked = iter(range(updates))
        train(training, parts, place.device, stop=lambda asked=asked: next(asked, None) is None)
    train(training, parts, place.device)
    return max_difference(measured(whole), measured(parts))


def measured(folder: Path) -> list[tuple[int, str, float]]:
    measurements = read_trial(TrialFolder(folder)).measurements
    return [(line.step, name, value) for line in measurements for name, value in sorted(line.metrics.items())]


def max_difference(one: Sequence[tuple[int, str, float]], other: Sequence[tuple[int, str, float]]) -> float:
    """Infinite if they do not measure the same metrics."""
    if [line[:2] for line in one] != [line[:2] for line in other]:
        return float("inf")
    return max(abs(a[2] - b[2]) / max(abs(a[2]), 1e-12) for a, b in zip(one, other, strict=True))


def prove_float16(place: Place) -> Found:
    """In float16 with loss scaling a training ends where that in float32 does, and counts the updates it skipped."""
    losses: dict[str, float] = {}
    skipped = None
    for precision in ("float32", "bfloat16" if place.rehearse else "float16"):
        # A task that every training learns soon: near a plateau rounding alone decides when it is left.
        training = Training(networks.mlp, place.size(600, 60), 100, {"precision": precision})
        folder = place.folder / precision
        result = train(training, folder, place.device)
        if result is None or result.state != "completed":
            return Found(False, f"{precision} ended {result and (result.state, result.reason, result.message)}")
        last = read_trial(TrialFolder(folder)).measurements[-1].metrics
        losses[precision], skipped = last["train/loss"], last.get("train/skipped_updates")
    apart = max(losses.values()) - min(losses.values())
    holds = apart < FLOAT16_TOLERANCE and (place.rehearse or skipped is not None)
    said = ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
    return Found(holds, f"train loss: {said}; skipped updates at the end: {skipped}", {**losses, "skipped": skipped})
