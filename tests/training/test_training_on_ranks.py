"""A trial on several devices is the trial on one: with real processes, against one process and a plain loop of torch.

Tests update_reduction.py and rank_states.py, and the loop with them; what must be alike, test_agreement_of_ranks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest
import torch
from rank_calls import on_ranks
from rank_workloads import CASES, cross_losses, double_data, overflowing, plain, stochastic, weighted
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from training_builders import StopAt, comparable, make_request, never
from trial_records import lines_in

from tunectl.core.errors import Infeasible, LostRankError, WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, TrialResult
from tunectl.training.data_order import DataOrder
from tunectl.training.rank_states import parts_of_rank
from tunectl.training.ranks import SINGLE, Ranks
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial
from tunectl.workloads.workload import Workload

COUNTS = (1, 3)  # 1, 2 and 4 by `tunectl run`: tests/commands/test_devices_per_trial.py
UPDATES = 20
BOUND = 1e-10
pytestmark = pytest.mark.timeout(400)  # all trials are in one fixture


def _request(changes: Mapping[str, Any]) -> TrialRequest:
    objective = Objective("valid/loss", "minimize")
    return make_request(
        **{"objective": objective, "max_train_steps": UPDATES, "eval_every": 10, "no_progress": False, **changes}
    )


def _folder(root: Path, name: str) -> TrialFolder:
    path = root / name / "trials" / "00003"
    path.mkdir(parents=True, exist_ok=True)
    return TrialFolder(path)


def _train(
    ranks: Ranks,
    folder: TrialFolder,
    factory: Callable[[], Workload],
    request: TrialRequest,
    stop: Callable[[], bool] = never,
) -> tuple[TrialResult | None, list[Tensor]]:
    """The result, and the weights after the last update."""
    built: list[Workload] = []

    def make() -> Workload:
        built.append(factory())
        return built[0]

    result = run_trial(
        request,
        folder,
        make,
        device="cpu",
        stop=stop,
        seconds=TrialSeconds(),
        clock=Clock(save_every_seconds=0.0),
        ranks=ranks,
    )
    return result, [parameter.detach().clone() for parameter in built[0].model.parameters()]


def _all_cases(ranks: Ranks, root: Path) -> dict[str, tuple[TrialResult | None, list[Tensor]]]:
    found = {}
    for number, (name, (factory, changes)) in enumerate(CASES.items()):
        found[name] = _train(ranks, _folder(root, f"{number}-{ranks.count}"), factory, _request(changes))
    return found


def _everything(ranks: Ranks, root: Path) -> dict[str, Any]:
    """All that needs ranks: to start them takes longer than most of it."""
    found: dict[str, Any] = _all_cases(ranks, root)
    found["float16"] = _train(ranks, _folder(root, f"float16-{ranks.count}"), overflowing, _request(FLOAT16))
    if ranks.count > 1:
        found["as the loop"] = _as_the_loop(ranks, root)
        found["stopped and whole"] = _stopped_and_whole(ranks, root)
        found["refused"] = _refused(ranks, root)
        found["ends"] = _ended_together(ranks, root)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, list[Any]]]:
    root = tmp_path_factory.mktemp("ranks")
    return root, on_ranks(_everything, COUNTS, root)


def _series(folder: TrialFolder) -> dict[str, np.ndarray[Any, Any]]:
    names = ("loss", "gradient_norm", "update_ratio", "clipped", "learning_rate")
    lines = lines_in(folder.steps)
    return {name: np.concatenate([np.asarray(line[name], dtype=float) for line in lines]) for name in names}


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line["metrics"].items() if not name.endswith("/seconds")}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("count", COUNTS[1:])
def test_it_equals_the_trial_on_one_device(trained: tuple[Path, dict[int, list[Any]]], count: int, name: str) -> None:
    root, found = trained
    number = list(CASES).index(name)
    alone, together = (_folder(root, f"{number}-{devices}") for devices in (1, count))
    result, weights = found[1][0][name]
    for one_rank in found[count]:
        other, others = one_rank[name]
        assert (other.state, other.reason, other.final_step) == (result.state, result.reason, result.final_step)
        for own, expected in zip(others, weights, strict=True):
            assert torch.allclose(own, expected, rtol=BOUND, atol=BOUND)
    for series, expected in _series(alone).items():
        assert np.allclose(_series(together)[series], expected, rtol=BOUND, atol=BOUND), series
    for line, expected in zip(lines_in(together.measurements), lines_in(alone.measurements), strict=True):
        assert line["step"] == expected["step"]
        # Searches for eigenvalues stop within a tolerance.
        bound = 1e-6 if line["kind"] == "curvature" else 1e-12
        assert _numbers(line) == pytest.approx(_numbers(expected), rel=bound, abs=bound)
        assert line["checkpoint"] == expected["checkpoint"]


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_have_the_same_weights_bit_for_bit(trained: tuple[Path, dict[int, list[Any]]], name: str) -> None:
    for count in COUNTS[1:]:
        first, *others = (one_rank[name][1] for one_rank in trained[1][count])
        for weights in others:
            assert all(map(torch.equal, weights, first))


FLOAT16 = {"precision": "float16", "batch_size": 7}


def test_an_overflow_on_one_device_skips_the_update_on_all(trained: tuple[Path, dict[int, list[Any]]]) -> None:
    root, found = trained
    alone, together = (
        [line.get("skipped", []) for line in lines_in(_folder(root, f"float16-{count}").steps)] for count in COUNTS
    )
    assert together == alone
    assert any(alone)
    assert not all(map(torch.equal, found[1][0]["float16"][1], overflowing().model.parameters()))
    first, *others = (one_rank["float16"][1] for one_rank in found[COUNTS[-1]])
    for weights in others:
        assert all(map(torch.equal, weights, first))


def test_what_device_0_does_alone_is_a_note_of_the_trial(trained: tuple[Path, dict[int, list[Any]]]) -> None:
    name, why = "a model that counts its calls", "buffers of the model change in evaluation mode: 2.calls"
    for one_rank in trained[1][COUNTS[-1]]:
        notes = one_rank[name][0].notes
        assert notes == {f"device 0 alone evaluates {split!r}": why for split in ("train", "valid")}
        assert not one_rank["weights, and shares without any"][0].notes
    assert not trained[1][1][0][name][0].notes


def _plain_loop(changes: Mapping[str, Any]) -> list[Tensor]:
    """The weights after momentum, with weights in the loss, clipping and averages, as torch's documentation has it."""
    from tunectl.training.seeds import Purpose, seed_everything, sequence

    request = _request(changes)
    seed_everything(sequence(request.seed, Purpose.MODEL), torch.device("cpu"))
    workload = weighted()
    size, data = request.configuration["batch_size"], cast(TensorDataset, workload.data["train"])
    order = DataOrder(request.seed, len(data), size)
    optimizer = torch.optim.SGD(workload.model.parameters(), lr=request.configuration["learning_rate"], momentum=0.9)
    decay = request.configuration["polyak_decay"]
    averages = [parameter.detach().clone() for parameter in workload.model.parameters()]
    for update in range(UPDATES):
        batch = [tensor[torch.from_numpy(order.examples(update))] for tensor in data.tensors]
        values, weights = cast(tuple[Tensor, Tensor], workload.loss(workload.model, batch))
        optimizer.zero_grad()
        if weights.sum() > 0:
            ((values * weights).sum() / weights.sum()).backward()
        else:
            (0 * values.sum()).backward()
        nn.utils.clip_grad_norm_(workload.model.parameters(), request.configuration["grad_clip_norm"])
        optimizer.step()
        for average, parameter in zip(averages, workload.model.parameters(), strict=True):
            average.mul_(decay).add_(parameter.detach(), alpha=1 - decay)
    return [*(parameter.detach() for parameter in workload.model.parameters()), *averages]


PLAIN_LOOP = {"batch_size": 5, "grad_clip_norm": 0.5, "polyak_decay": 0.95}


def _as_the_loop(ranks: Ranks, root: Path) -> list[Tensor]:
    folder = _folder(root, "loop")
    _, weights = _train(ranks, folder, weighted, _request(PLAIN_LOOP))
    if ranks.rank:
        return weights
    saved = torch.load(folder.resume, weights_only=True)
    return [*saved["raw_weights"], *saved["model"].values()]


def test_it_equals_a_plain_loop_of_torch(trained: tuple[Path, dict[int, list[Any]]]) -> None:
    found = trained[1][3][0]["as the loop"]
    for own, expected in zip(found, _plain_loop(PLAIN_LOOP), strict=True):
        assert torch.allclose(own, expected, rtol=BOUND, atol=BOUND)


def _in_three_parts(ranks: Ranks, root: Path) -> tuple[bool, list[Tensor]]:
    stops = {2: StopAt(9) if ranks.rank == 1 else never, 3: StopAt(10) if ranks.rank == 2 else never, 1: never}
    request = replace(_request({"batch_size": 7, "polyak_decay": 0.9, "optimizer": "adam"}), devices=ranks.count)
    result, weights = _train(ranks, _folder(root, "parts"), plain, request, stops[ranks.count])
    return result is None, weights


def _whole(ranks: Ranks, root: Path) -> tuple[TrialResult | None, list[Tensor]]:
    request = _request({"batch_size": 7, "polyak_decay": 0.9, "optimizer": "adam"})
    return _train(ranks, _folder(root, "whole"), plain, request)


@pytest.mark.slow
def test_a_trial_that_one_rank_was_asked_to_stop_goes_on_on_another_number_of_devices(tmp_path: Path) -> None:
    found = on_ranks(_in_three_parts, [2, 3, 1], tmp_path)
    _, weights = on_ranks(_whole, [1], tmp_path)[1][0]
    assert [stopped for stopped, _ in (*found[2], *found[3], *found[1])] == [True] * 5 + [False]
    for own, expected in zip(found[1][0][1], weights, strict=True):
        assert torch.allclose(own, expected, rtol=BOUND, atol=BOUND)
    parts, whole = (_series(_folder(tmp_path, name)) for name in ("parts", "whole"))
    assert np.allclose(parts["loss"], whole["loss"], rtol=BOUND, atol=BOUND)


def _stopped_and_whole(ranks: Ranks, root: Path) -> list[bool]:
    request = _request({"eval_every": 7})
    found = [_train(ranks, _folder(root, "whole"), stochastic, request)[0] is None]
    for update in (3, 8, 5):
        stop = StopAt(update) if ranks.rank == ranks.count - 1 else never
        found.append(_train(ranks, _folder(root, "stopped"), stochastic, request, stop)[0] is None)
    found.append(_train(ranks, _folder(root, "stopped"), stochastic, request)[0] is None)
    return found


def test_stopped_trials_with_dropout_augmentation_and_batch_norm_go_on_byte_for_byte(
    trained: tuple[Path, dict[int, list[Any]]],
) -> None:
    for found in trained[1][3]:
        assert found["stopped and whole"] == [False, True, True, True, False]
    whole, stopped = (_folder(trained[0], name) for name in ("whole", "stopped"))
    assert comparable(stopped) == comparable(whole)
    states = torch.load(whole.resume, weights_only=True)["ranks"]
    assert len(states) == 2
    assert not torch.equal(states[0]["random"]["torch"], states[1]["random"]["torch"]), "dropout differs by rank"


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_buffers_that_differ_are_their_means_on_another_number_of_devices_whatever_their_type(dtype: Any) -> None:
    of_all = [torch.full((3,), value).to(dtype) for value in (1.0, 2.0, 3.0)]
    others = [{"random": None, "buffers": {"scale": buffer}, "good": None} for buffer in of_all[1:]]
    found = parts_of_rank(SINGLE, {"random": None, "model": {"scale": of_all[0]}, "ranks": others})
    mean = found["model"]["scale"]
    assert mean.dtype == dtype
    assert mean.double().tolist() == [2.0] * 3


def _used_for_some(ranks: Ranks, root: Path) -> str:
    """What is said where a layer of synchronised batch normalisation is used for some examples only."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

        def forward(self, features: Tensor) -> Any:
            found = self.first(features)
            return self.last(self.norm(found) if bool(features[0, 0] > 0) else found)

    def make() -> Workload:
        return replace(plain(), model=Model().double())

    try:
        _train(ranks, _folder(root, "some"), make, _request({"sync_batch_norm": True, "batch_size": 6}))
    except (WorkloadError, LostRankError) as error:
        return f"{type(error).__name__}: {error}"
    return "no exception"


def test_batch_normalisation_that_one_rank_leaves_out_ends_the_trial_with_words_about_it(tmp_path: Path) -> None:
    said = sorted(on_ranks(_used_for_some, [2], tmp_path)[2])
    assert said[0].startswith("LostRankError: ")
    assert said[1].startswith("WorkloadError: the devices of the trial do not make the same exchanges: as number ")
    assert "in SynchronisedBatchNorm.exchanged" in said[1]
    assert "a layer of synchronised batch normalisation is used for some examples only" in said[1]


def _refused(ranks: Ranks, root: Path) -> list[str]:
    def wider() -> Workload:
        return replace(plain(), model=nn.Sequential(nn.Linear(6, 3 + ranks.rank)).double())

    def more() -> Workload:
        return replace(plain(), data={"train": double_data(50 + ranks.rank), "valid": double_data(20)})

    def drifting() -> Workload:
        def loss(model: nn.Module, batch: Any) -> Tensor:
            with torch.no_grad():
                next(model.parameters()).add_(ranks.rank * 1e-12)
            return cross_losses(model, batch)

        return replace(plain(), loss=loss)

    def shuffled() -> Workload:
        data = double_data()
        order = torch.randperm(50, generator=torch.Generator().manual_seed(ranks.rank))
        data.tensors = tuple(tensor[order] for tensor in data.tensors)
        return replace(plain(), data={"train": data, "valid": double_data(20)})

    def alone() -> Workload:
        layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)]
        return replace(plain(), model=nn.Sequential(*layers).double())

    found = []
    for number, factory in enumerate((wider, more, drifting, shuffled)):
        with pytest.raises(WorkloadError) as caught:
            _train(ranks, _folder(root, f"refused-{number}"), factory, _request({"optimizer": "adam"}))
        found.append(str(caught.value))
    try:
        result, _ = _train(
            ranks, _folder(root, "refused-alone"), alone, _request({"batch_size": 3, "grad_clip_norm": 1})
        )
        return [*found, f"it went on: {result}"]
    except WorkloadError as error:
        return [*found, f"{error} (of a {type(error.__cause__).__name__})"]


def _ended_together(ranks: Ranks, root: Path) -> list[tuple[Any, int]]:
    """The reasons of trials that are infeasible on all devices and on one alone, and how often each had an end
    together with the others.
    """

    def infeasible() -> Workload:
        def loss(model: nn.Module, batch: Any) -> Tensor:
            if ranks.rank == 1 and model.training:
                raise Infeasible("it does not fit")
            return cross_losses(model, batch)

        return replace(plain(), loss=loss)

    found: list[tuple[Any, int]] = []
    for name, factory in (("all", plain), ("one", infeasible)):
        with patch.object(ranks, "finish", wraps=ranks.finish) as ends:
            try:
                request = _request({"learning_rate": 1e200, "optimizer": "sgd", "max_train_steps": 4, "eval_every": 4})
                result, _ = _train(ranks, _folder(root, f"ends-{name}"), factory, request)
                found.append((result and result.reason, ends.call_count))
            except LostRankError:
                found.append(("lost", ends.call_count))
    return found


def test_an_infeasible_trial_ends_together_where_all_devices_find_it(
    trained: tuple[Path, dict[int, list[Any]]],
) -> None:
    for rank, one_rank in enumerate(trained[1][3]):
        of_all, of_one = one_rank["ends"]
        assert of_all[0] in ("nan_loss", "nan_gradient", "diverged")
        assert of_all[1] == 1
        assert of_one == ("it does not fit" if rank == 1 else "lost", 0)


def test_ranks_that_build_other_workloads_or_drift_apart_are_refused(
    trained: tuple[Path, dict[int, list[Any]]],
) -> None:
    for one_rank in trained[1][3]:
        model, data, drift, content, alone = one_rank["refused"]
        assert model == (
            "the factory built another workload on device 1 of the trial than on device 0, with another model; it must"
            " build the same one in each process: draw what is random from its argument `seed`"
        )
        assert "with another data['train'];" in data
        assert drift.startswith("the weights on device 1 of the trial differ from those on device 0")
        assert content.startswith("the split 'train' has another example 0 on devices 1 and 2 of the trial than on")
        assert alone.startswith(
            "batch normalisation got one value for each channel (Expected more than 1 value per channel when training,"
            " got input size torch.Size([1, 8])): a device's share of a batch, or of a micro-batch, is one example"
        )
        assert alone.endswith("(of a ValueError)"), "whose traceback has the layer"
