"""The statistics with which batch normalisation evaluates, gathered again from batches of train before an evaluation.

In training a layer's running statistics are an exponential average over its last batches, of weights that have changed
since. They lag behind after the start and at large learning rates (Wu and Johnson, "Rethinking 'batch' in BatchNorm",
arXiv 2105.07576, section 3), and belong to no averaged weights (Polyak).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tunectl.core.errors import WorkloadError
from tunectl.core.records import TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.training.batches import LoadedBatches, training_batches
from tunectl.training.buffers import BufferValues
from tunectl.training.divided_work import tried
from tunectl.training.evaluation import evaluating
from tunectl.training.first_rank import on_first
from tunectl.training.precision import casting
from tunectl.training.ranks import SINGLE, Ranks
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.streams import StreamedExamples
from tunectl.training.training_data import TrainingData
from tunectl.workloads.workload import Workload

TRAINED_STATISTICS = "trained_statistics"
"""The part of a checkpoint with the statistics in training, by the names of the buffers."""


def gathering_layers(model: nn.Module) -> dict[str, _NormBase]:
    """The layers with running statistics that can be gathered again, by name: torch's batch normalisation, and those
    derived from it.
    """
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, _NormBase) and layer.running_mean is not None
    }


def foreign_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the running means of other layers, by the name of the layer."""
    return {
        name: layer._buffers["running_mean"].detach().clone()
        for name, layer in model.named_modules()
        if layer._buffers.get("running_mean") is not None and not isinstance(layer, _NormBase)
    }


def refuse_foreign_statistics(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Raise WorkloadError where a forward in training mode has changed running means that cannot be gathered again.

    `before` is what `foreign_statistics` gave before it. Constant ones, as of a frozen layer, are no reason.
    """
    for name, mean in foreign_statistics(model).items():
        if not torch.equal(mean, before[name]):
            place = f"{name or 'of the model'} ({type(model.get_submodule(name)).__name__})"
            raise WorkloadError(
                f"training.batch_norm_statistics: the layer {place} has running statistics of its own kind, which"
                " cannot be gathered again; derive it from torch's batch normalisation, or leave the section out"
            )


@dataclass(frozen=True, slots=True)
class BatchNormGatherer:
    """Gathers the statistics of a trial's model: the plain averages of the means and of the unbiased variances of
    `batches` training batches, each of `batch_size` examples.

    The batches are the same at every step: a permutation of train that depends on the trial's seed, divided into
    micro-batches where updates are. They are not augmented, and all other layers are in evaluation mode, dropout with
    them, since the layers will be used so: with other inputs in training than in evaluation the variances differ (Li et
    al., "Understanding the disharmony between dropout and batch normalization by variance shift", arXiv 1801.05134).
    The plain average is that of torch.optim.swa_utils.update_bn, for averaged weights (Izmailov et al., "Averaging
    weights leads to wider optima and better generalization", arXiv 1803.05407).

    `undivided` has the reason why rank 0 alone runs all batches, once it is known.
    """

    workload: Workload
    batches: int
    batch_size: int
    micro_batch_sizes: tuple[int, ...]
    seed: int
    device: torch.device
    data_workers: int
    precision: Any
    ranks: Ranks = SINGLE
    undivided: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def of_request(
        cls, request: TrialRequest, workload: Workload, device: torch.device, ranks: Ranks = SINGLE
    ) -> BatchNormGatherer | None:
        """That of a trial; None where it is not asked for, or the model has no such layer.

        Raises WorkloadError where the batches of train cannot be read beside those of the updates.
        """
        asked = request.batch_norm_statistics
        if asked is None or not gathering_layers(workload.model):
            return None
        if isinstance(workload.data["train"], StreamedExamples):
            raise WorkloadError(
                "training.batch_norm_statistics: the split 'train' is an iterable data set, which the updates read;"
                " leave the section out, or give a map-style data set"
            )
        configuration = TrainingConfiguration(**request.configuration)
        return cls(
            workload,
            asked.batches,
            configuration.batch_size,
            tuple(configuration.micro_batch_sizes()),
            request.seed,
            device,
            request.data_workers,
            configuration.precision,
            ranks,
        )

    @contextlib.contextmanager
    def gathered(self) -> Iterator[dict[str, Tensor]]:
        """Within the block the layers have the statistics of the model's present weights; gives those that they had in
        training, by the names of the buffers, which they have again afterwards, bit for bit.

        To be called by all ranks, each of which runs some of the batches. All generators and other buffers are as
        before. To be used in training mode, which it leaves the model in. A layer that is in evaluation mode even then,
        as a frozen one, keeps its statistics.
        """
        layers = {name: layer for name, layer in gathering_layers(self.workload.model).items() if layer.training}
        kept = BufferValues(self.workload.model)
        buffers = {
            f"{name}.{item}" if name else item: buffer
            for name, layer in layers.items()
            for item, buffer in layer._buffers.items()
            if buffer is not None
        }
        trained = {name: buffer.detach().clone() for name, buffer in buffers.items()}
        try:
            self._gather(layers)
            found = {name: buffer.detach().clone() for name, buffer in buffers.items()}
        finally:
            kept.put_back()
        try:
            _set(buffers, found)
            yield trained
        finally:
            _set(buffers, trained)

    def _gather(self, layers: Mapping[str, _NormBase]) -> None:
        ranks, model = self.ranks, self.workload.model
        averages = [_InputAverages(layer) for layer in layers.values()]
        with evaluating(model, sequence(self.seed, Purpose.STATISTICS), self.device):
            done = ranks.count == 1
            if done:
                self._run(averages, range(self.batches))
            elif not self.undivided:
                own = partial(self._run, averages, range(ranks.rank, self.batches, ranks.count))
                found = tried(ranks, model, self.device, own, is_to_change=True)
                done = found.ending == "done"
                if found.ending == "drawn":
                    self.undivided.append(found.why)
            if not done:
                on_first(ranks, partial(self._run, averages, range(self.batches)))
        _join(averages, ranks, are_divided=done)

    def _run(self, averages: Sequence[_InputAverages], numbers: range) -> None:
        """Average over the batches with these numbers."""
        cast = casting(self.precision, self.device)
        source = training_batches(
            TrainingData.of(self.workload),
            seed=self.seed,
            batch_size=self.batch_size,
            first_update=0,
            total_updates=self.batches,
            device=self.device,
            data_workers=self.data_workers,
            micro_batch_sizes=self.micro_batch_sizes if self._is_divided else (),
            of_statistics=True,
        )
        with contextlib.ExitStack() as stack:
            stack.callback(source.close)
            for each in averages:
                stack.enter_context(each.over_inputs())
            for number in range(self.batches):
                if number not in numbers and not isinstance(source, LoadedBatches):  # which gives one after the other
                    continue
                batch = source.take(number)
                for part in batch if self._is_divided else (batch,):
                    if number in numbers:
                        with cast:
                            self.workload.loss(self.workload.model, part)

    @property
    def _is_divided(self) -> bool:
        return len(self.micro_batch_sizes) > 1


def load_trained_statistics(model: nn.Module, parts: Mapping[str, Any]) -> None:
    """Give the model the statistics in training of a checkpoint's parts, where it was saved with gathered ones."""
    trained: Mapping[str, Tensor] = parts.get(TRAINED_STATISTICS, {})
    _set({name: model.get_buffer(name) for name in trained}, trained)


def _set(buffers: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in buffers.items():
            buffer.copy_(values[name])


class _InputAverages:
    """The statistics of a layer as averages over its inputs, each by its number of examples."""

    def __init__(self, layer: _NormBase) -> None:
        self.layer, self.seen = layer, 0
        self.before = BufferValues(layer)

    @contextlib.contextmanager
    def over_inputs(self) -> Iterator[None]:
        """Within the block the layer is in training mode, with the averages over its inputs so far."""
        self.seen, layer, momentum = 0, self.layer, self.layer.momentum

        def weigh(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            # running <- (1 - momentum) running + momentum new, with the input's share of all so far.
            examples = len(inputs[0])
            self.seen += examples
            layer.momentum = examples / self.seen

        layer.reset_running_stats()
        layer.train()
        hook = layer.register_forward_pre_hook(weigh)
        try:
            yield
        finally:
            hook.remove()
            layer.momentum = momentum


@torch.no_grad()
def _join(averages: Sequence[_InputAverages], ranks: Ranks, *, are_divided: bool) -> None:
    """Make the statistics those of the inputs on all ranks, or on rank 0 alone where work was not divided. A layer that
    got no inputs keeps those that it had.
    """
    own = [float(each.seen) if are_divided or ranks.rank == 0 else 0.0 for each in averages]
    for each, seen, of_all in zip(averages, own, ranks.sums(own), strict=True):
        if of_all == 0:
            each.before.put_back()
        elif ranks.count > 1:
            buffers = [buffer for buffer in each.layer._buffers.values() if buffer is not None]
            parts = [
                buffer.to(torch.float64) * (seen / of_all) if buffer.is_floating_point() else buffer * int(seen > 0)
                for buffer in buffers
            ]
            ranks.sum_(parts)
            for buffer, part in zip(buffers, parts, strict=True):
                buffer.copy_(part)
