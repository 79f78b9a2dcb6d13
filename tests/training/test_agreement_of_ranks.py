"""What must be the same on all devices of a trial, and what one that goes on must know: with real processes.

Tests rank_agreement.py, agreement_step.py, the notes in `resume.pt`, and the states of shared_buffers.py; more of these
is in test_training_on_ranks.py.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rank_calls import on_ranks
from rank_workloads import CASES, cross_losses, network, plain, rare
from test_training_on_ranks import _folder, _request, _train
from thread_ranks import ThreadRanks, on_threads
from torch import Tensor, nn
from training_builders import StopAt, comparable, never

from tunectl.core.errors import WorkloadError
from tunectl.training.agreement_step import is_compared
from tunectl.training.rank_agreement import refuse_drift
from tunectl.training.ranks import Ranks
from tunectl.workloads.workload import Workload

Trained = tuple[Path, list[Any]]
pytestmark = pytest.mark.timeout(400)  # all trials are in one fixture


def _everything(ranks: Ranks, root: Path) -> dict[str, Any]:
    request = _request({"batch_size": 10})
    factories: list[Callable[[], Workload]] = [teaching, mining, partial(straying, ranks.rank)]
    return {
        "rarely": _rarely_changed(ranks, root),
        "kept losses": _train(ranks, _folder(root, "kept-losses"), _keeping, request),
        "not kept": _train(ranks, _folder(root, "not-kept"), plain, request),
        "rescued": _train(ranks, _folder(root, "rescued"), partial(failing_apart, ranks.rank), _request(SMALL)),
        "early": _stopped_after_the_first_updates(ranks, root),
        "refused": [_refused(ranks, root, number, factory) for number, factory in enumerate(factories)],
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("ranks")
    return root, on_ranks(_everything, [3], root)[3]


def _rarely_changed(ranks: Ranks, root: Path) -> list[Any]:
    """The notes of trials whose buffers training changes in some updates only: not interrupted, and often."""
    request = _request({"eval_every": 9, "batch_size": 10, "max_train_steps": 14})
    stops: list[Callable[[], bool]] = [*map(StopAt, (3, 4, 4)), never]
    results = [_train(ranks, _folder(root, "rarely"), rare, request)[0]]
    results += [_train(ranks, _folder(root, "rarely-stopped"), rare, request, stop)[0] for stop in stops]
    return [result and result.notes for result in results]


def test_a_stopped_trial_knows_which_buffers_training_has_changed(trained: Trained) -> None:
    whole, stopped = (_folder(trained[0], name) for name in ("rarely", "rarely-stopped"))
    assert comparable(stopped) == comparable(whole)
    averaged = torch.load(whole.resume, weights_only=True)["shared_buffers"]["averaged"]
    assert "1.means" in averaged
    assert "1.constant" not in averaged, "also not because of the evaluation at step 0"
    for found in trained[1]:
        notes, *of_stopped = found["rarely"]
        assert of_stopped == [None] * 3 + [notes]
        assert "1.means" in str(notes)


def _keeping() -> Workload:
    """Its loss is relative to a mean of those that were seen, which a closure keeps."""
    mean = [1.0]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        losses = cross_losses(model, batch) / mean[0]
        if model.training:
            mean[0] = 0.9 * mean[0] + 0.1 * float(losses.mean())
        return losses

    return replace(plain(), loss=loss)


def test_what_a_loss_keeps_of_the_share_of_a_device_is_a_note_of_the_trial(
    trained: Trained,
) -> None:
    for one_rank in trained[1]:
        (note, detail) = one_rank["kept losses"][0].notes.popitem()
        assert note.startswith("the model or the loss depends on what the devices of the trial do not share")
        assert detail == "device 1 has other losses of the same examples than device 0"
        assert not one_rank["not kept"][0].notes


def forgetting() -> Workload:
    """Its first three updates depend on a mean of the losses that a device has seen; later ones do not."""
    seen: list[float] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        losses = cross_losses(model, batch)
        scale = sum(seen) / len(seen) if 0 < len(seen) < 3 else 1.0
        if model.training:
            seen.append(float(losses.mean()))
        return losses * scale

    return replace(CASES["a model that counts its calls"][0](), loss=loss)


def _stopped_after_the_first_updates(ranks: Ranks, root: Path) -> tuple[list[Any], str]:
    """The notes of a trial that was stopped at update 6 and went on, and what was printed."""
    folder, request = _folder(root, "early"), _request({"batch_size": 10})
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        results = [_train(ranks, folder, forgetting, request, stop)[0] for stop in (StopAt(6), never)]
    return [result and [*result.notes] for result in results], printed.getvalue()


def test_what_differed_at_the_first_updates_alone_is_a_note_that_a_stopped_trial_keeps_and_prints_once(
    trained: Trained,
) -> None:
    alone = [f"device 0 alone evaluates {split!r}" for split in ("train", "valid")]
    for rank, one_rank in enumerate(trained[1]):
        (stopped, notes), printed = one_rank["early"]
        assert stopped is None
        assert notes[:2] == alone
        assert notes[2].startswith("the model or the loss depends on what the devices of the trial do not share")
        assert len(notes) == 3
        assert [printed.count(note) for note in alone] == [0 if rank else 1] * 2


SMALL = {"batch_size": 10, "eval_batch_size": 5}


def failing_apart(rank: int) -> Workload:
    """Evaluations after the first raise an exception on device 1, as of a file that only device 0 can read."""
    calls: list[bool] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(model.training)
        if rank == 1 and not model.training and len(batch[0]) == 5 and any(calls):
            raise OSError("the file server was away")
        return cross_losses(model, batch)

    return replace(plain(), loss=loss)


def test_an_evaluation_that_device_0_did_since_another_one_could_not_is_a_note_of_the_trial(trained: Trained) -> None:
    for one_rank in trained[1]:
        assert one_rank["rescued"][0].notes == {
            f"device 0 alone evaluated {split!r}, because a device raised an exception": (
                "device 1 raised OSError: the file server was away"
            )
            for split in ("train", "valid")
        }


def test_devices_are_compared_at_the_first_updates_and_regularly_after_at_a_hundredth_of_the_updates() -> None:
    moments = [step for step in range(100_000) if is_compared(step)]
    assert moments[:7] == [0, 1, 4, 16, 64, 256, 512]
    assert max(later - earlier for earlier, later in itertools.pairwise(moments)) == 256
    assert len(moments) < 400


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64, torch.int8, torch.float8_e4m3fn])
def test_parameters_that_are_not_trained_must_be_the_same_whatever_their_type(dtype: Any) -> None:
    def share(ranks: ThreadRanks, apart: float) -> None:
        layer = nn.Module()
        values = torch.full((1000,), 3.0) + torch.arange(1000).eq(5) * apart * ranks.rank
        layer.frozen = nn.Parameter(values.to(dtype), requires_grad=False)
        layer.empty = nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False)
        refuse_drift(ranks, layer, [])

    on_threads(2, lambda ranks: share(ranks, 0.0))
    with pytest.raises(WorkloadError, match="'frozen', which is not trained, differs between devices 1 and 0"):
        on_threads(2, lambda ranks: share(ranks, 1.0))


def teaching() -> Workload:
    """A teacher follows the student as fast as the examples of a batch say, which each device has others of."""
    pair = nn.ModuleDict({"student": nn.Linear(6, 3), "teacher": nn.Linear(6, 3).requires_grad_(False)}).double()

    def loss(model: Any, batch: Any) -> Tensor:
        if model.training:
            by = float(batch[0].tanh().square().mean())
            model["teacher"].weight.data.lerp_(model["student"].weight.detach(), by)
        return cross_losses(model["student"], batch) + (model["teacher"](batch[0])[:, 0] * 0.01)

    return replace(plain(), model=pair, loss=loss)


def mining() -> Workload:
    """From the second epoch on, its order depends on the losses that the device has seen."""
    seen: list[float] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        losses = cross_losses(model, batch)
        seen.append(float(losses.mean()))
        return losses

    def order(dataset: Any, epoch: int, _generator: Any) -> Any:
        return np.random.default_rng(int(1e6 * seen[-1]) if epoch else 0).permutation(len(dataset))[:6]

    return replace(plain(), loss=loss, sampler=order)


def straying(rank: int) -> Workload:
    """A weight that is not trained is another one on device 0 in updates 3 to 6, of 10 before an evaluation."""
    calls: list[int] = []
    frozen = nn.Linear(6, 6).requires_grad_(False)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.extend([1] * model.training)
        if rank == 0 and model.training and len(calls) in (3, 7):
            frozen.weight.data.mul_(2.0 if len(calls) == 3 else 0.5)
        return cross_losses(model, batch)

    return replace(plain(), model=nn.Sequential(frozen, network()).double(), loss=loss)


def _refused(ranks: Ranks, root: Path, number: int, factory: Callable[[], Workload]) -> str:
    request = _request({"optimizer": "adam", "batch_size": 2})
    with pytest.raises(WorkloadError) as caught:
        _train(ranks, _folder(root, f"refused-{number}"), factory, request)
    return str(caught.value)


def test_what_each_device_changes_by_its_share_is_refused(trained: Trained) -> None:
    for one_rank in trained[1]:
        teacher, sampler, weight = one_rank["refused"]
        assert teacher.startswith(
            "the parameter 'teacher.weight', which is not trained, differs between devices 1 and 0"
        )
        assert sampler.startswith("sampler: it gave another order of the examples for epoch 1 on devices 1 and 2")
        assert weight.startswith("the parameter '0.weight', which is not trained, differs between devices 1 and 0")
