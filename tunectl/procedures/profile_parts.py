"""The parts of the time of a trial, for each update, from what a trial of `profile` measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunectl.analysis.results.runs import Run
from tunectl.core.measurement_kinds import CACHE_ANSWERS, PROFILE
from tunectl.procedures.procedure import SweepSpec

NAMES = ("waiting for data", "copying to the device", "computing", "evaluating", "saving")
"""The parts of the time, in the order in which they are shown."""

_OF_BLOCKS = ("seconds_per_step", "waiting", "reading", "busiest_worker", "idlest_worker")


@dataclass(frozen=True, slots=True)
class Parts:
    """What was measured of a trial, in seconds: of blocks of updates the median.

    `facts` are the other metrics of the kind PROFILE by name; `training` is what the trial changed in the study's
    `training:`.
    """

    seconds_per_step: float
    waiting: float
    reading: float
    busiest_worker: float
    idlest_worker: float
    facts: Mapping[str, float]
    training: Mapping[str, Any]

    @property
    def workers(self) -> int:
        """The number of loader processes."""
        return int(self.facts["data_workers"])

    def kept(self, split: str) -> str | None:
        """Why the examples of a split are not kept in memory: "" where they can be, None where it was not looked at."""
        answer = self.facts.get(f"kept_{split}")
        return None if answer is None else CACHE_ANSWERS[int(answer)]


def parts(run: Run) -> Parts | None:
    """What a run measured; None where it did not complete."""
    curves = {metric.name: run.curve(PROFILE.column(metric.name))[1] for metric in PROFILE.metrics}
    if not run.feasible or not len(curves["seconds_per_step"]) or not len(curves["evaluation"]):
        return None
    facts = {name: float(values[-1]) for name, values in curves.items() if len(values) and name not in _OF_BLOCKS}
    of_blocks = {name: float(np.median(curves[name])) for name in _OF_BLOCKS}
    return Parts(**of_blocks, facts=facts, training=run.plan.training)


def seconds_of_parts(spec: SweepSpec[Any], measured: Parts) -> dict[str, float]:
    """The seconds of each of NAMES for an update, over a whole trial of the study.

    Evaluations are at step 0, every eval_every updates, and at the end. Each but the first one is counted as one that
    improves, and so keeps a checkpoint: that is the most that saving can take. `resume.pt` is written at evaluations,
    but not more often than its interval, and at the end.
    """
    steps = spec.max_train_steps + spec.prepended_warmup
    every = int(measured.training.get("eval_every", spec.eval_every))
    evaluations = math.ceil(steps / every)
    facts = measured.facts
    # On a GPU the copy is part of the time between two updates.
    copying = min(facts["copying"], measured.waiting)
    evaluating = facts["evaluation"] * (evaluations + 1)
    checkpoints = facts["checkpoint"] * evaluations
    in_all = steps * measured.seconds_per_step + evaluating + checkpoints
    resumes = 1 + min(evaluations - 1, in_all / facts["resume_interval"])
    return dict(
        zip(
            NAMES,
            (
                measured.waiting - copying,
                copying,
                measured.seconds_per_step - measured.waiting,
                evaluating / steps,
                (checkpoints + facts["resume"] * resumes) / steps,
            ),
            strict=True,
        )
    )


def seconds_of_update(spec: SweepSpec[Any], measured: Parts) -> float:
    """All parts of the time together, for an update."""
    return sum(seconds_of_parts(spec, measured).values())
