"""`profile`: what the time of a trial goes to, and what would make it shorter: each change is tried.

First the study's own trial is timed in parts. Each change that could save a part of the time is then timed, together
with the trial as it is, TIMES times in turn, and MORE_TIMES again where noise leaves a gain open. In the end those that
helped are timed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.procedures.procedure import Conclusion, Procedure, ProcedureOptions, Results, SweepSpec, Wish, has_all
from tunectl.procedures.profile_conclusion import conclusion
from tunectl.procedures.profile_parts import Parts, parts
from tunectl.procedures.profile_proposals import ALL_OF_THEM, Proposal, TimedChange, helpful, proposals, together

AS_IT_IS, CHANGED, TOGETHER = 0, 1, 2
PHASES = ("the trial as it is", "one change", "all changes that help")

TIMES = 4
"""How often the trial is timed with each change, and without any in between ..."""

MORE_TIMES = 4
"""... and how often again, where the noise leaves open whether a change helps."""

STEPS = 20_000
TRACED = 5
"""The number of updates in the trace: more would make a file that is slow to look at."""


@dataclass(frozen=True)
class ProfileOptions(ProcedureOptions):
    """The options of `profile`: the largest number of updates that are timed in a trial."""

    steps: int | None = None


Profile = SweepSpec[ProfileOptions]


def _wish(spec: Profile, phase: int, point: int, repeat: int, changes: Sequence[Proposal] = ()) -> Wish:
    training = {"max_train_steps": spec.options.steps or STEPS}
    if (phase, repeat) == (AS_IT_IS, 0):
        training["trace_updates"] = TRACED
    values = {name: value for change in changes for name, value in change.hyperparameters.items()}
    for change in changes:
        training |= change.training
    return Wish(phase, point, repeat, values, training, trial_kind="profile")


def _as_it_is(results: Results) -> Parts | None:
    """What the first trial measured, None where it is infeasible."""
    return parts(results[AS_IT_IS, 0, 0])


def _rounds(spec: Profile, results: Results, first: int, end: int) -> list[Wish]:
    """The trials with one change each, and one without any before them but the first time, in turn."""
    known = _as_it_is(results)
    offered = proposals(spec, known) if known is not None else []
    found: list[Wish] = []
    for repeat in range(first, end if offered else first):
        if repeat:
            found.append(_wish(spec, AS_IT_IS, 0, repeat))
        found += [_wish(spec, CHANGED, point, repeat, [change]) for point, change in enumerate(offered)]
    return found


def tried(spec: Profile, results: Results, times: int = TIMES + MORE_TIMES) -> list[TimedChange]:
    """What each change brought in its first `times` trials, for those that were tried."""
    known = _as_it_is(results)
    if known is None:
        return []
    early = {key: run for key, run in results.items() if key[2] < times}
    without = _all_parts(early, AS_IT_IS, 0)
    return [
        TimedChange(spec, change, without, _all_parts(early, CHANGED, point), _reason(early, CHANGED, point))
        for point, change in enumerate(proposals(spec, known))
    ]


def _all_parts(results: Results, phase: int, point: int) -> list[Parts]:
    runs = [results[key] for key in sorted(results) if key[:2] == (phase, point)]
    return [found for run in runs if (found := parts(run)) is not None]


def _reason(results: Results, phase: int, point: int) -> str:
    runs = [results[key] for key in sorted(results) if key[:2] == (phase, point)]
    return next((run.reason or run.state for run in runs if not run.feasible), "")


def next_trials(spec: Profile, results: Results) -> Sequence[Wish]:
    """The trial as it is; then in turn with each change; then, where several help, with all of these."""
    wishes = [_wish(spec, AS_IT_IS, 0, 0)]
    if has_all(results, wishes):
        wishes += _rounds(spec, results, 0, TIMES)
    if has_all(results, wishes) and any(item.is_open for item in tried(spec, results, TIMES)):
        wishes += _rounds(spec, results, TIMES, TIMES + MORE_TIMES)
    if has_all(results, wishes):
        joined = together(helpful(tried(spec, results)))
        if len(joined) > 1:
            wishes += [_wish(spec, TOGETHER, 0, repeat, joined) for repeat in range(TIMES)]
    return wishes


def conclude(spec: Profile, results: Results) -> Conclusion:
    """The parts of the time, and the changes by what they bring."""
    known = _all_parts(results, AS_IT_IS, 0)
    if not known:
        reason = _reason(results, AS_IT_IS, 0)
        return Conclusion(f"The trial cannot be timed: {reason}.", {"seconds_per_step": None})
    found = tried(spec, results)
    joined = together(helpful(found))
    in_all = None
    if len(joined) > 1:
        reason = _reason(results, TOGETHER, 0)
        in_all = TimedChange(spec, ALL_OF_THEM, known, _all_parts(results, TOGETHER, 0), reason)
    return conclusion(spec, known, found, in_all)


PROFILE = Procedure(
    "profile",
    frozenset({"learning_rate"}),
    PHASES,
    ProfileOptions,
    next_trials,
    conclude,
    lambda _spec: [],
    one_at_a_time=True,
)
