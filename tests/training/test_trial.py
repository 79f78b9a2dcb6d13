"""Tests trial.py, loop.py, training_state.py, trial_progress.py and memory_errors.py."""

from __future__ import annotations

import itertools
import math
import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch_parts import tensors_of
from training_builders import (
    Augmented,
    StopAt,
    comparable,
    cross_entropy,
    error_rate,
    labelled,
    make_request,
    never,
    plain_workload,
    stochastic_workload,
    train_trial,
)
from trial_records import ended, lines_in

from tunectl.core import jsontext
from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import Measurement, TrialSeconds
from tunectl.core.objective import Objective
from tunectl.core.records import TrialResult
from tunectl.training.data_order import DataOrder
from tunectl.training.ranks import SINGLE
from tunectl.training.seeds import Purpose, seed_everything, sequence
from tunectl.training.training_state import Clock
from tunectl.training.trial import run_trial
from tunectl.workloads.workload import Workload


def measured(folder: TrialFolder) -> list[Measurement]:
    found = [Measurement.from_json(line) for line in lines_in(folder.measurements)]
    measurements = [item for item in found if item is not None]
    assert len(measurements) == len(found)
    return measurements


def series(folder: TrialFolder, name: str) -> list[Any]:
    lines = lines_in(folder.steps)
    joined = [value for line in lines for value in line[name]]
    assert [line["first"] for line in lines] == [
        sum(len(line["loss"]) for line in lines[:i]) for i in range(len(lines))
    ]
    return joined


def with_loss(loss: Callable[[nn.Module, Any], Any], **parts: Any) -> Callable[[], Workload]:
    def factory() -> Workload:
        plain = plain_workload()
        return Workload(plain.model, plain.data, loss, error_rate, **parts)

    return factory


class Counting:
    """Counts the training batches that its loss has seen, and acts on the chosen one."""

    def __init__(self, update: int, act: Callable[[Any], Any]) -> None:
        self.left, self.act = update, act

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        losses = cross_entropy(model, batch)
        if model.training:
            self.left -= 1
            if self.left == -1:
                return self.act(losses)
        return losses


def raising(error: BaseException) -> Callable[[Any], Any]:
    def act(losses: Any) -> Any:
        raise error

    return act


def test_a_trial_equals_a_bare_loop_of_torch(folder: TrialFolder):
    request = make_request(optimizer="nesterov", momentum=0.8, grad_clip_norm=0.7, warmup_steps=5, schedule="cosine")
    result = ended(train_trial(request, folder))
    seed_everything(sequence(request.seed, Purpose.MODEL), torch.device("cpu"))
    workload = plain_workload()
    model, (features, labels) = workload.model, tensors_of(workload.data["train"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8, nesterov=True)
    order, losses, norms = DataOrder(request.seed, 50, 8), [], []
    rates = [0.05 * t / 5 for t in range(5)] + [0.05 * (1 + math.cos(math.pi * s / 30)) / 2 for s in range(30)]
    for t in range(35):
        chosen = torch.from_numpy(order.examples(t))
        loss = nn.functional.cross_entropy(model(features[chosen]), labels[chosen])
        optimizer.param_groups[0]["lr"] = rates[t]
        optimizer.zero_grad()
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.7).item())
        optimizer.step()
        losses.append(loss.item())
    assert result.state == "completed"
    assert result.final_step == 35
    assert series(folder, "loss") == pytest.approx(losses, rel=1e-5)
    assert series(folder, "gradient_norm") == pytest.approx(norms, rel=1e-5)
    assert series(folder, "clipped") == [norm > 0.7 for norm in norms]
    assert 0 < sum(series(folder, "clipped")) < 35
    assert series(folder, "learning_rate") == pytest.approx(rates, abs=1e-15)
    trained = torch.load(folder.resume, weights_only=True)["model"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-5, atol=1e-6)


def test_evaluations_come_at_step_0_at_every_multiple_and_at_the_end(folder: TrialFolder):
    train_trial(make_request(max_train_steps=30, eval_every=7, warmup_steps=4), folder)
    lines = measured(folder)
    assert [line.step for line in lines] == [0, 7, 14, 21, 28, 34]
    assert list(lines[0].metrics) == ["train/loss", "train/error_rate", "valid/loss", "valid/error_rate"]
    assert (lines[0].learning_rate, lines[0].gradient_norm, lines[0].checkpoint) == (None, None, None)
    losses = series(folder, "loss")
    for before, line in itertools.pairwise(lines):
        interval = losses[before.step : line.step]
        assert line.metrics["train/minibatch_loss"] == pytest.approx(sum(interval) / len(interval), rel=1e-12)
        assert line.gradient_norm == series(folder, "gradient_norm")[line.step - 1]
        assert line.learning_rate == series(folder, "learning_rate")[line.step - 1]


def test_an_end_that_is_a_multiple_is_evaluated_once(folder: TrialFolder):
    train_trial(make_request(max_train_steps=14), folder)
    assert [line.step for line in measured(folder)] == [0, 7, 14]


def test_blocks_of_steps_hold_at_most_500_updates_between_far_evaluations(folder: TrialFolder):
    train_trial(make_request(max_train_steps=1100, eval_every=1100), folder)
    assert [len(line["loss"]) for line in lines_in(folder.steps)] == [500, 500, 100]
    mean = sum(series(folder, "loss")) / 1100
    assert measured(folder)[-1].metrics["train/minibatch_loss"] == pytest.approx(mean, rel=1e-12)


def test_the_best_checkpoints_are_there_with_the_weights_of_their_step(folder: TrialFolder):
    request = make_request(objective=Objective("valid/loss", "maximize"), keep_checkpoints=2, max_train_steps=28)
    train_trial(request, folder)
    lines = {line.step: line for line in measured(folder) if line.step > 0}
    best = sorted(lines, key=lambda step: (-lines[step].metrics["valid/loss"], step))[:2]
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == sorted(folder.checkpoint(s).name for s in best)
    for step in best:
        assert lines[step].checkpoint == folder.checkpoint(step).name
        parts = torch.load(folder.checkpoint(step), weights_only=True)
        workload = plain_workload()
        workload.model.load_state_dict(parts["model"])
        with torch.no_grad():
            losses = cross_entropy(workload.model, tensors_of(workload.data["valid"]))
        assert losses.mean().item() == pytest.approx(lines[step].metrics["valid/loss"], rel=1e-6)
        assert parts["step"] == step


def test_evaluating_more_often_does_not_change_the_training(folder: TrialFolder, tmp_path: Any):
    other = TrialFolder(tmp_path / "other")
    other.path.mkdir()
    train_trial(make_request(eval_every=30, objective=Objective("valid/loss", "minimize")), folder, stochastic_workload)
    train_trial(make_request(eval_every=1), other, stochastic_workload)
    assert series(folder, "loss") == series(other, "loss")


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step"])
def test_a_trial_that_stops_early_is_the_beginning_of_its_full_length_schedule_after_a_whole_warmup(
    folder: TrialFolder, tmp_path: Any, schedule: str
):
    whole = TrialFolder(tmp_path / "whole")
    whole.path.mkdir()
    fields = {"schedule": schedule, "warmup_steps": 4, "max_train_steps": 40}
    train_trial(make_request(**fields), whole, stochastic_workload)
    train_trial(make_request(**fields, stop_after=9, eval_every=1, eval_from=4), folder, stochastic_workload)
    assert len(series(folder, "loss")) == 4 + 9, "the warmup is not counted"
    for name in ("learning_rate", "loss", "gradient_norm"):
        assert series(folder, name) == series(whole, name)[:13]
    assert [line.step for line in measured(folder)] == [0, *range(4, 14)]


def test_a_trial_that_is_to_stop_later_than_it_ends_trains_to_its_end(folder: TrialFolder):
    train_trial(make_request(max_train_steps=14, stop_after=500), folder)
    assert [line.step for line in measured(folder)] == [0, 7, 14]


def test_two_trials_of_one_seed_are_equal_and_of_two_seeds_are_not(folder: TrialFolder, tmp_path: Any):
    others = [TrialFolder(tmp_path / name) for name in "ab"]
    for other in others:
        other.path.mkdir()
    train_trial(make_request(), folder, stochastic_workload)
    train_trial(make_request(), others[0], stochastic_workload)
    train_trial(make_request(seed=6), others[1], stochastic_workload)
    assert comparable(folder) == comparable(others[0])
    assert series(folder, "loss") != series(others[1], "loss")


def test_a_factory_that_asks_for_a_seed_gets_one_and_a_given_one_is_kept(folder: TrialFolder):
    seen = []

    def factory(*, width: int, seed: int) -> Workload:
        seen.append((width, seed))
        return plain_workload(width)

    train_trial(make_request(arguments={"width": 5}, max_train_steps=1), folder, factory)
    train_trial(make_request(arguments={"width": 5, "seed": 1}, max_train_steps=1), folder, factory)
    assert seen[0][0] == 5
    assert 0 <= seen[0][1] < 2**32
    assert seen[1] == (5, 1)


@pytest.mark.parametrize("update", [0, 5, 6, 7, 22, 29])
def test_nan_from_update_k_on_is_infeasible_at_k_and_nothing_of_a_later_model_is_kept(folder: TrialFolder, update: int):
    result = ended(train_trial(make_request(), folder, with_loss(Counting(update, lambda losses: losses * math.nan))))
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "nan_loss", update)
    assert f"update {update}" in result.message
    assert len(series(folder, "loss")) == update + 1
    assert math.isnan(jsontext.number(series(folder, "loss")[-1]) or 0.0)
    steps = [line.step for line in measured(folder)]
    assert steps == [step for step in (0, 7, 14, 21, 28) if step <= update]
    assert result.final_step == steps[-1]
    kept = [int(path.stem[-8:]) for path in folder.checkpoints.iterdir()]
    assert all(0 < step <= update for step in kept)


def test_a_verdict_that_another_device_does_not_come_to_removes_nothing(folder: TrialFolder, monkeypatch):
    def elsewhere(_ranks: Any) -> None:
        raise WorkloadError("the devices of the trial do not make the same exchanges")

    monkeypatch.setattr(type(SINGLE), "finish", elsewhere)
    with pytest.raises(WorkloadError, match="do not make the same exchanges"):
        train_trial(make_request(), folder, with_loss(Counting(22, lambda losses: losses * math.nan)))
    assert torch.load(folder.resume, weights_only=True)["progress"]["step"] == 21
    monkeypatch.undo()
    assert ended(train_trial(make_request(), folder, plain_workload)).state == "completed"


def test_a_gradient_that_is_not_finite_has_its_own_reason(folder: TrialFolder):
    # The square root's slope at zero is infinite, its value is not.
    result = ended(
        train_trial(make_request(), folder, with_loss(Counting(4, lambda losses: losses + (losses * 0).sum().sqrt())))
    )
    assert (result.reason, result.infeasible_step) == ("nan_gradient", 4)


def test_an_infinite_loss_is_found_and_so_is_one_that_a_later_check_of_the_users_stumbles_over(folder: TrialFolder):
    state = {"seen": 0}

    def loss(model: nn.Module, batch: Any) -> Any:
        losses = cross_entropy(model, batch)
        if model.training:
            state["seen"] += 1
            if not torch.isfinite(losses).all():
                raise ValueError("loss is not finite")
            if state["seen"] == 4:
                return losses * math.inf
        return losses

    result = ended(train_trial(make_request(), folder, with_loss(loss)))
    assert (result.reason, result.infeasible_step) == ("nan_loss", 3)


def test_weights_that_overflow_are_the_hyperparameters_fault_even_when_the_users_code_raises(folder: TrialFolder):
    def loss(model: nn.Module, batch: Any) -> Any:
        losses = 100 * cross_entropy(model, batch)
        if not torch.isfinite(losses).all():
            raise ValueError("expected finite logits")
        return losses

    result = ended(train_trial(make_request(learning_rate=3e38), folder, with_loss(loss)))
    assert result.reason in ("nan_loss", "nan_gradient")


def test_a_metric_that_is_not_finite_at_an_evaluation_is_recorded_and_never_the_best(folder: TrialFolder):
    def metrics(model: nn.Module, batch: Any) -> Any:
        return {"error_rate": torch.full((len(batch[1]),), math.nan)}

    def factory() -> Workload:
        plain = plain_workload()
        return Workload(plain.model, plain.data, cross_entropy, metrics, baseline_loss=1.0986)

    assert ended(train_trial(make_request(), folder, factory)).state == "completed"
    assert all(math.isnan(line.metrics["valid/error_rate"]) for line in measured(folder))
    assert list(folder.checkpoints.iterdir()) == []


def test_infeasible_raised_in_an_update_or_while_building_is_a_result_with_its_step(folder: TrialFolder):
    result = ended(train_trial(make_request(), folder, with_loss(Counting(9, raising(Infeasible("too deep"))))))
    assert (result.state, result.reason, result.infeasible_step, result.final_step) == ("infeasible", "too deep", 9, 7)
    assert len(series(folder, "loss")) == 9

    def factory() -> Workload:
        raise Infeasible("width must be even")

    result = ended(train_trial(make_request(), folder, factory))
    assert (result.reason, result.infeasible_step, result.final_step) == ("width must be even", 0, None)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
    ],
)
def test_memory_that_does_not_suffice_is_infeasible(folder: TrialFolder, error: BaseException):
    result = ended(train_trial(make_request(), folder, with_loss(Counting(9, raising(error)))))
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "out_of_memory", 9)
    assert result.message


def test_memory_that_does_not_suffice_for_the_model_is_infeasible(folder: TrialFolder):
    def factory() -> Workload:
        torch.empty(2**60)
        return plain_workload()

    result = ended(train_trial(make_request(), folder, factory))
    assert (result.reason, result.infeasible_step) == ("out_of_memory", 0)


def test_the_users_exceptions_pass_and_what_was_measured_stays(folder: TrialFolder):
    with pytest.raises(KeyError, match="label"):
        train_trial(make_request(), folder, with_loss(Counting(9, raising(KeyError("label")))))
    assert [line.step for line in measured(folder)] == [0, 7]
    assert len(series(folder, "loss")) == 9


def test_an_exception_that_passes_leaves_what_was_spent_on_training_and_on_evaluation(folder: TrialFolder):
    ticks = iter(range(1000))
    seconds = TrialSeconds(startup_seconds=0.5)
    clock = Clock(now=lambda: float(next(ticks)), save_every_seconds=0.0)
    factory = with_loss(Counting(9, raising(KeyError("label"))))
    with pytest.raises(KeyError):
        run_trial(make_request(), folder, factory, device="cpu", stop=never, seconds=seconds, clock=clock)
    last = measured(folder)[-1].elapsed_seconds
    assert seconds.startup_seconds == 0.5
    assert seconds.train_seconds >= 3, "until each of two evaluations, and to the end"
    assert seconds.eval_seconds >= 2
    assert seconds.train_seconds + seconds.eval_seconds > last


def test_a_metric_that_raises_counts_as_evaluation(folder: TrialFolder):
    now = [0.0]

    def metrics(model: nn.Module, batch: Any) -> Any:
        now[0] += 100.0
        raise KeyError("label")

    seconds = TrialSeconds()
    plain = plain_workload()
    factory = lambda: Workload(plain.model, plain.data, cross_entropy, metrics)  # noqa: E731
    clock = Clock(now=lambda: now[0])
    with pytest.raises(KeyError):
        run_trial(make_request(), folder, factory, device="cpu", stop=never, seconds=seconds, clock=clock)
    assert (seconds.train_seconds, seconds.eval_seconds) == (0.0, 100.0)


def test_what_earlier_attempts_took_counts_also_where_the_workload_cannot_be_built_again(folder: TrialFolder):
    assert train_trial(make_request(), folder, stop=StopAt(20)) is None

    def broken() -> Workload:
        raise KeyError("gone")

    seconds = TrialSeconds()
    with pytest.raises(KeyError):
        train_trial(make_request(), folder, broken, seconds=seconds)
    assert seconds.train_seconds > 0
    assert seconds.eval_seconds > 0

    def infeasible() -> Workload:
        raise Infeasible("no memory for two")

    result = ended(train_trial(make_request(), folder, infeasible))
    assert (result.train_seconds, result.eval_seconds) == (seconds.train_seconds, seconds.eval_seconds)
    assert (result.infeasible_step, result.final_step) == (20, 14)


def test_an_objective_that_is_not_measured_is_an_error_with_the_nearest_name(folder: TrialFolder):
    request = make_request(objective=Objective("valid/eror_rate", "minimize"))
    with pytest.raises(WorkloadError, match="did you mean 'valid/error_rate'"):
        train_trial(request, folder)


def test_a_dead_network_makes_no_progress_and_one_that_is_only_slow_is_feasible(folder: TrialFolder, tmp_path: Any):
    def dead() -> Workload:
        plain = plain_workload()
        nn.init.constant_(plain.model.get_parameter("0.bias"), -100.0)
        prior = torch.bincount(tensors_of(plain.data["train"])[1]) / 50
        entropy = float(-(prior * prior.log()).sum())
        return Workload(plain.model, plain.data, cross_entropy, error_rate, baseline_loss=entropy)

    request = make_request(max_train_steps=200, eval_every=50, learning_rate=0.1, batch_size=16)
    result = ended(train_trial(request, folder, dead))
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "no_progress", 200)
    assert result.final_step == 200
    assert len(measured(folder)) == 5
    for number, rate in enumerate((1e-4, 1e-6)):
        other = TrialFolder(tmp_path / str(number))
        other.path.mkdir()
        slow = make_request(max_train_steps=200, eval_every=50, learning_rate=rate, batch_size=16)
        assert ended(train_trial(slow, other)).state == "completed"
    forgiven = make_request(max_train_steps=200, eval_every=50, learning_rate=0.1, batch_size=16, no_progress=False)
    assert ended(train_trial(forgiven, folder, dead)).state == "completed"


def test_memory_that_ends_while_the_end_is_judged_fails_no_trial_and_is_in_its_result(
    folder: TrialFolder, tmp_path: Any
):
    def loss(model: nn.Module, batch: Any) -> Any:
        if model._forward_hooks:  # only while predictions are exchanged
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return cross_entropy(model, batch)

    result = ended(train_trial(make_request(), folder, with_loss(loss)))
    assert (result.state, result.reason) == ("completed", "")
    note = "progress was judged by the losses alone: it could not be tested whether the predictions depend on the input"
    assert result.notes == {note: "OutOfMemoryError: CUDA out of memory."}
    assert result.message == f"{note} (OutOfMemoryError: CUDA out of memory.)"
    assert TrialResult.from_json(result.to_json()) == result

    def flat(model: nn.Module, batch: Any) -> Any:
        return loss(model, batch) * 0.0 + 5.0

    other = TrialFolder(tmp_path / "other")
    other.path.mkdir()
    result = ended(train_trial(make_request(), other, with_loss(flat, baseline_loss=1.0)))
    assert (result.state, result.reason, result.notes) == ("infeasible", "no_progress", {})
    assert result.message.endswith("(judged by the losses alone: OutOfMemoryError: CUDA out of memory.)")


def test_an_end_far_above_the_start_is_diverged(folder: TrialFolder):
    def rising(model: nn.Module, batch: Any) -> Any:
        losses = cross_entropy(model, batch)
        return 2 * losses.detach() - losses

    request = make_request(learning_rate=0.02, max_train_steps=60, momentum=0.5)
    result = ended(train_trial(request, folder, with_loss(rising)))
    assert (result.reason, result.infeasible_step) == ("diverged", 60)
    assert "above" in result.message


def test_a_regression_without_a_baseline_that_is_never_below_its_start_makes_no_progress(folder: TrialFolder):
    def factory() -> Workload:
        data = {"train": labelled(40), "valid": labelled(10)}
        model = nn.Linear(6, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return Workload(model, data, lambda model, batch: 1.0 + model(batch[0])[:, 0].abs())

    request = make_request(objective=Objective("valid/loss", "minimize"), learning_rate=0.01)
    result = ended(train_trial(request, folder, factory))
    assert (result.reason, result.infeasible_step) == ("no_progress", 30)


def test_a_loss_that_leaves_examples_out_in_some_update_is_an_error(folder: TrialFolder):
    with pytest.raises(WorkloadError, match="5 values for a batch of 8"):
        train_trial(make_request(), folder, with_loss(Counting(3, lambda losses: losses[:5])))


def test_a_batch_larger_than_the_data_and_a_single_step_work(folder: TrialFolder):
    request = make_request(batch_size=130, max_train_steps=1, keep_checkpoints=1)
    assert ended(train_trial(request, folder, lambda: stochastic_workload())).final_step == 1


def test_parameters_that_take_no_part_stay_as_they_are(folder: TrialFolder):
    def factory() -> Workload:
        plain = plain_workload()
        model = plain.model
        assert isinstance(model, nn.Sequential)
        model.add_module("idle", nn.Linear(3, 3))
        plain.model.forward = lambda x: model[2](model[1](model[0](x)))
        return plain

    assert ended(train_trial(make_request(optimizer="adamw", weight_decay=0.1), folder, factory)).state == "completed"
    first = torch.load(folder.resume, weights_only=True)["model"]["idle.weight"]
    seed_everything(sequence(make_request().seed, Purpose.MODEL), torch.device("cpu"))
    assert torch.equal(first, factory().model.get_parameter("idle.weight"))


def test_times_add_up_and_the_start_up_time_is_passed_on(folder: TrialFolder):
    result = ended(train_trial(make_request(), folder))
    assert result.startup_seconds == 0.25
    assert result.train_seconds > 0
    assert result.eval_seconds > 0
    elapsed = [line.elapsed_seconds for line in measured(folder)]
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] <= result.train_seconds + result.eval_seconds
    assert result.device == "cpu"


def test_old_files_of_a_trial_without_resume_are_replaced(folder: TrialFolder, tmp_path: Any):
    clean = TrialFolder(tmp_path / "clean")
    clean.path.mkdir()
    train_trial(make_request(), clean)
    folder.checkpoints.mkdir()
    for path in (
        folder.measurements,
        folder.steps,
        folder.checkpoint(999),
        folder.checkpoints / ".step-00000999.pt.tmp",
    ):
        path.write_text('{"step": 0}\n{"torn')
    train_trial(make_request(), folder)
    assert comparable(folder) == comparable(clean)


def test_loader_processes_end_with_the_trial_also_when_it_fails(folder: TrialFolder):
    def factory() -> Workload:
        plain = plain_workload()
        data = {"train": Augmented(labelled(50)), "valid": Augmented(labelled(20, seed=1))}
        return Workload(plain.model, data, Counting(9, raising(KeyError("label"))), error_rate)

    with pytest.raises(KeyError):
        train_trial(make_request(data_workers=2), folder, factory)
    assert multiprocessing.active_children() == []
