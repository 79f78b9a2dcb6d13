"""The plan: which trials a study consists of, with ids that never change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from tunectl.core.records import PlannedTrial
from tunectl.space.derived_values import UncomputableError
from tunectl.space.halton import halton_points, random_points
from tunectl.space.listed_points import Configuration, check_count, listed_configurations
from tunectl.space.search_space import SearchSpace, Study, search_space, uncomputable


def plan_trials(spec: Study, *, after: Sequence[PlannedTrial] = ()) -> list[PlannedTrial]:
    """The trials of a study that are not in `after`; their ids follow its last one.

    Round robin over the settings: point i of every setting, then point i + 1. None under the sampler bayesian, whose
    points are proposed when the trials before them have ended. Raises StudyError where the study has too many trials,
    a hand-written point does not fit, or a formula has no value in one of them.
    """
    space = search_space(spec)
    known = {trial.identity for trial in after}
    next_id = max((trial.trial for trial in after), default=-1) + 1
    trials: list[PlannedTrial] = []
    for setting, point, coordinates, values in _configurations(spec, space):
        if (setting, point, 0, 0) in known:
            continue
        trial = next_id + len(trials)
        trials.append(PlannedTrial(trial, setting, point, 0, coordinates, values, planned_seed(spec, trial)))
    return trials


def typical_trials(spec: Study) -> list[PlannedTrial]:
    """The trials that a study plans; under the sampler bayesian as many trials as it will have, spread evenly.

    By these the study is tried and its cost is estimated; they are not trained.
    """
    space = search_space(spec)
    if spec.search.sampler != "bayesian":
        return plan_trials(spec)
    return [
        PlannedTrial(trial, setting, point, 0, coordinates, values, planned_seed(spec, trial))
        for trial, (setting, point, coordinates, values) in enumerate(_sampled(spec, space, halton_points))
    ]


def planned_seed(spec: Study, trial: int) -> int:
    """The seed of a trial of this study."""
    return spec.first_seed if trial == 0 and spec.first_seed is not None else trial_seed(spec.seed, trial)


def trial_seed(study_seed: int, trial: int) -> int:
    """The seed of a trial, below 2**32: by numpy's SeedSequence from (training.seed, trial id)."""
    return int(np.random.SeedSequence((study_seed, trial)).generate_state(1)[0])


def _configurations(spec: Study, space: SearchSpace) -> Iterator[Configuration]:
    match spec.search.sampler:
        case "halton":
            return _sampled(spec, space, halton_points)
        case "random":
            return _sampled(spec, space, random_points)
        case "grid" | "points":
            return listed_configurations(spec, space)
        case "bayesian":
            return iter(())
        case _:
            assert_never(spec.search.sampler)


def _sampled(
    spec: Study, space: SearchSpace, draw: Callable[[int, int, int, int], NDArray[np.float64]]
) -> Iterator[Configuration]:
    check_count(spec, len(space.settings))
    cube = draw(spec.search.seed, space.dimensions, 0, spec.search.trials or 1)
    failures: list[UncomputableError] = []
    for point, row in enumerate(cube.tolist()):
        for setting in space.settings:
            try:
                values = space.configuration(setting, row)
            except UncomputableError as failure:
                failures.append(failure)
            else:
                yield setting.index, point, tuple(row), values
    if failures:
        raise uncomputable(spec, failures)
