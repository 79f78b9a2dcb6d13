"""What `training: batch_norm_statistics:` is expected to cost, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from tunectl.language.curvature_cost import FORWARD_PASS
from tunectl.language.review_training import longest_trial
from tunectl.language.study_spec import StudySpec


@dataclass(frozen=True, slots=True)
class StatisticsCost:
    """The `batches` of a trial before each of its `evaluations`, and the `share` of the time of its training that they
    take: 0.5 is half as long as the training itself.
    """

    batches: int
    evaluations: int
    share: float


def statistics_cost(spec: StudySpec) -> StatisticsCost | None:
    """The expected cost of gathering statistics, None where a study does not ask for it, or own code trains.

    A batch is a forward pass, an update a gradient of as many examples. A trial is as long as the longest of the study.
    """
    asked = spec.training.batch_norm_statistics
    if asked is None or spec.own_code:
        return None
    updates, every = longest_trial(spec), spec.training.eval_every
    evaluations = 1 + -(-updates // every)
    return StatisticsCost(asked.batches, evaluations, FORWARD_PASS * asked.batches * evaluations / updates)
