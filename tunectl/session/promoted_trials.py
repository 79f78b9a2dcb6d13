"""What a promotion makes of a trial, and how many trials the stages of a study may have at most."""

from __future__ import annotations

from dataclasses import replace

from tunectl.core.records import PlannedTrial
from tunectl.language.stages import planned_training
from tunectl.language.study_spec import StudySpec
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
