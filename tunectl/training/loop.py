"""The training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tunectl.training.agreement_step import compare_in_training
from tunectl.training.augmentation import Augmentation
from tunectl.training.curvature_step import measure_curvature
from tunectl.training.evaluation import fixed_batch_losses
from tunectl.training.evaluation_step import measure
from tunectl.training.feasibility import fixed_batch_steps
from tunectl.training.given_groups import set_rates
from tunectl.training.gradients import UpdateRatio, clip, gradients, tensor_norms, total_norm
from tunectl.training.precision import casting
from tunectl.training.recovery import rate_factor
from tunectl.training.saved_trial import stop as save_stopped
from tunectl.training.schedules import learning_rate
from tunectl.training.training_state import TrialState, flush
from tunectl.training.update_reduction import update_reduction
from tunectl.training.update_series import BLOCK_UPDATES, BadUpdate

Ending = Literal["finished", "stopped"] | BadUpdate

RATIO_EVERY = 50
"""The update ratio is measured at updates 0, 50, 100, ...: often enough for a median over a part of a trial, at a
fiftieth of the cost.
"""


def train(state: TrialState, stop: Callable[[], bool]) -> Ending:
    """Train from the step in `state` to the last one, with evaluations on the way.

    Gives "finished"; or "stopped" where `stop()`, which is called once an update, returned true and the state was
    saved; or the first update whose loss or gradient norm is not finite, or from which the trial must recover. Such an
    update is found when the series are read: at every evaluation, and at most BLOCK_UPDATES updates later. No other
    statement waits for the device, except with float16 under optimizers that are not fused (see LossScaler). On several
    devices `stop` is an AgreedStop.

    Shapes: B is the batch size, P the number of parameter tensors that have a gradient.
    """
    request, configuration, progress, series = state.request, state.configuration, state.progress, state.series
    model, loss, optimizer, parameters = state.workload.model, state.update_loss(), state.optimizer, state.parameters
    batches, total_steps, max_norm = state.batches, state.total_steps, configuration.grad_clip_norm
    scaler, averages, factor, mean_loss = state.scaler, state.averages, rate_factor(state), state.mean_loss()
    augment, ratio = Augmentation(state.workload, request.seed, state.ranks.rank), UpdateRatio(parameters)
    share, reduction = state.share(), update_reduction(state, stop, mean_loss)
    cast, parts, fixed_at = casting(configuration.precision, state.device), share.counts, fixed_batch_steps(total_steps)
    model.train()
    while True:
        # Stop: all that the rest depends on is saved, and the same call resumes from here.
        if stop():
            save_stopped(state)
            return "stopped"

        # Evaluate: read the series of at most BLOCK_UPDATES updates from the device (the only wait), then measure.
        if state.must_evaluate() or len(series) >= BLOCK_UPDATES:
            bad = flush(state)
            if bad is None and state.must_evaluate():
                bad = measure(state)
            if bad is not None:
                return bad
        step = progress.step

        # Curvature: of the weights after `step` updates; nothing that training depends on is changed.
        if state.must_measure_curvature():
            measure_curvature(state)
        if step == total_steps:
            return "finished"

        # Batch and learning rate of update `step`: both are functions of the step and the seed alone. The batch holds B
        # examples, or this device's share of them; with accumulation it is a list of micro-batches.
        batch = batches.take(step)
        rate = factor * learning_rate(configuration, request.max_train_steps, step)
        set_rates(optimizer, rate)

        # Augment, forward, backward: losses [B], or [size] for a micro-batch, or values and weights. The gradients of
        # their mean over all B examples add up in parameter.grad (in float16 times the loss scale), over all devices.
        mean_loss.begin()
        for part, (size, counts) in zip(augment(step, share.parts(batch)), parts, strict=True):
            with state.normalising(has_examples=counts):
                with cast:
                    given = loss(model, part)
                mean_loss.backward(given, size, counts=counts)
        if reduction is not None:
            reduction.reduce()

        # Gradients: P tensors of the parameters' shapes, without the loss scale; their norms, shape [] each. Where they
        # are clipped, the recorded norm is the global one before clipping.
        grads = gradients(parameters)
        if scaler is not None:
            scaler.unscale(grads)
        norms = tensor_norms(grads)
        if max_norm is not None and grads:
            norm = total_norm(norms)
            clip(grads, norm, max_norm)
            norms = (norm,)

        # Update: the optimizer changes the parameters in place; in float16 not where a gradient overflowed. Every
        # RATIO_EVERY updates the change is compared with the parameters, as two norms, shape [2].
        with_ratio = step % RATIO_EVERY == 0
        if with_ratio:
            ratio.begin()
        if scaler is None:
            optimizer.step()
        else:
            series.append_skipped(scaler.step(optimizer, grads))
        if averages is not None:
            averages.update()

        # Record: the sums of losses and weights, shape [] each, and the norms stay on the device until they are read.
        if with_ratio:
            series.append_ratio(step, ratio.end())
        loss_sum, weight = mean_loss.take_sum()
        series.append(loss_sum, norms, rate, weight=weight)
        progress.step = step + 1

        # Fixed batch: the losses of the same examples in evaluation mode, shape [examples], at 20 updates of the second
        # half. The end of the trial is judged from them (feasibility).
        if step + 1 in fixed_at:
            progress.fixed_batch_losses.append(fixed_batch_losses(state.evaluator, state.fixed_batch))

        # Several devices: what must be the same on all of them, at the first updates and regularly after.
        if reduction is not None:
            compare_in_training(state)
