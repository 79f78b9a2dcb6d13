"""What a promotion makes of a trial, and how many trials the stages of a study may have at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunectl.core.records import PlannedTrial
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.stage_lengths import MOST_BESIDE, planned_training
from tunectl.language.study_spec import StudySpec
from tunectl.session.trial_requests import total_steps
from tunectl.space.trial_plan import trial_seed


def promoted(spec: StudySpec, trial: PlannedTrial, number: int) -> PlannedTrial:
    """The trial of the next stage with the setting, point and values of this one, as trial `number` of the study.

    It has a seed of its own, from its number, as every trial: the short one was chosen also because its seed was a
    lucky one, and a long trial with the same seed would show that luck again.
    """
    stage = trial.stage + 1
    training = planned_training(spec, trial.hyperparameters, stage)
    seed = trial_seed(spec.training.seed, number)
    return replace(trial, trial=number, seed=seed, stage=stage, training=training)


def most_promoted(spec: StudySpec, trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """The most trials that later stages may add to these, and the longest ones, for estimates of a study's cost."""
    found: list[PlannedTrial] = []
    before = [trial for trial in trials if trial.trial_kind == "search"]
    for stage, asked in enumerate(spec.search.promote, start=1):
        by_setting: dict[int, list[PlannedTrial]] = {}
        for trial in before:
            if trial.stage == stage - 1:
                by_setting.setdefault(trial.setting, []).append(trial)
        longest = [
            trial
            for own in by_setting.values()
            for trial in sorted(own, key=lambda trial: -_examples(spec, trial))[: asked.keep * (1 + MOST_BESIDE)]
        ]
        added = [promoted(spec, trial, trial.trial) for trial in longest]
        found += added
        before += added
    return found


def _examples(spec: StudySpec, trial: PlannedTrial) -> int:
    """The number of examples of its updates; for own code the number of updates."""
    size = 1 if spec.own_code else TrainingConfiguration.from_hyperparameters(trial.hyperparameters).batch_size
    return size * total_steps(spec, trial)
