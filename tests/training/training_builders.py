"""Small workloads and requests for the tests of training."""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset, default_collate
from trial_records import lines_in

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, TrialResult, WorkloadReference
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial
from tunectl.workloads.workload import Workload


def labelled(examples: int, features: int = 6, classes: int = 3, seed: int = 0) -> TensorDataset:
    """Separable clusters with their labels."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=torch.Generator().manual_seed(99)) * 2
    labels = torch.randint(0, classes, (examples,), generator=generator)
    return TensorDataset(centres[labels] + torch.randn(examples, features, generator=generator), labels)


class Augmented(Dataset[Any]):
    """Draws from all three global generators for every example."""

    def __init__(self, inner: TensorDataset) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        features, label = self.inner[index]
        noise = torch.randn(features.shape) + float(np.random.normal()) + random.random()
        return features + 0.1 * noise, label


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def error_rate(model: nn.Module, batch: Any) -> Mapping[str, Any]:
    return {"error_rate": model(batch[0]).argmax(dim=1) != batch[1]}


def plain_workload(width: int = 8) -> Workload:
    model = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))
    data = {"train": labelled(50), "valid": labelled(20, seed=1), "test": labelled(20, seed=2)}
    return Workload(model, data, cross_entropy, error_rate, baseline_loss=1.0986)


def predicting_workload() -> Workload:
    """That of `plain_workload`, whose predictions are kept."""

    def predict(model: nn.Module, batch: Any) -> Mapping[str, Any]:
        scores = model(batch[0])
        found = {"input": batch[0], "target": batch[1], "prediction": scores.argmax(dim=1)}
        return {**found, "score": scores.max(dim=1).values, "words": [f"{row[0]:.1f}" for row in scores]}

    return replace(plain_workload(), predict=predict)


def drawing_workload() -> Workload:
    """That of `plain_workload`, which writes files at evaluations, by random numbers too, and whole-split metrics."""

    def on_evaluation(trial: Any) -> None:
        trial.save_image("weights", trial.model[0].weight)
        (trial.folder / "texts").mkdir()
        (trial.folder / "texts" / "noise.txt").write_text(
            f"{trial.step} {torch.rand(1).item()} {sorted(trial.metrics)}"
        )

    def evaluate(model: nn.Module, dataset: Any, device: torch.device) -> Mapping[str, Any]:
        features, labels = default_collate([dataset[index] for index in range(len(dataset))])
        return {"kappa": cohen_kappa(model(features.to(device)).argmax(dim=1).cpu(), labels)}

    return replace(plain_workload(), evaluate=evaluate, on_evaluation=on_evaluation)


def cohen_kappa(guesses: Tensor, labels: Tensor) -> float:
    """Cohen's kappa: no average over examples. 0 where all guesses and all labels are of one class."""
    agreed = float((guesses == labels).double().mean())
    by_chance = sum(float((guesses == c).double().mean() * (labels == c).double().mean()) for c in range(3))
    return 0.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def stochastic_workload() -> Workload:
    """Dropout, batch normalisation, and examples that are drawn anew each time."""
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 3))
    data = {"train": Augmented(labelled(50)), "valid": Augmented(labelled(20, seed=1))}
    return Workload(model, data, cross_entropy, error_rate, baseline_loss=1.0986)


def parabola() -> Workload:
    """loss = (w x)^2 with x near 1 from w = 3: gradient descent multiplies w by about 1 - 2 rate at every update."""

    class Weight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([[3.0]]))

    def loss(model: Any, batch: Any) -> Tensor:
        losses: Tensor = (batch[0] @ model.w).square().squeeze(1)
        return losses

    x = 1 + 0.01 * torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    return Workload(Weight(), {"train": TensorDataset(x), "valid": TensorDataset(x[:10])}, loss)


def make_request(**changes: Any) -> TrialRequest:
    """A request for 30 updates; names that a request has are its own, others are the training configuration's."""
    configuration = {"optimizer": "momentum", "learning_rate": 0.05, "batch_size": 8, "eval_batch_size": 16}
    own: dict[str, Any] = {
        "study": "s",
        "trial": 3,
        "seed": 12345,
        "workload": WorkloadReference("m:f", "f", module="m"),
        "arguments": {},
        "objective": Objective("valid/error_rate", "minimize"),
        "max_train_steps": 30,
        "eval_every": 7,
        "keep_checkpoints": 3,
    }
    for name, value in changes.items():
        (own if name in TrialRequest.__dataclass_fields__ else configuration)[name] = value
    return TrialRequest(**{"configuration": configuration, **own})


class StopAt:
    """Asks for a stop before update `update`."""

    def __init__(self, update: int) -> None:
        self.left = update

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def never() -> bool:
    return False


def train_trial(
    request: TrialRequest,
    folder: TrialFolder,
    factory: Callable[..., Workload] = plain_workload,
    *,
    stop: Callable[[], bool] = never,
    save_every_seconds: float = 0.0,
    seconds: TrialSeconds | None = None,
) -> TrialResult | None:
    """Run a trial; by default `resume.pt` is written at every evaluation."""
    clock = Clock(save_every_seconds=save_every_seconds)
    return run_trial(
        request,
        folder,
        factory,
        device="cpu",
        stop=stop,
        seconds=seconds or TrialSeconds(startup_seconds=0.25),
        clock=clock,
    )


_LEFT: dict[str, dict[str, Any]] = {}


def left_undisturbed(request: TrialRequest, factory: Callable[..., Workload] = plain_workload) -> dict[str, Any]:
    """What a trial of this request leaves that is never stopped, as `comparable`; trained once in a test process."""
    key = f"{factory.__qualname__} {request!r}"
    if key not in _LEFT:
        with tempfile.TemporaryDirectory() as place:
            folder = TrialFolder(Path(place) / "undisturbed")
            folder.path.mkdir()
            assert train_trial(request, folder, factory) is not None
            _LEFT[key] = comparable(folder)
    return copy.deepcopy(_LEFT[key])


def comparable(folder: TrialFolder) -> dict[str, Any]:
    """All that a trial leaves, without times: lines, names of checkpoints, every tensor of them as bytes."""
    lines = [{**line, "elapsed_seconds": None} for line in lines_in(folder.measurements)]
    for line in lines:
        for kind in ("curvature", "initialisation"):
            line["metrics"].pop(f"{kind}/seconds", None)
    files = [*sorted(folder.checkpoints.glob("*")), *([folder.resume] if folder.resume.exists() else [])]
    found: dict[str, Any] = {"measurements": lines, "steps": folder.steps.read_bytes()}
    for file in sorted(folder.files.rglob("*")):
        found[str(file.relative_to(folder.path))] = file.read_bytes() if file.is_file() else None
    if folder.predictions.exists():
        found["predictions"] = folder.predictions.read_bytes()
    for file in files:
        parts = torch.load(file, weights_only=True)
        for part in (parts, parts.get("good") or {}):
            for name in ("train_seconds", "eval_seconds", "curvature_seconds", "initialisation_seconds"):
                part.get("progress", {}).pop(name, None)
            for name in ("request", "measurements_offset", "recoveries_offset"):
                part.pop(name, None)
        found[file.name] = frozen(parts)
    return found


def frozen(value: Any) -> Any:
    """The value with tensors replaced by their bytes, for comparison by ==."""
    if isinstance(value, Tensor):
        return (str(value.dtype), tuple(value.shape), value.detach().cpu().contiguous().numpy().tobytes())
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [frozen(item) for item in value]
    return repr(value) if isinstance(value, float) else value
