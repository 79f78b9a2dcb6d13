"""The good trials, by which findings about training are decided, and how many of them must show a thing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change
from tunectl.analysis.results.runs import Run
from tunectl.core.records import Scalar
from tunectl.core.user_code import is_code
from tunectl.core.wording import counted
from tunectl.language.configuration import FIELDS
from tunectl.language.piecewise import factor_at, read_points
from tunectl.space.domains import FixedValue

GOOD_PART = 0.25
FEWEST_GOOD = 3
"""The good trials of a setting are its best quarter, but at least this many: the playbook looks at the curves of "at
least the best few trials", and the other trials of a wide search are expected to train badly.
"""

MOST_GOOD = 50
"""More trials would not change the result."""

DECAYED = 0.1
"""A schedule decays to zero if it ends at this part of the base rate or below."""


def good_trials(evidence: StudyEvidence) -> Mapping[int, tuple[Run, ...]]:
    """The good trials of each setting that has a feasible one, the best first.

    With a target, trials that never reached it may be among them, where too few did.
    """
    found = {}
    for setting, runs in evidence.by_setting.items():
        ranked = evidence.closest_first(runs)
        count = min(max(FEWEST_GOOD, math.ceil(GOOD_PART * len(ranked))), MOST_GOOD)
        if ranked:
            found[setting] = tuple(ranked[:count])
    return found


def most(showing: int, good: int) -> bool:
    """Whether more than half of the good trials show something."""
    return 2 * showing > good


@dataclass(frozen=True, eq=False)
class Shown:
    """The settings in which most of the good trials show something; `runs` are those that show it, the clearest first.

    `good` counts the good trials of these settings.
    """

    settings: tuple[int, ...]
    runs: tuple[Run, ...]
    good: int

    @property
    def trials(self) -> tuple[int, ...]:
        """The ids of the trials that show it."""
        return tuple(run.plan.trial for run in self.runs)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of trials, as a finding lists them."""
        return {"trials_showing": len(self.runs), "good_trials": self.good}

    @property
    def sureness(self) -> str:
        """`3 of 4 good trials`."""
        return f"{len(self.runs)} of {counted(self.good, 'good trial')}"

    @property
    def them(self) -> str:
        """`most good trials`, `all good trials`, or `the only good trial`."""
        if self.good == 1:
            return "the only good trial"
        return "all good trials" if len(self.runs) == self.good else "most good trials"

    def they(self, one: str, many: str) -> str:
        """The verb that goes with `them`: singular for one trial, else plural."""
        return one if self.good == 1 else many


def shown_by_most(good: Mapping[int, Sequence[Run]], strength: Mapping[int, float]) -> Shown | None:
    """The settings in which most of the `good` trials have a `strength`, by id: how clearly they show a thing."""
    settings, runs, count = [], [], 0
    for setting, own in good.items():
        showing = [run for run in own if run.plan.trial in strength]
        if showing and most(len(showing), len(own)):
            settings.append(setting)
            runs += showing
            count += len(own)
    if not settings:
        return None
    runs.sort(key=lambda run: (-strength[run.plan.trial], run.plan.trial))
    return Shown(tuple(settings), tuple(runs), count)


def in_settings(evidence: StudyEvidence, settings: Sequence[int]) -> str:
    """` (optimizer=adam)` where the study has other settings too, else nothing."""
    if len(evidence.settings) < 2 or len(settings) == len(evidence.by_setting):
        return ""
    names = [evidence.setting_name(setting) for setting in settings[:3]]
    more = f" and {len(settings) - 3} more settings" if len(settings) > 3 else ""
    return f" ({'; '.join(names)}{more})"


def decays_to_zero(values: Mapping[str, Scalar], max_train_steps: int) -> bool:
    """Whether the schedule of a trial with these hyperparameters ends near a rate of zero."""
    schedule = values.get("schedule", "constant")
    if schedule in ("linear", "cosine", "wsd"):
        return float(values.get("end_learning_rate_factor", 0.0)) <= DECAYED
    if schedule == "step":
        every = int(values.get("decay_steps") or max(math.ceil(max_train_steps / 3), 1))
        drops = max(max_train_steps - 1, 0) // every
        return float(values.get("decay_factor", 0.1)) ** drops <= DECAYED
    return schedule == "piecewise" and _ends_near_zero(values, max_train_steps)


def _ends_near_zero(values: Mapping[str, Scalar], max_train_steps: int) -> bool:
    try:
        points = read_points(str(values.get("piecewise_points")))
    except ValueError:  # own code has a schedule of this name
        return False
    linear = values.get("piecewise_shape") == "linear"
    return factor_at(points, max(max_train_steps - 1, 0), max_train_steps, linear=linear) <= DECAYED


def has_decayed(run: Run, max_train_steps: int) -> bool:
    """Whether a trial ended near a rate of zero: by its schedule, or with a function of the study's own as its
    schedule by the rates of its updates.
    """
    if not is_code(run.plan.trained_values.get("schedule")):
        return decays_to_zero(run.plan.trained_values, max_train_steps)
    rates = run.updates.learning_rate
    return len(rates) > 0 and bool(rates[-1] <= DECAYED * rates.max())


def sweep_command(evidence: StudyEvidence, procedure: str, run: Run) -> str:
    """The command of a procedure for this study, with the other hyperparameters' values taken from a trial."""
    others_vary = any(axis.hyperparameter.name != "learning_rate" for axis in evidence.axes)
    values = ["--values-from", f"{evidence.folder}/{run.plan.trial}"] if evidence.folder and others_vary else []
    return evidence.study_command(procedure, *values)


def fixed_field(evidence: StudyEvidence, name: str, value: Scalar, reason: str) -> Change | None:
    """The change that gives a field of the training configuration another fixed value; None where the study varies it,
    or has several alternatives of it.
    """
    known = evidence.spec.alternatives(name)
    if name not in FIELDS or len(known) > 1 or (known and not isinstance(known[0].domain, FixedValue)):
        return None
    return Change(("hyperparameters", name), value, reason)
