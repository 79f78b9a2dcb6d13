"""Procedures on results made by formula: what is stable, what is best and what holds is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from narrowing import as_number

from tunectl.analysis.results.runs import Run, UpdateSeries, curves_of
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.measurements import Measurement
from tunectl.core.objective import Objective
from tunectl.core.records import PlannedTrial, State
from tunectl.procedures.procedure import Conclusion, Options, Procedure, SweepSpec, Wish

BASELINE = math.log(10)
OBJECTIVE = Objective("valid/error_rate", "minimize")

World = Callable[[Mapping[str, Any], int], Mapping[str, Any]]
"""What becomes of a trial: from its hyperparameters and its repeat to changes of `made_up`'s keywords."""


def spec_with(record: type[Options], *, options: Mapping[str, Any] | None = None, **changes: Any) -> SweepSpec[Options]:
    values = {"optimizer": "momentum", "learning_rate": 0.1, "batch_size": 64}
    content = {"values": values, "objective": OBJECTIVE, "max_train_steps": 3000, "eval_every": 100}
    return SweepSpec(options=record(**(options or {})), **{**content, **changes})


def descent(updates: int, seed: int, end: float = 0.01) -> np.ndarray:
    """A noisy exponential fall from the baseline to `end`."""
    noise = np.random.default_rng(seed).normal(0, 0.02, updates)
    falling = end + (BASELINE - end) * np.exp(-np.arange(updates) / (updates / 8))
    return np.asarray(falling * np.exp(noise))


def blow_up(updates: int, seed: int, at: int) -> np.ndarray:
    """A fall that ends at the loss of a constant prediction: the network dies at update `at`, without a NaN."""
    loss = descent(updates, seed)
    loss[at : at + 10] = 30.0
    loss[at + 10 :] = BASELINE + np.random.default_rng(seed).normal(0, 0.01, max(0, updates - at - 10))
    return loss


def made_up(
    wish: Wish,
    values: Mapping[str, Any],
    trial: int,
    *,
    value: float = 0.05,
    start: float | None = 0.9,
    valid_loss: float | None = None,
    state: State = "completed",
    reason: str = "",
    loss: np.ndarray | None = None,
    evaluated: Callable[[int], float] | None = None,
    norms: np.ndarray | None = None,
    clip: float | None = None,
    perfect_at: int | None = None,
    baseline: float | None = BASELINE,
    longest: int = 400,
    infeasible_step: int | None = None,
    curvature: Callable[[int], Mapping[str, float]] | None = None,
    step_seconds: float | None = None,
    train_examples: int | None = None,
) -> Run:
    # Shorter than what was asked for, which the procedures do not look at: detection takes its time.
    updates = min(*(wish.training.get(name, longest) for name in ("max_train_steps", "stop_after")), longest)
    loss = descent(updates, trial) if loss is None else loss
    every = wish.training.get("eval_every", 100)
    places = sorted({*range(0, len(loss) + 1, every), len(loss)} - ({0} if start is None else set()))
    norms = np.full(len(loss), 1.0) if norms is None else norms
    measurements = tuple(
        Measurement(
            place,
            {
                "train/loss": float(evaluated(place) if evaluated else loss[max(0, min(place, len(loss) - 1))]),
                "train/error_rate": 0.0 if perfect_at is not None and place >= perfect_at else 0.3,
                "valid/error_rate": start if place == 0 and start is not None else value,
                **({} if valid_loss is None else {"valid/loss": valid_loss}),
            },
        )
        for place in places
    )
    if curvature is not None and wish.curvature is not None:
        at = [step for step in wish.curvature.at if infeasible_step is None or step <= infeasible_step]
        measurements += tuple(CURVATURE.measurement(step, curvature(step), 0.0) for step in at)
    return Run(
        PlannedTrial(trial, wish.phase, wish.point, wish.repeat, (), dict(values), 0, "sweep", dict(wish.training)),
        state,
        reason,
        infeasible_step,
        best_value=value if math.isfinite(value) else None,
        best_step=len(loss),
        baseline_loss=baseline,
        train_seconds=None if step_seconds is None else step_seconds * len(loss),
        final_step=len(loss),
        train_examples=train_examples,
        curves=curves_of(measurements),
        updates=UpdateSeries(
            loss,
            norms,
            np.full(len(loss), float(values["learning_rate"])),
            norms > (math.inf if clip is None else clip),
        ),
    )


def rates_in(asked: Iterable[Wish], phase: int) -> list[float]:
    """The learning rates of the trials of a phase, each once, in order."""
    return sorted({as_number(wish.changes["learning_rate"]) for wish in asked if wish.phase == phase})


def play_in_pieces(
    procedure: Procedure[Options], sweep: SweepSpec[Options], world: World, seed: int
) -> tuple[list[Wish], Conclusion]:
    """As `play`, but it is asked again whenever some of the trials have ended, whichever, as after a kill."""
    generator = np.random.default_rng(seed)
    return play(procedure, sweep, world, lambda new: generator.choice(len(new), -(-len(new) // 2), replace=False))


def play(
    procedure: Procedure[Options],
    sweep: SweepSpec[Options],
    world: World,
    chosen: Callable[[list[Wish]], Iterable[int]] | None = None,
) -> tuple[list[Wish], Conclusion]:
    """Run a procedure to its end in a made-up world; what was asked for first is never taken back.

    `chosen` says which of the new trials end before it is asked again, by their places; all of them without it.
    """
    results: dict[tuple[int, int, int], Run] = {}
    asked: list[Wish] = []
    for _ in range(200):
        wishes = procedure.next_trials(sweep, results)
        new = [wish for wish in wishes if (wish.phase, wish.point, wish.repeat) not in results]
        assert len({(wish.phase, wish.point, wish.repeat) for wish in wishes}) == len(wishes), "each trial once"
        assert {*results} <= {(wish.phase, wish.point, wish.repeat) for wish in wishes}, "nothing is taken back"
        assert all(0 <= wish.phase < len(procedure.phases) for wish in wishes)
        if not new:
            return asked, procedure.conclude(sweep, results)
        for wish in new if chosen is None else [new[place] for place in chosen(new)]:
            values = {name: value for name, value in {**sweep.values, **wish.changes}.items() if value is not None}
            made = made_up(wish, values, len(asked), **world(values, wish.repeat))
            results[wish.phase, wish.point, wish.repeat] = made
            asked.append(wish)
    raise AssertionError("the procedure does not come to its end")
