"""How many dead networks pass as completed, and how many living ones are condemned?

`python scripts/measure_dead_networks.py` trains small networks (a perceptron, a convolutional network, an LSTM) on the
digits under every schedule, at rates from far too small to far too large, by the trial that `tunectl run` trains. What
each network is at its end is found without the rule that is measured, from its predictions for all 1,497 examples of
train and valid (probabilities; of a regression, the predictions in standard deviations of the target), and from what it
can still learn:

- living: the predictions of 2 % of the examples or more differ from the median by more than 0.01; or by more than
  single precision shows, and the examples' own predictions have a lower loss than each other's by more than 6 standard
  errors (in double precision); or by more than 0.00001, and 200 updates by Adam at a rate of 0.003 bring the loss below
  0.95 of the best constant's;
- dead: the predictions of 98 % differ from the median by less than 0.00001, and it cannot be brought to learn so;
- unclear, which counts as neither: all else, such as predictions that are the same to five digits in a network that
  could still be brought to learn.

A trial that ended otherwise (a loss that is not finite, `diverged`) counts nowhere. `--trials` asks for that many dead
and living networks of each kind of network and schedule and ends when they are there, or after `--minutes`. `--json`
keeps what was measured of every trial. Exit code 1 if more than 1 % of either are judged wrongly.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.training import checkpoints
from tunectl.training.evaluated_splits import evaluated_splits
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.feasibility import is_flat, kendall_tau, moved
from tunectl.training.input_dependence import NotExchanged, exchange
from tunectl.training.trial import run_trial
from tunectl.training.trial_progress import TrialProgress
from tunectl.workloads import digits
from tunectl.workloads.classification import CLASSES, LabelledSplits, classification
from tunectl.workloads.data import packaged_images
from tunectl.workloads.workload import Workload

NETWORKS = ("mlp", "cnn", "lstm")
SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt", "step")
TASKS = ("labels", "noise", "regression")
SAME, DEAD, LIVING = 1e-7, 1e-5, 1e-2
AIM = 0.01
CPU = torch.device("cpu")


Task = tuple[str, str, int, int]
"""Network, schedule, seed, and what is wanted, as AIMS has it."""


class Recurrent(nn.Module):
    """An LSTM over the eight rows of an image, or one on top of the other; scores from the last state."""

    def __init__(self, width: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(packaged_images.DIGITS_SIDE, width, layers, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.lstm(images.squeeze(1))
        scores: Tensor = self.head(states[:, -1])
        return scores


AIMS = {
    "destroy": (0.4, 0.75, 0.0),
    "planted": (0.15, 0.25, 0.0),
    "slow": (0.3, 0.0, 0.6),
    "ordinary": (0.15, 0.0, 0.4),
}
"""How often networks are trained at what rates, where both kinds are wanted, where dead ones are, and living ones."""


def drawn(network: str, schedule: str, seed: int, wanted: int) -> dict[str, Any]:
    """The hyperparameters of a trial, from rates that move next to nothing to rates that destroy."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, NETWORKS.index(network), SCHEDULES.index(schedule)]))
    aim = str(rng.choice(list(AIMS), p=[shares[wanted] for shares in AIMS.values()]))
    adaptive = bool(rng.random() < 0.4)
    low, high = {
        "destroy": (-2.5, 0.7) if adaptive else (-1.0, 1.5),
        "planted": (-4.0, -0.5),
        "slow": (-7.0, -3.0),
        "ordinary": (-3.5, -2.0) if adaptive else (-3.0, -1.0),
    }[aim]
    steps = int(rng.choice([20, 30, 60, 100, 200, 400], p=[0.1, 0.1, 0.2, 0.2, 0.25, 0.15]))
    clip = float(rng.choice([0.1, 1.0])) if rng.random() < 0.3 else None
    return {
        "network": network,
        "aim": aim,
        "task": str(rng.choice(TASKS, p=[0.75, 0.1, 0.15])),
        "layers": int(
            rng.choice([2, 4, 6]) if network == "mlp" else rng.choice([1, 2, 4] if network == "cnn" else [1, 2])
        ),
        "width": int(rng.choice([8, 16, 32])),
        "activation": str(rng.choice(["relu", "tanh", "leaky_relu", "gelu", "silu"], p=[0.6, 0.1, 0.1, 0.1, 0.1])),
        "normalization": str(rng.choice(["none", "batch", "layer"], p=[0.8, 0.1, 0.1])),
        "dropout": 0.1 if rng.random() < 0.1 else 0.0,
        "init_scale": float(10 ** rng.uniform(-0.7, 0.3)),
        "zero_head": bool(rng.random() < 0.15),
        "steps": steps,
        "configuration": {
            "optimizer": str(rng.choice(["adam", "adamw", "rmsprop"]) if adaptive else rng.choice(["sgd", "momentum"])),
            "learning_rate": float(10 ** rng.uniform(low, high)),
            "batch_size": int(rng.choice([8, 16, 64])),
            "schedule": schedule,
            "warmup_steps": int(steps // 10) if rng.random() < 0.3 else 0,
            "warmup": "within",
            "grad_clip_norm": clip,
            "weight_decay": 1e-2 if rng.random() < 0.1 else 0.0,
        },
    }


def workload(of: Mapping[str, Any], seed: int) -> Workload:
    """The network and its task, built under the generator of the trial."""
    given = {name: of[name] for name in ("activation", "normalization", "dropout", "init_scale")}
    model: nn.Module
    if of["network"] == "lstm":
        model = Recurrent(of["width"], of["layers"], CLASSES)
    else:
        factory = digits.mlp if of["network"] == "mlp" else digits.cnn
        model = factory(num_layers=of["layers"], width=of["width"], **given).model
    head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    if of["task"] == "regression":
        # The first score is the number; the others are left out.
        head.weight, head.bias = nn.Parameter(head.weight[:1].detach()), nn.Parameter(head.bias[:1].detach())
    if of["aim"] == "planted":
        plant(model, of["network"])
    if of["zero_head"]:
        nn.init.zeros_(head.weight)
    splits = digits.load().splits
    if of["task"] == "labels":
        return classification(model, digits.load())
    if of["task"] == "noise":
        shuffled = {name: _shuffled(split, seed) for name, split in splits.items()}
        return classification(model, LabelledSplits(shuffled))
    return regression(model, splits)


def _shuffled(split: TensorDataset, seed: int) -> TensorDataset:
    images, labels = split.tensors
    return TensorDataset(images, labels[torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))])


def regression(model: nn.Module, splits: Mapping[str, TensorDataset]) -> Workload:
    """The label as a number, far from zero: 100 + label, with squared errors."""

    def loss(model: Any, batch: Any) -> Tensor:
        return (100 + model(batch[0]).squeeze(1) - (100 + batch[1].to(torch.float32))).square()

    labels = splits["train"].tensors[1].to(torch.float64)
    return Workload(model, dict[str, Any](splits), loss, baseline_loss=float(labels.var(unbiased=False)))


def plant(model: nn.Module, network: str) -> None:
    """Let a network be dead from the start: no unit of a hidden layer lets anything through, or its gates are shut."""
    if network == "lstm":
        with torch.no_grad():
            for name, parameter in model.lstm.named_parameters():  # type: ignore[union-attr]
                if "bias" in name:
                    width = len(parameter) // 4
                    parameter[:width] = -200.0
        return
    hidden = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))][:-1]
    place = len(hidden) // 2
    nn.init.constant_(hidden[place].bias, -1000.0)  # type: ignore[arg-type]


def truth(built: Workload, task: str) -> dict[str, Any]:
    """What the network is, from its predictions for all examples of train and valid and from what it can learn."""
    model = built.model.eval()
    images, labels = _examples(built)
    with torch.no_grad():
        scores = copy.deepcopy(model).double()(images.double())
    if task == "regression":
        target = labels.to(torch.float64)
        predicted = scores.squeeze(1)
        deviations = (predicted - predicted.median()).abs() / target.std()
        own = (predicted - target).square()
        others = (predicted.mean() - target).square() + predicted.var(unbiased=False)
        error = math.nan
    else:
        logs = scores.log_softmax(1)
        deviations = (logs.exp() - logs.exp().median(0).values).abs().max(1).values
        own = -logs.gather(1, labels[:, None]).squeeze(1)
        others = -logs.mean(0)[labels]
        error = float((scores.argmax(1) != labels).to(torch.float64).mean())
    differs = float(deviations.quantile(0.98))
    found: dict[str, Any] = {"differs": differs, "farthest": float(deviations.max()), "error": error}
    found |= {"loss": float(own.mean()), "gain_t": _t(others - own), "learns": None}
    if not bool(torch.isfinite(scores).all()):
        return found | {"truth": "other"}
    if differs > LIVING or (differs > SAME and found["gain_t"] > 6):
        return found | {"truth": "living"}
    # On the real labels: noise cannot be learned so soon.
    real = torch.cat([digits.load().splits[name].tensors[1] for name in ("train", "valid")])
    found["learns"] = learns(model, images, real, task)
    if found["learns"]:
        return found | {"truth": "living" if differs > DEAD else "unclear"}
    return found | {"truth": "dead" if differs < DEAD else "unclear"}


def _examples(built: Workload) -> tuple[Tensor, Tensor]:
    pairs = [digits.load().splits[name].tensors for name in ("train", "valid")]
    shown = [built.data[name].tensors for name in ("train", "valid")]  # type: ignore[attr-defined]
    return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in shown])


def learns(model: nn.Module, images: Tensor, labels: Tensor, task: str) -> bool:
    """Whether the network can still be brought to learn: a good optimizer at a good rate, from where it is."""
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.no_grad():
        shift = model.eval()(images).mean()
    model.train()
    target = (labels - labels.double().mean()).float() / labels.double().std().float()
    if task == "regression":
        # In standard deviations about where the network is: the bias alone would take all of the updates.
        target = target + shift
    baseline = 1.0 if task == "regression" else math.log(CLASSES)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    for update in range(200):
        chosen = order[torch.arange(update * 64, update * 64 + 64) % len(order)]
        scores = model(images[chosen])
        if task == "regression":
            loss = functional.mse_loss(scores.squeeze(1), target[chosen])
        else:
            loss = functional.cross_entropy(scores, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = model.eval()(images)
        error = (
            functional.mse_loss(scores.squeeze(1), target)
            if task == "regression"
            else functional.cross_entropy(scores, labels)
        )
    return float(error) < 0.95 * baseline


def _t(differences: Tensor) -> float:
    error = float(differences.std()) / math.sqrt(len(differences))
    return float(differences.mean()) / error if error > 0 else 0.0


def trial(task: Task) -> dict[str, Any]:
    """Train one network and measure it."""
    network, schedule, seed, wanted = task
    of = drawn(network, schedule, seed, wanted)
    built: list[Workload] = []

    def factory() -> Workload:
        built.append(workload(of, seed))
        return built[-1]

    configuration = {"eval_batch_size": 1024, **of["configuration"]}
    request = TrialRequest(
        study="dead",
        trial=seed,
        seed=seed,
        workload=WorkloadReference("m:f", "f", module="m"),
        arguments={},
        configuration=configuration,
        objective=Objective("valid/loss", "minimize"),
        max_train_steps=of["steps"],
        eval_every=of["steps"],
        keep_checkpoints=1,
    )
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as path:
        folder = TrialFolder(Path(path))
        result = run_trial(request, folder, factory, device="cpu", stop=lambda: False, seconds=TrialSeconds(0.0))
        assert result is not None
        row = {**of, "schedule": schedule, "seed": seed, "state": result.state, "reason": result.reason}
        if result.reason not in ("", "no_progress"):
            return row | {"truth": "other"}
        parts = checkpoints.load(folder.resume)
    return row | measured(parts, built[0], request) | truth(built[0], of["task"])


def measured(parts: Mapping[str, Any], built: Workload, request: TrialRequest) -> dict[str, Any]:
    """The values that the rule is given."""
    evidence = TrialProgress.from_state(parts["progress"], CPU).evidence(request.max_train_steps)
    losses = np.array(evidence.fixed_batch_losses)
    splits = evaluated_splits(built, None)
    exchanged = exchange(Evaluator(built, splits, 1024, request.seed, CPU))
    return {
        "baseline": built.baseline_loss,
        "evidence": {
            name: getattr(evidence, name)
            for name in evidence.__dataclass_fields__
            if isinstance(getattr(evidence, name), (int, float))
        },
        "means": losses.mean(axis=1).tolist(),
        "spreads": losses.std(axis=1).tolist(),
        "drift": float(np.abs(kendall_tau(losses)).mean()),
        "trend": float(kendall_tau(losses.mean(axis=1))),
        "flat": is_flat(losses.tolist(), request.max_train_steps),
        "distinct": len(set(np.round(losses[-1], 6).tolist())),
        "moved": moved(losses.tolist()),
        "exchange": None if isinstance(exchanged, NotExchanged) else dataclasses.asdict(exchanged),
    }


def prepare() -> None:
    """One thread a process, and the data read once."""
    torch.set_num_threads(1)
    digits.load()


def safe(task: Task) -> dict[str, Any]:
    """As `trial`, but a failure is a row, too, so that it does not end the others."""
    try:
        return trial(task)
    except Exception as error:
        network, schedule, seed, _ = task
        reason = f"{type(error).__name__}: {error}"[:200]
        return {"network": network, "schedule": schedule, "seed": seed, "truth": "failed", "reason": reason}


def tasks(asked: argparse.Namespace, counts: Counter[tuple[str, ...]]) -> Iterable[Task]:
    """Seeds for the cells that lack networks yet, until all have what was asked for."""
    for number in range(asked.most):
        lacking = False
        for network in asked.networks:
            for schedule in asked.schedules:
                dead, living = (counts[network, schedule, kind] < asked.trials for kind in ("dead", "living"))
                if dead or living:
                    lacking = True
                    wanted = 0 if dead and living else 1 if dead else 2
                    yield network, schedule, asked.seed * 1_000_000 + number, wanted
        if not lacking:
            return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="dead and living networks of each kind [200]")
    parser.add_argument("--most", type=int, default=3000, help="trials of each kind at most [3000]")
    parser.add_argument("--minutes", type=float, default=30.0, help="end after that long [30]")
    parser.add_argument("--seed", type=int, default=1, help="other seeds, other networks [1]")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="[one a core]")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=SCHEDULES)
    parser.add_argument("--json", type=Path, help="write what was measured of every trial")
    asked = parser.parse_args()
    rows = trained(asked)
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows))
    return table(rows, asked)


def trained(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of all trials that ended in time."""
    rows: list[dict[str, Any]] = []
    counts: Counter[tuple[str, ...]] = Counter()
    ends = time.monotonic() + 60 * asked.minutes
    wanted, told = iter(tasks(asked, counts)), time.monotonic()
    with multiprocessing.get_context("spawn").Pool(asked.processes, prepare) as pool:
        running: list[Any] = []
        while time.monotonic() < ends:
            while len(running) < 2 * asked.processes and (task := next(wanted, None)) is not None:
                running.append(pool.apply_async(safe, (task,)))
            if not running:
                break
            done = [each for each in running if each.ready()]
            if not done:
                running[0].wait(0.05)
            for each in done:
                running.remove(each)
                rows.append(each.get())
                counts[rows[-1]["network"], rows[-1]["schedule"], rows[-1]["truth"]] += 1
            if time.monotonic() - told > 20:
                told = time.monotonic()
                print(f"{len(rows)} trials", file=sys.stderr, flush=True)
        pool.terminate()
    return rows


def table(rows: list[dict[str, Any]], asked: argparse.Namespace) -> int:
    """Print the rates; 1 if more than 1 % of either are judged wrongly."""
    print(
        f"{'network':8}{'schedule':14}{'dead':>6}{'missed':>8}{'rate':>8}{'living':>8}{'condemned':>11}{'rate':>8}"
        f"{'unclear':>9}{'other':>7}{'failed':>8}"
    )
    wrong = False
    for network in asked.networks:
        for schedule in asked.schedules:
            own = [row for row in rows if (row["network"], row["schedule"]) == (network, schedule)]
            dead = [row for row in own if row["truth"] == "dead"]
            living = [row for row in own if row["truth"] == "living"]
            missed = sum(row["reason"] != "no_progress" for row in dead)
            condemned = sum(row["reason"] == "no_progress" for row in living)
            others = [sum(row["truth"] == kind for row in own) for kind in ("unclear", "other", "failed")]
            wrong |= missed > AIM * len(dead) or condemned > AIM * len(living)
            print(
                f"{network:8}{schedule:14}{len(dead):6}{missed:8}{missed / max(len(dead), 1):8.1%}{len(living):8}"
                f"{condemned:11}{condemned / max(len(living), 1):8.1%}{others[0]:9}{others[1]:7}{others[2]:8}"
            )
    for reason, count in Counter(row["reason"] for row in rows if row["truth"] == "failed").most_common(5):
        print(f"{count} failed: {reason}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
