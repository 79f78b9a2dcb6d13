"""`batch-scaling`: how the steps to a target and the best learning rate change with the batch size.

Deep Learning Tuning Playbook, "Choosing the batch size to minimize training time", and Gilmer et al. 2021, "A Loss
Curvature Perspective on Training Instability in Deep Learning", section 6 and figure 6, for any workload: over powers
of two, with the learning rate and all that the study samples tuned again at each batch size, in every setting of the
scientific hyperparameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.procedures.batch_scaling_conclusion import concluded
from tunectl.procedures.batch_scaling_options import (
    PHASES,
    BatchScaling,
    BatchScalingOptions,
    batch_sizes,
    candidates_in,
    longest_steps,
    problems,
)
from tunectl.procedures.batch_scaling_trials import CONTENDERS, PATIENCE, explored
from tunectl.procedures.procedure import OwnCodeNeeds, Procedure, Results, Wish, covered_settings


def next_trials(spec: BatchScaling, results: Results) -> Sequence[Wish]:
    """In each setting the candidates at the next batch size, those beyond the range, and the best under other seeds."""
    return [wish for place, _ in enumerate(covered_settings(spec)) for wish in explored(spec, results, place).wishes]


def trainings(spec: BatchScaling) -> tuple[int, int]:
    """The least number of trainings, where hardly any batch is useful, and the most, without wider ranges."""
    counts = [len(candidates_in(spec, setting)) for setting in covered_settings(spec)]
    again = CONTENDERS * (spec.options.seeds - 1)
    # Where only the training set, whose size is not known yet, is the limit: for five batch sizes.
    sizes = min(len(batch_sizes(spec)), 5) if spec.options.high is None else len(batch_sizes(spec))
    fewest = sizes if spec.options.all_batches else min(sizes, PATIENCE + 1)
    return sum(fewest * (count + again) for count in counts), sum(sizes * (count + again) for count in counts)


BATCH_SCALING = Procedure(
    "batch-scaling",
    frozenset({"batch_size", "learning_rate"}),
    PHASES,
    BatchScalingOptions,
    next_trials,
    concluded,
    problems,
    OwnCodeNeeds(("batch_size", "learning_rate")),
    trainings=trainings,
    longest=longest_steps,
    all_settings=True,
    tunes_all=True,
)
