"""Whether an update depends on how its batch is divided, as in a contrastive loss, or where code decides by the whole
batch (`if x.sum() > 0`): a trial whose batches are divided trains another model then.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from tunectl.training.buffers import write
from tunectl.training.curvature.measured_examples import MeasuredExamples
from tunectl.training.curvature.measured_loss import chunk_losses
from tunectl.training.curvature.measured_model import MeasuredModel, measured_model, normalises_over_batch
from tunectl.training.example_losses import example_losses
from tunectl.training.gradients import MeanLoss
from tunectl.training.model_generators import GeneratorStates, ModelGenerators, is_same_state
from tunectl.training.optimizers import trainable_parameters
from tunectl.training.own_generators import own_generators
from tunectl.training.seeds import TRAIN_SAMPLE_SEED, Purpose, random_state, randomness, sequence
from tunectl.workloads.workload import Workload

_EXAMPLES = 8
_SEEDS = sequence(TRAIN_SAMPLE_SEED, Purpose.EVALUATION)
_APART, _APART_IN_HALF = 1e-4, 3e-2
"""Sums of losses that differ by more than this part of their size differ by more than rounding."""

_GRADIENTS, _GRADIENTS_IN_HALF = 1e-2, 1e-1
"""The same for the norm of all gradients: by rounding, a unit near zero may be on in one division and off in another,
which changes the gradient of one example by a part of it.
"""

_BUFFERS = 1e-6
"""A change of a buffer that differs by less than this part of its values differs by rounding."""


@dataclass(frozen=True, slots=True)
class BatchDependence:
    """What of an update is another one where the batch of a few examples is divided: in halves, or one by one.

    `of` is the sum of the losses, or only its gradient; `buffers` are those whose averages over the parts are not what
    the whole batch gives. `changes` says that two calls with one batch gave other losses, and `own_draws` that a
    generator of the model, of the loss or of `augment` was drawn from, and not only those that trials seed.
    """

    of: Literal["", "loss", "gradient"] = ""
    buffers: tuple[str, ...] = ()
    changes: bool = False
    own_draws: bool = False


def batch_dependence(workload: Workload, device: torch.device, *, one_divisor: bool = False) -> BatchDependence:
    """What depends on how a batch is divided.

    It is computed as in training, but without batch normalisation and dropout, of which other notes speak; the losses
    alone, in evaluation mode, where it draws random numbers even so. An example by itself decides otherwise than its
    batch nearly always, where a half may not. What draws numbers in both modes, or changes from call to call, is not
    judged. With `one_divisor` the parts have the gradients of trials that synchronise batch normalisation. The model
    and all generators are as before afterwards.
    """
    examples, model = MeasuredExamples.of(workload, _EXAMPLES, device), workload.model
    found, own, own_draws = BatchDependence(), own_generators(model, workload.loss, workload.augment), False
    hooks = [dict(each) for each in _module_hooks(model)]
    for in_training in (True, False):
        with measured_model(model, "eval", device) as measured:
            if in_training:
                for each, kept in zip(_module_hooks(model), hooks, strict=True):
                    each.update(kept)
                measured = _in_training(model, device)
            passes = _Passes(workload, examples, measured, own, in_training=in_training)
            # What is wrong with the loss, or with a batch of one example, is found elsewhere.
            with contextlib.suppress(Exception):
                found = _judged(passes, one_divisor=one_divisor)
        own_draws = own_draws or passes.own_draws or passes.augment_draws
        if passes.is_judged:
            break
    with contextlib.suppress(Exception):
        found = replace(found, changes=found.changes or _changes_in_evaluation(workload, examples, device, own))
    own.put_back()
    return replace(found, own_draws=own_draws)


def _changes_in_evaluation(
    workload: Workload, examples: MeasuredExamples, device: torch.device, own: GeneratorStates
) -> bool:
    """Whether two evaluations of one batch give other losses, by what a first one leaves elsewhere than in the saved
    buffers: those are the same on all devices, however many of the evaluated batches each has.
    """
    model, apart = workload.model, _apart(workload.model)[0]
    with measured_model(model, "eval", device), torch.no_grad():
        generators, names = ModelGenerators(model), model.state_dict().keys()
        saved = {name: buffer.clone() for name, buffer in model.named_buffers() if name in names}
        found = []
        for batch in (next(examples.batches_of(examples.count)) for _ in range(2)):
            with randomness(_SEEDS, device):
                losses = example_losses(workload.loss(model, batch), examples.count)
            found.append(_sums(losses.products(), float(losses.total_weight())))
            generators.put_back()
            own.put_back()
            for name, values in saved.items():
                write(model.get_buffer(name), values)
    return not _are_close(found[1], found[0], apart / 10)


@dataclass(slots=True)
class _Pass:
    """Batches one after the other: the sums of w v, |w v| and w, shape [3]; the gradients of the weighted mean; and
    what the buffers become of which the whole batch is divided into these.
    """

    sums: Tensor
    grads: list[Tensor] = field(default_factory=list)
    buffers: dict[str, Tensor] = field(default_factory=dict)


class _Passes:
    """Passes of the first examples through a model, divided in several ways."""

    def __init__(
        self,
        workload: Workload,
        examples: MeasuredExamples,
        model: MeasuredModel,
        own: GeneratorStates,
        *,
        in_training: bool,
    ) -> None:
        self._workload, self._examples, self._model, self._own = workload, examples, model, own
        self._parameters = trainable_parameters(workload.model)
        # A loss may change them, as those of a teacher.
        others = [each for each in workload.model.parameters() if not each.requires_grad]
        self._others = [(each, each.detach().clone()) for each in others]
        self.before = {name: buffer.detach().clone() for name, buffer in workload.model.named_buffers()}
        self.count, self.own_draws, self._passes = examples.count, False, 0
        self.apart = _apart(workload.model)
        self._in_training, self.augment_draws = in_training, False
        self._augment: Any = None

    def draws(self) -> bool:
        """Whether random numbers were drawn."""
        return self._model.draws_random_numbers or self.own_draws

    @property
    def is_judged(self) -> bool:
        """Whether all was computed without random numbers."""
        return self._passes > 1 and not self.draws()

    def of(self, sizes: Sequence[int], *, one_divisor: bool = False) -> _Pass:
        """The pass of batches of these sizes, each the share of a device."""
        found = _Pass(torch.zeros(3, dtype=torch.float64))
        total, has_weights = 0.0, False
        for batch, size in zip(self._examples.batches_of(*sizes), sizes, strict=True):
            if not self._in_training:
                with torch.no_grad():
                    losses = chunk_losses(self._workload, self._model, batch, size)
                found.sums += _sums(losses.values, losses.weight)
                self._note_own_draws()
                continue
            mean_loss = MeanLoss(self.count, self._parameters, one_divisor=one_divisor, is_divided=True)
            with self._model.forward():
                self._update(found, mean_loss, batch if self._augment is None else self._augment(batch), size)
                self._note_own_draws()
            for parameter, values in self._others:
                parameter.data.copy_(values)
            weight, divisor = mean_loss.sums()[1:]
            total, has_weights = total + float(weight), has_weights or divisor is not None
            self._add_gradients(found, 1.0 if divisor is None else float(divisor) / self.count)
        if has_weights and total > 0:
            found.grads = [grad * (self.count / total) for grad in found.grads]
        self._passes += 1
        return found

    def _update(self, found: _Pass, mean_loss: MeanLoss, batch: Any, size: int) -> None:
        """The forward and backward pass of a share, in the measured state."""
        mean_loss.begin()
        given = self._workload.loss(self._workload.model, batch)
        mean_loss.backward(given, size)
        losses = example_losses(given, size)
        found.sums += _sums(losses.products().detach(), float(losses.total_weight()))
        for name, buffer in self._workload.model.named_buffers():
            before = self.before.get(name)
            if before is None or before.shape != buffer.shape or before.dtype != buffer.dtype:
                continue
            if not (buffer.is_floating_point() or buffer.is_complex()):
                found.buffers.setdefault(name, buffer.detach().clone())  # that of the first device
            elif buffer.element_size() > 1:
                part = (buffer.detach() - before) * (size / self.count)
                found.buffers[name] = found.buffers.get(name, before) + part

    def _add_gradients(self, found: _Pass, factor: float) -> None:
        """Add the gradients of a share, as the devices add them up."""
        grads = [torch.zeros_like(each) if each.grad is None else each.grad for each in self._parameters]
        grads = [factor * (grad.to_dense() if grad.is_sparse else grad) for grad in grads]
        found.grads = [one + other for one, other in zip(found.grads, grads, strict=True)] if found.grads else grads

    def _note_own_draws(self) -> None:
        self.own_draws = self.own_draws or self._own.have_drawn()
        self._own.put_back()

    def with_augmentation(self) -> None:
        """Pass the batches as updates augment them, unless they are augmented by random numbers."""
        augment, host = self._workload.augment, torch.device("cpu")
        if augment is None or not self._in_training:
            return

        def augmented(batch: Any, generator: np.random.Generator) -> Any:
            with torch.no_grad():
                return augment(batch, generator)

        generator, before = np.random.Generator(np.random.PCG64(_SEEDS)), random_state(host)
        state = generator.bit_generator.state
        augmented(next(self._examples.batches_of(self.count)), generator)
        self.augment_draws = self._own.have_drawn()
        self._own.put_back()
        if self.augment_draws:
            return
        if is_same_state(state, generator.bit_generator.state) and is_same_state(before, random_state(host)):
            self._augment = partial(augmented, generator=generator)


def _judged(passes: _Passes, *, one_divisor: bool) -> BatchDependence:
    (apart, gradients_apart), count, half = passes.apart, passes.count, passes.count // 2
    passes.with_augmentation()
    # Of each pass only what is needed is kept: its gradients are as large as the model.
    whole, again = passes.of([count]), passes.of([count]).sums
    if passes.draws():
        return BatchDependence()
    if not _are_close(again, whole.sums, apart / 10):
        return BatchDependence(changes=True)
    for sizes in ([half, count - half], [1] * count) if half else ():
        parts = passes.of(sizes, one_divisor=one_divisor)
        if passes.draws():
            return BatchDependence()
        buffers = [name for name in whole.buffers if _is_other(name, parts, whole, passes.before)]
        of: Literal["", "loss", "gradient"] = ""
        if not _are_close(parts.sums, whole.sums, apart):
            of = "loss"
        elif not _are_near(parts.grads, whole.grads, gradients_apart):
            of = "gradient"
        if of or buffers:
            del parts
            last = passes.of([count])
            is_same = _are_close(last.sums, whole.sums, apart / 10) and _are_near(
                last.grads, whole.grads, gradients_apart
            )
            return BatchDependence(of, tuple(buffers)) if is_same else BatchDependence(changes=True)
    return BatchDependence()


def _apart(model: nn.Module) -> tuple[float, float]:
    """The bounds for sums of losses, and for gradients."""
    in_half = any(each.itemsize < 4 for each in model.parameters())
    return (_APART_IN_HALF, _GRADIENTS_IN_HALF) if in_half else (_APART, _GRADIENTS)


def _sums(values: Tensor, weight: float) -> Tensor:
    wide = values.double()
    return torch.tensor([float(wide.sum()), float(wide.abs().sum()), weight], dtype=torch.float64)


def _are_close(one: Tensor, other: Tensor, apart: float) -> bool:
    """Whether two sums are, in parts of the sum of the sizes, and their weights; also where they are not finite."""
    difference = (one - other).abs()
    is_close = (difference[0] <= apart * other[1]) & (difference[2] <= apart * other[2])
    return bool(is_close | ~(one.isfinite().all() & other.isfinite().all()))


def _are_near(one: Sequence[Tensor], other: Sequence[Tensor], apart: float) -> bool:
    """Whether gradients of all parameters are, in parts of their norm; also where they are not finite."""
    pairs = [(a.detach(), b.detach()) for a, b in zip(one, other, strict=True) if a.numel()]
    apart_by, size = (
        math.hypot(*(float(torch.linalg.vector_norm(each)) for each in of_all))
        for of_all in ([a - b for a, b in pairs], [b for _, b in pairs])
    )
    return not math.isfinite(apart_by) or apart_by <= apart * size


def _is_other(name: str, parts: _Pass, whole: _Pass, before: Mapping[str, Tensor]) -> bool:
    """Whether a buffer becomes another one where the batch is divided."""
    one, other = parts.buffers.get(name), whole.buffers[name]
    if one is None or not one.numel():
        return False
    if not (one.is_floating_point() or one.is_complex()):
        return not torch.equal(one, other)
    difference, change = (one - other).abs().max(), (other - before[name]).abs().max()
    return bool(difference > torch.maximum(_APART * change, _BUFFERS * other.abs().max()))


def _module_hooks(model: nn.Module) -> list[dict[Any, Any]]:
    names = ("_backward_hooks", "_backward_pre_hooks")
    return [getattr(module, name, {}) for module in model.modules() for name in names]


def _in_training(model: nn.Module, device: torch.device) -> MeasuredModel:
    """The model as in training, but for what makes noise; to be called where it is put back as a whole."""
    for module in model.modules():
        module.training = not (isinstance(module, _DropoutNd) or normalises_over_batch(module))
    return MeasuredModel(model, device, ModelGenerators(model), _SEEDS)
