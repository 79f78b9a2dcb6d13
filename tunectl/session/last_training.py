"""What the last training of a configuration is asked for: how many updates, with which schedule and which objective."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tunectl.core.final_training import FoldedData
from tunectl.core.records import PlannedTrial, Scalar, TrialKind, TrialRequest
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.piecewise import stretched

KINDS: tuple[TrialKind, ...] = ("data", "final", "test")
"""The trials of a last training in the order of their ids."""


@dataclass(frozen=True, slots=True)
class LastTraining:
    """The last training of a trial's configuration.

    `asked` is what the trial was asked for, `plan` its line of the plan, `updates` the number of its updates that are
    trained again. With `same_epochs` they are more by as much as the training set is larger.
    """

    plan: PlannedTrial
    asked: TrialRequest
    updates: int
    same_epochs: bool = False

    def request(self, data: FoldedData | None) -> TrialRequest:
        """The request of its trials; `data` is None before the splits are known.

        The schedule is that of the trial, cut off after the last update: every update has the learning rate that it had
        there. With `same_epochs` all lengths of the schedule grow with the training set, so that every epoch has the
        learning rates that it had. As no checkpoint can be selected without `valid`, the last state counts, and what is
        measured on the way is measured on train.
        """
        asked = self.asked
        split, _, name = asked.objective.metric.partition("/")
        metric = f"train/{name}" if split == "valid" else asked.objective.metric
        objective = replace(asked.objective, metric=metric, checkpoint="final", steps_to=None)
        changed = self._lengthened(1.0 if data is None or not self.same_epochs else _growth(data))
        examples = asked.train_examples
        if examples is None and data is not None:
            examples = data.splits["valid"]
        return replace(
            changed,
            objective=objective,
            train_examples=examples,
            keep_checkpoints=1,
            curvature=None,
            curvature_needed=True,
            # Of `valid`, which is trained on.
            predictions=None,
            split_examples={},
            attempt=1,
        )

    def _lengthened(self, growth: float) -> TrialRequest:
        """The request with all lengths of its schedule times `growth`, which ends after `updates` times as many."""
        before = TrainingConfiguration(**self.asked.configuration)
        changes: dict[str, Any] = {
            "warmup_steps": round(before.warmup_steps * growth),
            "post_warmup_steps": round(before.post_warmup_steps * growth),
            "decay_steps": before.decay_steps if before.decay_steps is None else round(before.decay_steps * growth),
            "piecewise_points": before.piecewise_points and stretched(before.piecewise_points, growth),
        }
        after = replace(before, **changes)
        length = round(self.asked.max_train_steps * growth)
        whole = self.updates == before.total_steps(self.asked.max_train_steps)
        updates = after.total_steps(length) if whole else min(round(self.updates * growth), after.total_steps(length))
        if after.warmup == "prepend" and updates <= after.warmup_steps:
            # It ends within the prepended warmup, of which max_train_steps counts no update: the same rates, counted.
            length, after = length + after.warmup_steps, replace(after, warmup="within")
        stop_after = updates - (after.warmup_steps if after.warmup == "prepend" else 0)
        return replace(
            self.asked,
            configuration=after.to_json(),
            max_train_steps=length,
            stop_after=None if stop_after == length else stop_after,
        )

    def trial(self, kind: TrialKind, data: FoldedData | None) -> PlannedTrial:
        """The planned trial of this kind."""
        number, request = KINDS.index(kind), self.request(data)
        return PlannedTrial(
            trial=number,
            setting=self.plan.setting,
            point=number,
            repeat=0,
            coordinates=(),
            hyperparameters=self.hyperparameters(data),
            seed=self.asked.seed,
            trial_kind=kind,
            training={"request": request.to_json()},
        )

    def hyperparameters(self, data: FoldedData | None) -> dict[str, Scalar]:
        """The hyperparameters, with the schedule as it is trained."""
        configuration = self.request(data).configuration
        return {name: configuration.get(name, value) for name, value in self.plan.trained_values.items()}

    def trained_updates(self, data: FoldedData | None) -> int:
        """The number of updates that are trained."""
        request = self.request(data)
        return TrainingConfiguration(**request.configuration).total_steps(request.trained_steps)


def _growth(data: FoldedData) -> float:
    return data.trained_examples / data.splits["train"]
