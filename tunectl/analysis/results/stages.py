"""Which stage of a study is judged: trials of different lengths are never compared with each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunectl.core.records import TrialOutcome, is_ended


def last_complete(trials: Iterable[tuple[int, bool]]) -> int:
    """The last stage of which all trials have ended, by the stage of each and whether it has; else the first one.

    An earlier stage may have trials that have not ended, where their number was raised: the later one can be judged all
    the same.
    """
    complete: dict[int, bool] = {}
    for stage, has_ended in trials:
        complete[stage] = complete.get(stage, True) and has_ended
    return max((stage for stage, ended in complete.items() if ended), default=min(complete, default=0))


def judged_stage(outcomes: Iterable[TrialOutcome]) -> int:
    """The stage whose trials are compared where none is asked for: the last complete one, retrains not counted."""
    return last_complete(
        (item.plan.stage, is_ended(item.state, item.reason)) for item in outcomes if item.plan.trial_kind != "retrain"
    )


def of_stage(outcomes: Iterable[TrialOutcome], stage: int) -> list[TrialOutcome]:
    """The trials of a stage and their retrains, in the order given."""
    return [item for item in outcomes if item.plan.stage == stage]


def of_judged_stage(outcomes: Sequence[TrialOutcome]) -> list[TrialOutcome]:
    """The trials of the judged stage and their retrains; the same again where they are given alone."""
    return of_stage(outcomes, judged_stage(outcomes))
