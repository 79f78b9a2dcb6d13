"""What a procedure is: which trials come next, and what all of them say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from tunectl.analysis.figures.figures import Figure
from tunectl.analysis.results.runs import Run
from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.objective import Objective
from tunectl.core.records import Scalar, TrialKind

MOST_COVERED = 20
"""A grid of learning rates is trained in each setting: more settings than this are more likely a mistake."""

SEEDS = 3
"""The number of seeds behind every judgement: outcomes near the edge of stability are chaotic."""


CONSTANT_RATE: Mapping[str, Scalar | None] = {
    "schedule": "constant",
    "decay_steps": None,
    "decay_factor": None,
    "end_learning_rate_factor": None,
    "cooldown_share": None,
    "cooldown_shape": None,
    "piecewise_points": None,
    "piecewise_shape": None,
}
"""Changes that leave a trial without a schedule; its warmup stays."""


@dataclass(frozen=True)
class ProcedureOptions:
    """The options of a procedure. Each procedure has its own record: a frozen dataclass derived from this one.

    It has one field for each option of the command, whose default holds where the user does not give the option.
    """

    def to_json(self) -> dict[str, Any]:
        """The options as procedure.json keeps them; a folder goes on only with the same ones."""
        return asdict(self)


Options = TypeVar("Options", bound=ProcedureOptions)
Options_co = TypeVar("Options_co", bound=ProcedureOptions, covariant=True)


@dataclass(frozen=True, slots=True)
class SweepSetting:
    """One of the settings that a procedure covers: its name in words, "" for the only one, and its whole configuration.

    `learning_rates` is the study's own range of the learning rate in it, None where it has none. `points` are the
    values of all hyperparameters that the study samples, one configuration after the other, for a procedure that tunes
    them all; () where it samples nothing but what the procedure sweeps.
    """

    name: str
    values: Mapping[str, Scalar]
    learning_rates: tuple[float, float] | None = None
    points: Sequence[Mapping[str, Scalar]] = ()


@dataclass(frozen=True)
class SweepSpec(Generic[Options_co]):
    """What a procedure works on: one configuration of a study, each hyperparameter with one value, and its options.

    `init_scale` is the scale of the initial weights: the study's, else the factory's default, None where there is none.
    `values` are the hyperparameters that hold unless a trial changes them; `off` are the values at which
    regularisation and augmentation are off, by name. `learning_rates` is the study's own range of the learning rate,
    None where it has none. `options` are the command's own; `before` is the conclusion.json of the procedure that
    this one goes on from, {} without one; `beside` are those of other procedures on the same
    configuration, by name, which a verdict may be compared with. `train_examples` is on how many examples train is
    evaluated, None for as many as `valid` has. `own_code`: the user's own code trains, which evaluates when it does and
    has a schedule of its own. `curvature` is how the study measures it, None where it does not. `settings` are
    those of the scientific hyperparameters, for a procedure that covers all of them, and `values` then those of the
    first; else (). `objective` is the study's without its target, and the best values of runs are those of the metric:
    steps to a target have no median or mean where some seeds never reach it. `target` is the study's, None without one.
    `batch_sizes` are the smallest and the largest batch size of the study, where it has several.
    """

    values: Mapping[str, Scalar]
    objective: Objective
    max_train_steps: int
    eval_every: int
    options: Options_co
    off: Mapping[str, Scalar] = field(default_factory=dict)
    learning_rates: tuple[float, float] | None = None
    init_scale: float | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    own_code: bool = False
    train_examples: int | None = None
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    curvature: CurvatureSettings | None = None
    settings: Sequence[SweepSetting] = ()
    batch_sizes: tuple[float, float] | None = None
    target: float | None = None

    @property
    def prepended_warmup(self) -> int:
        """How many updates come before the study's own schedule."""
        within = self.own_code or self.values.get("warmup", "prepend") == "within"
        return 0 if within else int(self.values.get("warmup_steps", 0))


def covered_settings(spec: SweepSpec[Any]) -> list[SweepSetting]:
    """The settings that a procedure covers; one without a name where the spec has none."""
    return list(spec.settings) or [SweepSetting("", spec.values, spec.learning_rates)]


def changes_to(spec: SweepSpec[Any], setting: SweepSetting) -> dict[str, Scalar | None]:
    """The changes of the sweep's values that lead to a setting; None leaves out what it does not have."""
    missing: dict[str, Scalar | None] = dict.fromkeys(name for name in spec.values if name not in setting.values)
    return missing | {name: value for name, value in setting.values.items() if spec.values.get(name) != value}


def settings_problems(spec: SweepSpec[Any]) -> list[str]:
    """A line where there are more settings than a procedure covers."""
    count = len(covered_settings(spec))
    if count <= MOST_COVERED:
        return []
    return [
        f"the scientific hyperparameters make {count} settings, and at most {MOST_COVERED} are trained: choose some of "
        "them by --at NAME=VALUE"
    ]


@dataclass(frozen=True, slots=True)
class Wish:
    """A trial that a procedure wants, known by (phase, point, repeat).

    `changes` replace hyperparameters of the sweep, None leaves one out. `training` replaces fields of the study's
    `training:` (max_train_steps, eval_every, keep_checkpoints, train_examples); its `stop_after` and `eval_from` say
    which part is trained and evaluated. Wishes with the same `repeat` share their seed, so that trials that are
    compared differ in nothing else. `trial_kind` is `throughput` for one that only measures speed. `curvature` is how
    its curvature is measured, None where it is not: the study's own settings do not hold for trials of procedures.
    Without `curvature_needed` a model whose curvature cannot be measured is trained all the same.
    """

    phase: int
    point: int
    repeat: int
    changes: Mapping[str, Scalar | None]
    training: Mapping[str, int] = field(default_factory=dict)
    trial_kind: TrialKind = "sweep"
    curvature: CurvatureSettings | None = None
    curvature_needed: bool = True


AnySweep = SweepSpec[ProcedureOptions]
"""What any procedure works on, for what does not read its options."""

Results = Mapping[tuple[int, int, int], Run]
"""The trials that have ended, by (phase, point, repeat)."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a procedure found.

    `answers` are the keys of conclusion.json, None where there is no answer; `verdict` is one or two sentences.
    `header` and `rows` are the table that is printed and kept; `figures` are drawn. `advice` are the lines of YAML to
    adopt, "" where there is nothing to.
    """

    verdict: str
    answers: Mapping[str, Any]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    figures: Sequence[Figure] = ()
    advice: str = ""


@dataclass(frozen=True, slots=True)
class OwnCodeNeeds:
    """What a study of own code must have for a procedure: these hyperparameters and these metrics."""

    hyperparameters: tuple[str, ...]
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Procedure(Generic[Options]):
    """A procedure by its record of options and its two functions.

    A command makes the record from what the user gave and runs the procedure on it:

        request = ProcedureRequest(RangeTestOptions(low=1e-6, steps=400), values)
        run_procedure(study, request, ...)

    `PROCEDURES` in known_procedures has all of them.

    `next_trials` returns every trial that the results so far call for, including those of earlier calls; when it
    returns no new one, `conclude` is called. Both depend on nothing but their arguments. `phases` says in a few words
    what the trials of each phase are for. `swept` are the hyperparameters that the procedure sets by itself. `problems`
    returns a line for each thing that is wrong with the options, before anything is created. `own_code` is what it
    needs to work on own code, None where it needs tunectl's own training loop. With `one_at_a_time` no two trials run
    at once, since each would slow the other down. `trainings` returns the least and the most trainings that it usually
    takes, None where it is a few short ones, and `longest` the number of steps of the longest one, None for that of the
    study. With `all_settings` it covers every setting of the study, not one configuration; with `tunes_all` it also
    sets every other hyperparameter that the study samples, to the values in the setting's `points`. `by_metric`: it
    judges by what runs reach, also where the study counts the steps to a target.
    """

    name: str
    swept: frozenset[str]
    phases: Sequence[str]
    options: type[Options]
    next_trials: Callable[[SweepSpec[Options], Results], Sequence[Wish]]
    conclude: Callable[[SweepSpec[Options], Results], Conclusion]
    problems: Callable[[SweepSpec[Options]], Sequence[str]]
    own_code: OwnCodeNeeds | None = None
    one_at_a_time: bool = False
    trainings: Callable[[SweepSpec[Options]], tuple[int, int] | None] = lambda _spec: None
    longest: Callable[[SweepSpec[Options]], int | None] = lambda _spec: None
    all_settings: bool = False
    tunes_all: bool = False
    by_metric: bool = False


def fewest_seeds(points: int) -> int:
    """The fewest trainings that this number of points takes: a majority of the seeds of each, see `by_majority`."""
    return (SEEDS // 2 + 1) * points


def repeats(
    phase: int,
    point: int,
    changes: Mapping[str, Scalar | None],
    training: Mapping[str, int] | None = None,
    seeds: int = SEEDS,
) -> list[Wish]:
    """The same trial under several seeds."""
    return [Wish(phase, point, repeat, changes, training or {}) for repeat in range(seeds)]


def runs_of(results: Results, phase: int) -> dict[int, list[Run]]:
    """The runs of a phase by point, each point's by repeat."""
    found: dict[int, list[Run]] = {}
    for key in sorted(results):
        if key[0] == phase:
            found.setdefault(key[1], []).append(results[key])
    return found


def has_all(results: Results, wishes: Sequence[Wish]) -> bool:
    """Whether every one of these trials has ended."""
    return all((wish.phase, wish.point, wish.repeat) in results for wish in wishes)


def by_majority(results: Results, wishes: Sequence[Wish]) -> list[Wish]:
    """These trials without the seeds that can change no judgement by majority.

    Where most of SEEDS seeds are infeasible already, the point is infeasible whatever the others do. So a majority of
    the seeds run first, and the others follow once these have ended.
    """
    most = SEEDS // 2 + 1
    first = [wish for wish in wishes if wish.repeat < most]
    if not has_all(results, first):
        return first
    kept = {(wish.phase, wish.point) for wish in first if results[wish.phase, wish.point, wish.repeat].feasible}
    return [wish for wish in wishes if wish.repeat < most or (wish.phase, wish.point) in kept]


def majority(judgements: Sequence[bool]) -> bool:
    """Whether more than half of them hold."""
    return 2 * sum(judgements) > len(judgements)
