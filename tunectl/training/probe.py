"""Tries a workload before anything is created: one small batch through all that a trial does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tunectl.core.errors import Infeasible, WorkloadError
from tunectl.core.exception_place import user_frame
from tunectl.core.exception_text import exception_line
from tunectl.core.probe_errors import NO_BATCH_NORM
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training import saved_state
from tunectl.training.augmentation import Augmentation
from tunectl.training.averages import Averages, add_metrics
from tunectl.training.batch_norm_statistics import (
    BatchNormGatherer,
    foreign_statistics,
    gathering_layers,
    refuse_foreign_statistics,
)
from tunectl.training.batch_values import copied, moved, tensors_in, unwritten
from tunectl.training.built_workload import build_workload
from tunectl.training.cached_examples import cache_plans
from tunectl.training.collation import collate_of, drawn
from tunectl.training.compile_note import compile_note
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.refusals import refuse_unmeasurable
from tunectl.training.device_notes import device_notes
from tunectl.training.evaluated_splits import evaluated_splits, is_evaluated
from tunectl.training.evaluation import evaluating, with_derived
from tunectl.training.evaluation_batches import Evaluator
from tunectl.training.evaluation_step import missing_metric
from tunectl.training.example_losses import WRONG_WEIGHTS, ExampleLosses, are_right, example_losses
from tunectl.training.gradients import MeanLoss
from tunectl.training.initialisation.initialisation import Initialisation
from tunectl.training.layer_notes import layer_notes
from tunectl.training.memory_errors import is_out_of_memory
from tunectl.training.optimizers import trainable_parameters, workload_optimizer
from tunectl.training.precision import casting
from tunectl.training.predictions import chosen_examples, kept_examples, split_of
from tunectl.training.probed_data import first_examples, metrics_of_some, refuse_unrepeatable
from tunectl.training.seeds import Purpose, randomness, sequence
from tunectl.training.split_metrics import EVALUATE, MEASURED_SERIES
from tunectl.training.synchronised_batch_norm import refuse_unsynchronised
from tunectl.training.training_data import TrainingData
from tunectl.training.user_code_trial import try_optimizer, try_schedule
from tunectl.workloads.workload import Workload

SMALL_BATCH = 32
"""The largest number of examples that the probe takes of a split."""


def probe(request: TrialRequest, workload_factory: Callable[..., Workload], *, device: str) -> ProbedTrial:
    """Build the workload and take one small batch through loss, optimizer, metrics and finalize.

    Raises WorkloadError where the workload cannot work: an exception of the user's code (with its place), no Workload,
    no `train` or `valid`, a loss or metrics that are neither one value per example nor values with weights, an
    objective that is not measured, a loss whose curvature cannot be measured where it has to be, or that the
    initialisation cannot be used with. A model without the layers that `training.batch_norm_statistics` is about raises
    it with NO_BATCH_NORM, after all else; one without those of `training.sync_batch_norm` with NO_SYNC_BATCH_NORM.
    `Infeasible` and too little memory are no errors of the workload: with these hyperparameters the trial would be
    infeasible.
    """
    target = torch.device(device)
    seeds = sequence(request.seed, Purpose.TRAINING)
    try:
        with randomness(seeds, target):
            with _reported(f"the workload {request.workload.text} cannot be built"):
                workload = build_workload(workload_factory, request, target)
            with _reported("the examples cannot be read"):
                refuse_unrepeatable(workload, request.seed)
                cache_plans(workload, request)
            foreign = foreign_statistics(workload.model)
            found = _probe_training(workload, request, target)
            if request.batch_norm_statistics is not None:
                BatchNormGatherer.of_request(request, workload, target)  # refuses what cannot be
                refuse_foreign_statistics(workload.model, foreign)
            evaluated_splits(workload, request.train_examples, request.split_examples)
            given = _probe_metrics(workload, request, target)
            if request.curvature is not None and request.curvature_needed:
                examples = MeasuredExamples.of(workload, min(SMALL_BATCH, request.curvature.examples), target)
                with _reported("the curvature of the loss cannot be measured"):
                    refuse_unmeasurable(examples, workload, request.curvature.mode)
            _probe_initialisation(workload, request, target)
            _probe_predictions(workload, request, target)
            found = replace(found, notes=(*found.notes, *device_notes(workload, request, target)))
            if request.compile:
                with _reported("the model cannot be compiled"):
                    note = compile_note(workload, request, target)
                found = replace(found, notes=(*found.notes, note))
    except Infeasible:
        return ProbedTrial(0)
    except WorkloadError as error:
        if error.__cause__ is not None and is_out_of_memory(error.__cause__):
            return ProbedTrial(0)
        raise
    if given is not None and request.objective.metric not in given:
        raise WorkloadError(missing_metric(request.objective.metric, given))
    layers = gathering_layers(workload.model).values()
    if request.batch_norm_statistics is not None and not any(layer.training for layer in layers):
        raise WorkloadError(NO_BATCH_NORM)
    return found


@contextmanager
def _reported(what: str) -> Iterator[None]:
    try:
        yield
    except (Infeasible, WorkloadError, OSError) as error:
        if type(error) in (Infeasible, WorkloadError):
            raise
        raise WorkloadError(_message(what, error)) from error
    except BaseException as error:  # user code may raise SystemExit or another one to end the process
        raise WorkloadError(_message(what, error)) from error


def _message(what: str, error: BaseException) -> str:
    place = user_frame(error)
    message = f"{what}: {exception_line(error)}"
    return f"{message} ({place})" if place else message


def _batch(workload: Workload, split: str, examples: list[int], *, request: TrialRequest, device: torch.device) -> Any:
    seeds, collate = sequence(request.seed, Purpose.EXAMPLES), collate_of(workload, split)
    batch = drawn(workload.data[split], examples, seeds, collate)
    if batch is None:
        raise WorkloadError("collate(examples): expected a batch, got None (is a return missing?)")
    return moved(batch, device)


def _probe_training(workload: Workload, request: TrialRequest, device: torch.device) -> ProbedTrial:
    """One update on a small batch of train; gives the bytes of the model's and the optimizer's tensors after it."""
    configuration = TrainingConfiguration(**request.configuration)
    size = min(configuration.batch_size, SMALL_BATCH)
    with _reported("the split 'train' gives no batch"):
        examples = first_examples(TrainingData.of(workload), request.seed, size)
        batch = _batch(workload, "train", examples, request=request, device=device)
    own = f"optimizer {configuration.optimizer}: it" if configuration.optimizer_code else "the optimizer"
    with _reported(f"{own} cannot be made"):
        optimizer = workload_optimizer(workload, configuration)
    workload.model.train()
    batch = _augmented(workload, batch, request)
    given_batch = "a batch of 'train'" if workload.augment is None else "what augment gives for a batch of 'train'"
    with (
        _reported(f"loss(model, batch) failed on {given_batch}"),
        unwritten(batch, "loss(model, batch)"),
        _cast(request, device),
    ):
        given = workload.loss(workload.model, batch)
    losses = _checked_losses(given, len(examples), needs_gradient=True)
    if request.sync_batch_norm:
        _refuse_unsynchronised(workload, batch, request, device)
    notes = layer_notes(workload, configuration, losses.values)
    with _reported("the gradient of the loss cannot be taken"):
        MeanLoss(len(examples), trainable_parameters(workload.model)).backward(given, len(examples))
    if configuration.optimizer_code is None:
        # The weights must not change: with this trial's learning rate, metrics could fail on a ruined model.
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        with _reported("the optimizer cannot update the model"):
            optimizer.step()
    else:
        with _reported(f"optimizer {configuration.optimizer}"):
            notes += try_optimizer(workload, optimizer, request, device)
    if configuration.schedule_code is not None:
        with _reported(f"schedule {configuration.schedule}"):
            notes += try_schedule(configuration, request)
    averages = [] if configuration.polyak_decay is None else trainable_parameters(workload.model)
    return ProbedTrial(_bytes_of([*_saved_and_loaded(workload, optimizer).values(), averages]), notes)


def _refuse_unsynchronised(workload: Workload, batch: Any, request: TrialRequest, device: torch.device) -> None:
    """Refuse a model whose batch normalisation cannot be synchronised between devices."""

    def forward() -> None:
        with (
            _reported("loss(model, batch) failed when it was called again on a batch of 'train'"),
            _cast(request, device),
        ):
            workload.loss(workload.model, copied(batch))

    refuse_unsynchronised(workload.model, forward)


def _augmented(workload: Workload, batch: Any, request: TrialRequest) -> Any:
    """The batch as an update would train on it; the number of examples is that of the first tensor in it."""
    augment = Augmentation(workload, request.seed)
    with _reported("augment(batch, generator: numpy.random.Generator) failed on a batch of 'train'"):
        (augmented,) = augment(0, [batch])
    if augmented is None:
        raise WorkloadError(
            "augment(batch, generator): expected the batch to train on, got None (is a return missing?)"
        )
    before, after = (
        next((len(tensor) for tensor in tensors_in(item) if tensor.ndim), None) for item in (batch, augmented)
    )
    if before is not None and after is not None and before != after:
        raise WorkloadError(f"augment(batch, generator): expected as many examples as it gets, {before}, got {after}")
    return augmented


def _probe_initialisation(workload: Workload, request: TrialRequest, device: torch.device) -> None:
    """One iteration of the procedure before step 0, where there is one; the model is as before afterwards."""
    configuration = TrainingConfiguration(**request.configuration)
    if configuration.initialisation == "none":
        return
    refused = f"initialisation: {configuration.initialisation} cannot be used with this workload"
    run = Initialisation(workload, configuration, seed=request.seed, device=device)
    if not run.rescales:
        raise WorkloadError(f"{refused}: it rescales matrices, and the model has no trained one")
    examples = MeasuredExamples.of(workload, SMALL_BATCH, device)
    workload.model.train()
    with _reported(refused):
        refuse_unmeasurable(examples, workload, run.mode, refused=refused)
        try:
            run.measure()
        except WorkloadError as error:
            raise WorkloadError(f"{refused}: {error}") from error


def _probe_predictions(workload: Workload, request: TrialRequest, device: torch.device) -> None:
    """The predictions for all examples of which they are to be kept, and their size."""
    if request.predictions is None:
        return
    dataset = split_of(workload, request.predictions)
    chosen = chosen_examples(dataset, request.predictions)
    configuration = TrainingConfiguration(**request.configuration)
    size, precision = configuration.eval_batch_size, configuration.precision
    evaluator = Evaluator(workload, {}, size, request.seed, device, precision=precision)
    with _reported(f"predict(model, batch) failed on a batch of {request.predictions.split!r}"):
        kept_examples(evaluator, dataset, chosen, split=request.predictions.split)


def _saved_and_loaded(workload: Workload, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The parts of a checkpoint for model and optimizer, after a test that a trial could go on from them."""
    with _reported("the model's state_dict() failed"):
        state = {"model": workload.model.state_dict(), "optimizer": optimizer.state_dict()}
    saved_state.check(state)
    with _reported("the model's load_state_dict() failed on its own state_dict()"):
        workload.model.load_state_dict(state["model"])
    return state


def _cast(request: TrialRequest, device: torch.device) -> AbstractContextManager[Any]:
    return casting(request.configuration.get("precision", "float32"), device)


def _bytes_of(state: Any) -> int:
    """The bytes of all tensors in nested dicts, lists and tuples."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(_bytes_of, state.values()))
    return sum(map(_bytes_of, state)) if isinstance(state, (list, tuple)) else 0


def _checked_losses(given: Any, examples: int, *, needs_gradient: bool) -> ExampleLosses:
    losses = example_losses(given, examples)
    if not losses.values.is_floating_point():
        raise WorkloadError(f"loss(model, batch): expected floating-point numbers, got {losses.values.dtype}")
    if needs_gradient and not losses.values.requires_grad:
        raise WorkloadError("loss(model, batch): expected a tensor with a gradient, got one that requires none")
    if losses.weights is not None and not are_right(losses.weights):
        wrong = losses.weights[~((losses.weights >= 0) & (losses.weights < math.inf))]
        raise WorkloadError(f"{WRONG_WEIGHTS}, got {wrong[0].item()}")
    return losses


def _probe_metrics(workload: Workload, request: TrialRequest, device: torch.device) -> list[str] | None:
    """The names of all metrics, from one small batch of every evaluated split; None where they cannot all be known."""
    given, complete = [], True
    for split, dataset in workload.data.items():
        if not is_evaluated(split):
            continue
        size = min(int(request.configuration["eval_batch_size"]), SMALL_BATCH, len(dataset))  # type: ignore[arg-type]
        with _reported(f"the split {split!r} gives no batch"):
            batch = _batch(workload, split, list(range(size)), request=request, device=device)
        seeds = sequence(request.seed, Purpose.EVALUATION)
        with evaluating(workload.model, seeds, device), _cast(request, device):
            names, derived = _split_metrics(workload, split, batch, size)
        given += [f"{split}/{name}" for name in names]
        complete = complete and derived
    return [*given, "train/minibatch_loss"] if complete else None


def _split_metrics(workload: Workload, split: str, batch: Any, size: int) -> tuple[list[str], bool]:
    """The names of a split's metrics, and whether they include those of `finalize`, which can fail on few examples."""
    averages = Averages()
    with _reported(f"loss(model, batch) failed on a batch of {split!r}"):
        losses = _checked_losses(workload.loss(workload.model, batch), size, needs_gradient=False)
    averages.add("loss", *losses)
    if workload.metrics is not None:
        with _reported(f"metrics(model, batch) failed on a batch of {split!r}"):
            found = workload.metrics(workload.model, batch)
            add_metrics(averages, found, size)
        _check_reserved(found, losses)
    means = averages.means()
    with _reported(f"{EVALUATE} failed on {size} examples of {split!r}"):
        whole = metrics_of_some(workload, split, size, means)
    if whole is None:
        return list(means), False
    try:
        with _reported(f"finalize(metrics) failed on the metrics of {split!r}"):
            return list(with_derived(workload, means | whole)), True
    except WorkloadError as error:
        # A division by zero may come from the small number of examples: an F1 without positives.
        if isinstance(error.__cause__, ArithmeticError):
            return [*means, *whole], False
        raise


def _check_reserved(found: Any, losses: ExampleLosses) -> None:
    for name in MEASURED_SERIES:
        if name in found:
            raise WorkloadError(
                f"metrics(model, batch) gives {name!r}, the name of a measured series; use another name"
            )
    if "loss" not in found:
        return
    if not _is_same(found["loss"], losses):
        raise WorkloadError(
            "metrics(model, batch) gives a 'loss' that differs from loss(model, batch), which is always measured;"
            " use another name"
        )


def _is_same(metric: Any, losses: ExampleLosses) -> bool:
    """Whether a metric has the values of the losses, and their weights, for each example."""
    pair = metric if isinstance(metric, tuple) and len(metric) == 2 else (metric, None)
    values, weights = (None if item is None else torch.as_tensor(item, device=losses.values.device) for item in pair)
    assert values is not None
    if values.ndim == 0 or (values.ndim > 1 if weights is None else weights.shape != values.shape):
        return False
    theirs, ours = ExampleLosses(values, weights).per_example(), losses.per_example()
    if theirs.values.shape != ours.values.shape:
        return False
    ones = torch.ones_like(ours.values)
    pairs = ((ones if item is None else item for item in each) for each in (theirs, ours))
    return all(torch.allclose(one, other, rtol=1e-3, equal_nan=True) for one, other in zip(*pairs, strict=True))
