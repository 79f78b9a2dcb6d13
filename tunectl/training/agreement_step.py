"""The comparison of what must be the same on all devices of a trial, or is another trial: at step 0, after the first
updates, regularly after these, and at every evaluation.

Weights and buffers that differ are found at each of these moments. Losses of the same examples are compared at the
moments that do not depend on the evaluations, and with those of the fixed batch, which the second half of a trial has
anyway. So the moments are functions of the step alone, and the cost is a small part of the updates between them. What
the model and its generators have is put back; what a workload keeps elsewhere, such as a count of its calls, is not.
"""

from __future__ import annotations

from torch import Tensor

from tunectl.training.curvature.module_state import ModuleState
from tunectl.training.evaluation import fixed_batch_losses
from tunectl.training.model_generators import ModelGenerators
from tunectl.training.rank_agreement import note_other_losses, refuse_drift
from tunectl.training.training_state import TrialState

_FIRST_STEPS = (0, 1, 4, 16, 64)
"""A difference that vanishes, as that of a mean which forgets how it began, is there at the beginning."""

_EVERY = 256
"""Then the losses of the fixed batch, which has at most 64 examples, take less than a hundredth of the time of the
updates, where their batches are not much smaller.
"""


def is_compared(step: int) -> bool:
    """Whether the devices are compared at this step, whatever is evaluated."""
    return step in _FIRST_STEPS or step % _EVERY == 0


def compare_in_training(state: TrialState) -> None:
    """Compare the devices after an update, where it is time to, and no evaluation does so at once."""
    if is_compared(state.progress.step) and not state.must_evaluate():
        compare_devices(state)


def compare_devices(state: TrialState) -> None:
    """Refuse weights and saved buffers that differ between the devices, make other buffers the same, and note other
    losses; to be called by all ranks at the same step, outside of an update.

    Raises WorkloadError; see SharedBuffers.look and refuse_drift. Nothing is done where there is one device.
    """
    ranks = state.ranks
    if ranks.count == 1:
        return
    if state.buffers is not None:
        state.buffers.look()
        state.notes |= state.buffers.notes()
    refuse_drift(ranks, state.workload.model, state.parameters)
    in_half = state.configuration.precision != "float32" or any(each.itemsize < 4 for each in state.parameters)
    state.notes |= note_other_losses(ranks, [*state.progress.fixed_batch_losses, *_losses_now(state)], in_half=in_half)


def _losses_now(state: TrialState) -> list[Tensor]:
    """The losses of the fixed batch at this step, where they are compared; none where a rank cannot compute them, and
    in the second half of a trial, which has others.
    """
    step = state.progress.step
    if not is_compared(step) or 2 * step > state.total_steps:
        return []
    model, found = state.workload.model, list[Tensor]()
    kept, generators = ModuleState(model), ModelGenerators(model)
    try:
        found.append(fixed_batch_losses(state.evaluator, state.fixed_batch))
    except Exception:  # where training or an evaluation needs them, the trial ends with it there
        found = []
    finally:
        # One device does not compute them: nothing of it must count.
        kept.put_back()
        generators.put_back()
    return [] if state.ranks.agreed(not found) else found
