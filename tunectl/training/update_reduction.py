"""What the ranks of a trial computed for an update from their shares of the batch, added up.

So norms, clipping and the optimizer's step are those of the whole batch, and the same on every rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from enum import IntEnum

import torch
from torch import Tensor, nn

from tunectl.core.errors import LostRankError
from tunectl.training.agreement_step import is_compared
from tunectl.training.gradients import MeanLoss
from tunectl.training.ranks import Ranks
from tunectl.training.shared_buffers import SharedBuffers
from tunectl.training.training_state import TrialState


class AgreedStop:
    """Whether any rank was asked to stop: each rank gets the same answer at the same call.

    A call asks all ranks, unless an update since the last call has asked them already.
    """

    def __init__(self, ranks: Ranks, asked: Callable[[], bool]) -> None:
        self._ranks, self.asked = ranks, asked
        self._known: bool | None = None

    def __call__(self) -> bool:
        """Whether any rank was asked to stop."""
        known, self._known = self._known, None
        return self._ranks.agreed(self.asked()) if known is None else known

    def note(self, is_asked: bool) -> None:
        """Note the answer for the next call."""
        self._known = is_asked


def update_reduction(state: TrialState, stop: Callable[[], bool], mean_loss: MeanLoss) -> UpdateReduction | None:
    """That of a trial, None where it has one device; to be made where the model is the same on all of them."""
    if state.ranks.count == 1:
        return None
    assert isinstance(stop, AgreedStop)
    are_synchronised = state.synchronised is not None
    state.buffers = SharedBuffers(
        state.workload.model, state.ranks, are_synchronised=are_synchronised, state=state.saved_buffers
    )
    state.reduction = UpdateReduction(state, stop, state.buffers, mean_loss)
    return state.reduction


def fails_with_others(state: TrialState, error: Exception) -> bool:
    """Whether all ranks know at the same place that one has raised an exception, and so may go on together."""
    if state.reduction is None:
        return state.ranks.count == 1
    if not isinstance(error, LostRankError):
        state.reduction.fail()
    has_failed, state.reduction.has_failed = state.reduction.has_failed, False
    return has_failed


class _Kind(IntEnum):
    """Of a gradient."""

    NONE = 0
    DENSE = 1
    SPARSE = 2


class UpdateReduction:
    """Adds up the gradients of an update, the sum of its losses and that of their weights over all ranks.

    A parameter has a gradient where it has one on any rank. Each rank has divided its gradients by what it expected the
    sum of all weights to be; they are divided by what it is. `stop` is agreed on the way. `has_failed` says that a rank
    raised an exception in the update, and that all have come to know it at the same place.
    """

    def __init__(self, state: TrialState, stop: AgreedStop, buffers: SharedBuffers, mean_loss: MeanLoss) -> None:
        self._ranks, self._parameters, self._stop, self._buffers = state.ranks, state.parameters, stop, buffers
        self._mean_loss, self._on_host = mean_loss, state.device.type == "cpu"
        # Before the sum, ranks exchange in their forward passes then: they are not at one place.
        self._can_fail = state.synchronised is None
        self.has_failed = False
        self._batch_size, self._examples = state.configuration.batch_size, state.share().examples
        self._kinds: tuple[_Kind, ...] | None = None
        self._progress = state.progress

    @torch.no_grad()
    def reduce(self) -> None:
        """Replace the gradients of the parameters, and the sums of the losses, by those over all ranks.

        The buffers that the forward passes have changed become the same, too. Raises LostRankError where another rank
        has raised an exception in this update.
        """
        self._mean_loss.is_open = False
        own = self._mean_loss.sums()
        kinds = tuple(_kind(parameter.grad) for parameter in self._parameters)
        # Which gradients there are say the ranks with examples that count; the others take theirs.
        differ = kinds != self._kinds and (own.loss is not None or self._kinds is None)
        others_change = self._buffers.others_change()
        values = [0.0, *map(float, (self._stop.asked(), own.divisor is not None, differ, others_change))]
        if self._on_host:
            values += [0.0 if own.loss is None else float(own.loss), float(own.weight)]
        failed, stop, weighted, are_other, others, *on_host = self._ranks.sums(values)
        if failed:
            self.has_failed = True
            raise LostRankError("another device of this trial has raised an exception in this update")
        self._stop.note(stop > 0)
        # After the update, what must be the same is compared; what differs in it, before it is made the same.
        are_compared = is_compared(self._progress.step + 1)
        self._buffers.agree(self._examples, self._batch_size, others_change=others > 0, are_compared=are_compared)
        if are_other or self._kinds is None:
            self._kinds = _joined(self._ranks.gathered(kinds))

        # The gradients of sum(w v) / batch_size, whatever a rank has expected; and the sums of w v and of w, shape [2],
        # which on a GPU stay there: no update waits for it.
        if own.divisor is not None:
            self._scale(own.divisor / self._batch_size)
        grads = self._gradients()
        if on_host:
            totals = torch.tensor(on_host, dtype=torch.float64)
            self._ranks.sum_(grads)
        else:
            totals = torch.zeros(2, dtype=torch.float64, device=self._parameters[0].device)
            totals[0], totals[1] = 0.0 if own.loss is None else own.loss, own.weight
            self._ranks.sum_([*grads, totals])
        self._mean_loss.has_graph |= any(kind is not _Kind.NONE for kind in self._kinds)
        loss, weight = totals.unbind()

        # Divided by the sum of all weights; by the batch size where that is 0, or weights are wrong.
        if weighted:
            self._scale(self._batch_size / torch.where(weight > 0, weight, self._batch_size))
        self._mean_loss.set_sums(loss, weight if weighted else None)

    def fail(self) -> None:
        """Let all ranks know that this one has raised an exception, where they are about to add up an update."""
        if self._can_fail and self._mean_loss.is_open:
            self._mean_loss.is_open = False
            with contextlib.suppress(Exception):  # the one that this rank has raised is the one to report
                self._ranks.sums([1.0, 0.0, 0.0, 0.0, 0.0, *([0.0, 0.0] if self._on_host else [])])
                self.has_failed = True

    def _scale(self, factor: Tensor) -> None:
        grads = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if grads:
            torch._foreach_mul_(grads, factor)

    def _gradients(self) -> list[Tensor]:
        """The gradients that are still to be summed: the dense ones, zeros where only other ranks have one."""
        assert self._kinds is not None
        dense: list[Tensor] = []
        for parameter, kind in zip(self._parameters, self._kinds, strict=True):
            if kind is _Kind.NONE:
                parameter.grad = None
            elif kind is _Kind.SPARSE:
                parameter.grad = self._sparse_sum(parameter)
            else:
                grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = grad.to_dense() if grad.is_sparse else grad
                dense.append(parameter.grad)
        return dense

    def _sparse_sum(self, parameter: nn.Parameter) -> Tensor:
        """The sum of a gradient that is sparse on every rank that has one; its entries are those of any rank."""
        grad = parameter.grad
        own = None if grad is None else (grad._indices().cpu(), grad._values().cpu())
        given = [item for item in self._ranks.gathered(own) if item is not None]
        indices = torch.cat([item[0] for item in given], dim=1).to(parameter.device)
        values = torch.cat([item[1] for item in given]).to(parameter.device)
        return torch.sparse_coo_tensor(indices, values, parameter.shape, check_invariants=False).coalesce()


def _kind(grad: Tensor | None) -> _Kind:
    return _Kind.NONE if grad is None else _Kind.SPARSE if grad.is_sparse else _Kind.DENSE


def _joined(of_ranks: Sequence[Sequence[_Kind]]) -> tuple[_Kind, ...]:
    """The kind of each gradient from those that the ranks have: sparse where no rank has a dense one."""
    found = []
    for kinds in zip(*of_ranks, strict=True):
        there = {kind for kind in kinds if kind is not _Kind.NONE}
        found.append(_Kind.NONE if not there else _Kind.SPARSE if there == {_Kind.SPARSE} else _Kind.DENSE)
    return tuple(found)
