"""The loop: one update after the other, in the order of thought."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from tunectl.core.errors import WorkloadError
from tunectl.training.evaluation import checked_losses, fixed_batch_losses
from tunectl.training.feasibility import fixed_batch_steps
from tunectl.training.gradients import clip, gradients, tensor_norms, total_norm
from tunectl.training.schedules import learning_rate
from tunectl.training.series import BLOCK_UPDATES, BadUpdate
from tunectl.training.state import TrialState, flush, measure
from tunectl.training.state import stop as save_stopped

Ending = Literal["finished", "stopped"] | BadUpdate


def _gradient_of_mean(losses: torch.Tensor, batch_size: int) -> torch.Tensor:
    """What backward starts from instead of a mean node; raises WorkloadError unless there is one loss per example."""
    if checked_losses(losses).shape[0] != batch_size:
        raise WorkloadError(f"loss(model, batch) gave {losses.shape[0]} values for a batch of {batch_size} examples")
    return torch.full_like(losses, 1.0 / batch_size, requires_grad=False)


def train(state: TrialState, stop: Callable[[], bool]) -> Ending:
    """Train from where `state` stands to the last step, evaluating on the way.

    Ends "finished"; "stopped" when `stop()`, asked once an update, is true, with everything saved; or with the first
    update whose loss or gradient norm is not finite, found when the series are read: at every evaluation, and at most
    BLOCK_UPDATES updates later. No other statement waits for the device.
    """
    request, configuration, progress, series = state.request, state.configuration, state.progress, state.series
    model, loss, optimizer, parameters = state.workload.model, state.workload.loss, state.optimizer, state.parameters
    batches, total_steps, max_norm = state.batches, state.total_steps, configuration.grad_clip_norm
    fixed_batch_due = fixed_batch_steps(total_steps)
    mean_gradient: torch.Tensor | None = None
    model.train()
    while True:
        if stop():
            save_stopped(state)
            return "stopped"

        if state.evaluation_due() or len(series) >= BLOCK_UPDATES:
            bad = flush(state)
            if bad is not None:
                return bad
            if state.evaluation_due():
                measure(state)
        step = progress.step
        if step == total_steps:
            return "finished"

        batch = batches.take(step)
        rate = learning_rate(configuration, request.max_train_steps, step)
        for group in optimizer.param_groups:
            group["lr"] = rate

        for parameter in parameters:
            parameter.grad = None
        losses = loss(model, batch)
        if mean_gradient is None or mean_gradient.shape != losses.shape:
            mean_gradient = _gradient_of_mean(losses, configuration.batch_size)
        losses.backward(gradient=mean_gradient)  # type: ignore[no-untyped-call]

        grads = gradients(parameters)
        norms = tensor_norms(grads)
        if max_norm is not None and grads:
            norm = total_norm(norms)
            clip(grads, norm, max_norm)
            norms = (norm,)
        optimizer.step()

        series.append(losses.detach().sum(), norms, rate)
        progress.step = step + 1
        if step + 1 in fixed_batch_due:
            progress.fixed_batch_losses.append(fixed_batch_losses(state.evaluator, state.fixed_batch))
