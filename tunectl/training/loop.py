"""The loop: one update after the other, in the order of thought."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tunectl.training.evaluation import fixed_batch_losses
from tunectl.training.evaluation_step import measure
from tunectl.training.feasibility import fixed_batch_steps
from tunectl.training.gradients import MeanLoss, UpdateRatio, clip, gradients, tensor_norms, total_norm
from tunectl.training.precision import casting
from tunectl.training.recovery import rate_factor
from tunectl.training.saved_trial import stop as save_stopped
from tunectl.training.schedules import learning_rate
from tunectl.training.training_state import TrialState, flush
from tunectl.training.update_series import BLOCK_UPDATES, BadUpdate

Ending = Literal["finished", "stopped"] | BadUpdate

RATIO_EVERY = 50
"""The update ratio is measured at update 0 and every so many updates: often enough for a median over a part of a trial,
at a fiftieth of the cost.
"""


def train(state: TrialState, stop: Callable[[], bool]) -> Ending:
    """Train from where `state` stands to the last step, evaluating on the way.

    Ends "finished"; "stopped" when `stop()`, asked once an update, is true, with everything saved; or with the first
    update whose loss or gradient norm is not finite, found when the series are read: at every evaluation, and at most
    BLOCK_UPDATES updates later (or with one from which the trial is to recover). No other statement waits for the
    device, but in float16 under optimizers that are not fused (see LossScaler).
    """
    request, configuration, progress, series = state.request, state.configuration, state.progress, state.series
    model, loss, optimizer, parameters = state.workload.model, state.workload.loss, state.optimizer, state.parameters
    batches, total_steps, max_norm = state.batches, state.total_steps, configuration.grad_clip_norm
    scaler, averages, factor = state.scaler, state.averages, rate_factor(state)
    sizes, divided = configuration.micro_batch_sizes(), configuration.accumulate_steps > 1
    mean_loss = MeanLoss(configuration.batch_size, None if scaler is None else scaler.scale)
    cast, ratio = casting(configuration.precision, state.device), UpdateRatio(parameters)
    fixed_batch_due = fixed_batch_steps(total_steps)
    model.train()
    while True:
        if stop():
            save_stopped(state)
            return "stopped"

        if state.evaluation_due() or len(series) >= BLOCK_UPDATES:
            bad = flush(state)
            if bad is None and state.evaluation_due():
                bad = measure(state)
            if bad is not None:
                return bad
        step = progress.step
        if step == total_steps:
            return "finished"

        batch = batches.take(step)
        rate = factor * learning_rate(configuration, request.max_train_steps, step)
        for group in optimizer.param_groups:
            group["lr"] = rate

        for parameter in parameters:
            parameter.grad = None
        for part, size in zip(batch if divided else (batch,), sizes, strict=True):
            with cast:
                losses = loss(model, part)
            mean_loss.backward(losses, size)

        grads = gradients(parameters)
        if scaler is not None:
            scaler.unscale(grads)
        norms = tensor_norms(grads)
        if max_norm is not None and grads:
            norm = total_norm(norms)
            clip(grads, norm, max_norm)
            norms = (norm,)

        ratio_due = step % RATIO_EVERY == 0
        if ratio_due:
            ratio.begin()
        if scaler is None:
            optimizer.step()
        else:
            series.append_skipped(scaler.step(optimizer, grads))
        if averages is not None:
            averages.update()
        if ratio_due:
            series.append_ratio(step, ratio.end())
        series.append(mean_loss.take_sum(), norms, rate)
        progress.step = step + 1
        if step + 1 in fixed_batch_due:
            progress.fixed_batch_losses.append(fixed_batch_losses(state.evaluator, state.fixed_batch))
