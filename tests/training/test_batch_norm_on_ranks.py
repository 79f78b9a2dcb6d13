"""Trials with batch normalisation on several devices, each a process: against one device, and against what is meant.

Tests the loop, batch_share.py and assembled_trial.py with synchronised_batch_norm.py and shared_buffers.py.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_calls import on_ranks
from thread_ranks import ThreadRanks, on_threads
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from training_builders import StopAt, comparable, labelled, make_request, never
from trial_records import lines_in

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import BatchNormStatistics, TrialRequest
from tunectl.training.built_workload import build_workload
from tunectl.training.ranks import Ranks
from tunectl.training.seeds import Purpose
from tunectl.training.shared_buffers import SharedBuffers
from tunectl.training.training_data import TrainingData
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial
from tunectl.workloads.workload import Workload

COUNTS = (1, 3)
LAST = 2
"""The devices on which a trial ends that was begun on others."""

BOUND = 1e-10
pytestmark = pytest.mark.timeout(400)  # most trials are in one fixture

CASES: dict[str, dict[str, Any]] = {
    "ragged": {"batch_size": 11, "grad_clip_norm": 0.8},
    "fewer examples than devices": {"batch_size": 2, "learning_rate": 0.005},
    "micro-batches": {
        "batch_size": 22,
        "accumulate_steps": 3,
        "polyak_decay": 0.8,
        "activation_checkpointing": "blocks",
        "batch_norm_statistics": BatchNormStatistics(6),
    },
}


def _data(examples: int, seed: int) -> TensorDataset:
    features, labels = labelled(examples, seed=seed).tensors
    return TensorDataset(features.double(), labels)


def weighted(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    losses = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
    return losses, (batch[1] + 0.5).double()


def workload() -> Workload:
    block = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, momentum=None), nn.Tanh())
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), block, nn.Linear(8, 3)).double()
    return Workload(model, {"train": _data(50, 0), "valid": _data(23, 1)}, weighted, baseline_loss=9.0, blocks=[block])


def request_of(**changes: Any) -> TrialRequest:
    settings = {"max_train_steps": 20, "eval_every": 10, "objective": Objective("valid/loss", "minimize")}
    return make_request(**{**settings, "sync_batch_norm": True, **changes})


APART = request_of(batch_size=11, sync_batch_norm=False, max_train_steps=1, eval_every=1)
"""One update, in which each device normalises its share."""


def _trained(ranks: Ranks, request: TrialRequest, place: Path, stop: Any = never, factory: Any = workload) -> None:
    torch.manual_seed(ranks.rank)
    folder = TrialFolder(place)
    run_trial(
        request,
        folder,
        factory,
        device="cpu",
        stop=stop,
        seconds=TrialSeconds(),
        clock=Clock(save_every_seconds=0.0),
        ranks=ranks,
    )


def _all(ranks: Ranks, place: Path) -> None:
    # Begun on one device, and gone on with on others: the counts come one after the other.
    stop = {1: StopAt(7), 3: StopAt(8)}.get(ranks.count, never)
    _trained(ranks, request_of(**CASES["ragged"]), place / "resumed", stop)
    if ranks.count != LAST:
        for name, changes in CASES.items():
            _trained(ranks, request_of(**changes), place / f"{name} {ranks.count}")
        _trained(ranks, APART, place / f"apart {ranks.count}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("trials")
    names = [f"{name} {count}" for name in (*CASES, "apart") for count in COUNTS]
    for name in (*names, "resumed"):
        (found / name).mkdir()
    on_ranks(_all, (*COUNTS, LAST), found)
    return found


def assert_same(one: Path, other: Path, bound: float) -> None:
    pairs = zip(lines_in(one / "measurements.jsonl"), lines_in(other / "measurements.jsonl"), strict=True)
    for line, found in pairs:
        assert line["step"] == found["step"]
        assert found["metrics"] == pytest.approx(line["metrics"], rel=bound, abs=bound)
    parts, given = (torch.load(folder / "resume.pt", weights_only=True)["model"] for folder in (one, other))
    for name, item in parts.items():
        torch.testing.assert_close(given[name], item, rtol=bound, atol=bound)


@pytest.mark.parametrize("count", COUNTS[1:])
@pytest.mark.parametrize("case", CASES)
def test_synchronised_it_is_the_trial_on_one_device(place: Path, case: str, count: int) -> None:
    assert_same(place / f"{case} 1", place / f"{case} {count}", BOUND)


def test_a_trial_that_was_stopped_twice_goes_on_on_other_numbers_of_devices(place: Path) -> None:
    assert_same(place / "ragged 1", place / "resumed", BOUND)


def test_not_synchronised_the_running_statistics_are_the_means_of_those_of_the_shares(place: Path) -> None:
    count, shares = 3, [4, 4, 3]
    built: Any = build_workload(workload, APART, torch.device("cpu"))
    examples = TrainingData.of(built).order(APART.seed, 11, Purpose.ORDER).examples(0)
    with torch.no_grad():
        parts = built.model[0](built.data["train"][torch.from_numpy(examples)][0]).split(shares)
    mean = sum(len(part) * part.mean(0) for part in parts) / 11
    var = sum(len(part) * part.var(0) for part in parts) / 11
    saved = torch.load(place / f"apart {count}" / "resume.pt", weights_only=True)
    torch.testing.assert_close(saved["model"]["1.running_mean"], 0.1 * mean, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(saved["model"]["1.running_var"], 0.9 + 0.1 * var, rtol=1e-13, atol=1e-15)
    assert [rank["buffers"] for rank in saved["ranks"]] == [{}, {}], "they are the same on all ranks"


def _killed_at_an_evaluation(ranks: Ranks, place: Path) -> None:
    """Trains a trial in `undisturbed`; rank 0 copies its folder in the update after the evaluation at step 4, so that
    the copy is that of a process that was killed there, and `killed` goes on from it.
    """

    def make() -> Workload:
        calls: list[int] = []

        def loss(model: nn.Module, batch: Any) -> Any:
            calls.append(1)
            killed = place / "killed"
            is_there = (place / "undisturbed" / "resume.pt").exists()
            if ranks.rank == 0 and model.training and is_there and not killed.exists():
                shutil.copytree(place / "undisturbed", killed)
            return weighted(model, batch)

        found = workload()
        return replace(found, model=found.model.float(), data=_in_single(found.data), loss=loss)

    request = request_of(
        batch_size=11,
        sync_batch_norm=False,
        max_train_steps=8,
        eval_every=4,
        batch_norm_statistics=BatchNormStatistics(2),
        activation_checkpointing="none",
    )
    _trained(ranks, request, place / "undisturbed", factory=make)
    _trained(ranks, request, place / "killed", factory=make)


def _in_single(data: Any) -> dict[str, TensorDataset]:
    return {name: TensorDataset(split.tensors[0].float(), split.tensors[1]) for name, split in data.items()}


def test_a_trial_that_was_killed_after_an_evaluation_with_gathered_statistics_ends_with_the_same_bytes(
    tmp_path: Path,
) -> None:
    (tmp_path / "undisturbed").mkdir()
    on_ranks(_killed_at_an_evaluation, [3], tmp_path)
    killed, undisturbed = (comparable(TrialFolder(tmp_path / name)) for name in ("killed", "undisturbed"))
    assert killed == undisturbed


def test_running_statistics_and_counts_of_batches_take_one_exchange_an_update() -> None:
    class Counting(ThreadRanks):
        exchanges = 0

        def sum_(self, tensors: Any) -> None:
            self.exchanges += bool(tensors)
            super().sum_(tensors)

        def broadcast_(self, tensors: Any) -> None:
            self.exchanges += bool(tensors)
            super().broadcast_(tensors)

    def share(ranks: ThreadRanks) -> list[int]:
        ranks.__class__ = Counting
        counting: Any = ranks
        model, seen = nn.Sequential(nn.BatchNorm1d(6), nn.BatchNorm1d(6)), []
        buffers = SharedBuffers(model, counting)
        for _ in range(3):
            model(torch.randn(4, 6, generator=torch.Generator().manual_seed(counting.rank)))
            others_change, before = buffers.others_change(), counting.exchanges
            buffers.agree(4, 8, others_change=others_change)
            seen.append(counting.exchanges - before)
        return seen

    assert on_threads(2, share) == [[1, 1, 1]] * 2
