"""The search space: settings, the coordinates of sampled hyperparameters, and the configurations at its points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tunectl.core.errors import PathKey, Problem, StudyError
from tunectl.core.records import Scalar
from tunectl.space.conditions import Combination, Conditions, Other
from tunectl.space.derived_values import UncomputableError, add_derived, failures_by_path
from tunectl.space.domains import Derived
from tunectl.space.hyperparameters import Hyperparameter, derived_among

MOST_SETTINGS = 1_000

Sampler = Literal["halton", "random", "grid", "points", "bayesian"]


@dataclass(frozen=True, slots=True)
class Stage:
    """An entry of `search.promote`: the best `keep` trials of each setting of the stage before it are trained again
    from scratch, for `max_train_steps`.

    `eval_every` None: as `training` says. `despite_boundary`: also where the best trials crowd the end of a range.
    """

    keep: int
    max_train_steps: int
    eval_every: int | None = None
    despite_boundary: bool = False


@dataclass(frozen=True, slots=True)
class StopEarly:
    """`search.stop_early`: trials of the search whose objective is worse than that of others are stopped.

    A trial is stopped by `rule` at an evaluation (see analysis.search.median_rule), after the part `grace` of its
    steps, where it can be compared with at least `min_trials` others. Only trials of one setting, length and schedule
    are compared, which also agree in the hyperparameters `same` (None: not given). The default of `grace` is the one at
    which scripts/planted_early_stopping.py never sees the eventual best trial stopped.
    """

    rule: Literal["median"]
    grace: float = 0.5
    min_trials: int = 5
    same: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class SearchSection:
    """`search:`. `trials` counts trials per setting (None for grid and points); `points` are hand-written
    configurations; `after` is the folder of the study whose trials the sampler bayesian starts from, "" for others.
    `promote` has the stages after the first one. `stop_early` None: every trial trains to its end.
    """

    sampler: Sampler = "halton"
    trials: int | None = None
    seed: int = 0
    points: tuple[Mapping[str, Scalar], ...] = ()
    after: str = ""
    promote: tuple[Stage, ...] = ()
    stop_early: StopEarly | None = None


class Study(Protocol):
    """What the search space needs of a study."""

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """Its hyperparameters, in the order of the file."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, each once."""
        ...

    @property
    def search(self) -> SearchSection:
        """How it is sampled."""
        ...

    @property
    def seed(self) -> int:
        """`training.seed`, from which the seeds of trials come."""
        ...

    @property
    def first_seed(self) -> int | None:
        """The seed of trial 0 where it does not come from `training.seed`."""
        ...

    def problem(self, path: PathKey, message: str) -> Problem:
        """A problem with what is at `path` in the file."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """One combination of the scientific values that make settings; `values` are those that are active in it."""

    index: int
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What a study samples from.

    `order` lists the names with parents before children; `coordinates` gives the column in the unit cube of each
    sampled hyperparameter, by its path; the cube has `dimensions` columns.
    """

    names: tuple[str, ...]
    order: tuple[str, ...]
    conditions: Conditions
    settings: tuple[Setting, ...]
    coordinates: Mapping[PathKey, int]
    dimensions: int

    def configuration(self, setting: Setting, coordinates: Sequence[float]) -> dict[str, Scalar]:
        """The active hyperparameters of a point of the unit cube in a setting, in the order of the study."""

        def choose(item: Hyperparameter) -> Scalar:
            return item.sampled_domain.from_unit(coordinates[self.coordinates[item.path]])

        return self.resolve(setting, choose)

    def resolve(self, setting: Setting, choose: Callable[[Hyperparameter], Scalar]) -> dict[str, Scalar]:
        """The active hyperparameters in a setting, in the order of the study; `choose` gives the sampled values.

        Raises UncomputableError where a formula has no value.
        """
        values, derived = self._chosen(setting, choose)
        add_derived(values, derived_among(derived))
        return {name: values[name] for name in self.names if name in values}

    def without_formulas(self, setting: Setting, choose: Callable[[Hyperparameter], Scalar]) -> dict[str, Scalar]:
        """The same without the values that formulas compute."""
        values, _ = self._chosen(setting, choose)
        return {name: values[name] for name in self.names if name in values}

    def _chosen(
        self, setting: Setting, choose: Callable[[Hyperparameter], Scalar]
    ) -> tuple[dict[str, Scalar], list[tuple[str, Hyperparameter]]]:
        """The values but those of formulas, and the active hyperparameters that have one."""
        combination = Combination()
        derived: list[tuple[str, Hyperparameter]] = []
        for name in self.order:
            for item in self.conditions.by_name[name]:
                if item.when and not combination.holds(item):
                    continue
                if isinstance(item.domain, Derived):
                    derived.append((name, item))
                elif not item.varies:
                    combination.values[name] = item.domain.grid()[0]
                elif item.makes_settings:
                    combination.values[name] = setting.values[name]
                else:
                    combination.values[name] = choose(item)
                break
        return combination.values, derived  # type: ignore[return-value]


def uncomputable(spec: Study, failures: Sequence[UncomputableError]) -> StudyError:
    """The error for planned trials in which a formula has no value."""
    return StudyError([spec.problem(path, message) for path, message in failures_by_path(failures)])


def search_space(spec: Study) -> SearchSpace:
    """The search space of a checked study."""
    conditions = Conditions(spec.hyperparameters)
    coordinates = _share_coordinates(spec, conditions)
    return SearchSpace(
        names=spec.names,
        order=tuple(conditions.ancestors(spec.names)),
        conditions=conditions,
        settings=_settings(spec, conditions),
        coordinates=coordinates,
        dimensions=max(coordinates.values(), default=-1) + 1,
    )


def _settings(spec: Study, conditions: Conditions) -> tuple[Setting, ...]:
    """Every combination of scientific values, the study's first name varying slowest."""
    makers = [name for name in spec.names if any(item.makes_settings for item in conditions.by_name[name])]

    def values(item: Hyperparameter) -> Sequence[Scalar]:
        # A sampled alternative makes no settings: any one value does.
        return item.domain.listed or (0,) if item.makes_settings or not item.varies else (0,)

    found: list[dict[str, tuple[int, Scalar]]] = []
    for combination in conditions.combinations(makers, choose=values):
        chosen = [item for name, item in combination.active.items() if name in makers and item.makes_settings]
        found.append({item.name: _numbered(values(item), combination.values[item.name]) for item in chosen})
        if len(found) > MOST_SETTINGS:
            message = (
                f"the scientific values make more than {MOST_SETTINGS:,} settings; "
                "use fewer values, or mark some of them sampled: true"
            )
            raise StudyError([spec.problem(("hyperparameters", makers[0]), message)])
    found.sort(key=lambda setting: [setting[name][0] if name in setting else -1 for name in makers])
    return tuple(
        Setting(index, {name: value for name, (_, value) in setting.items()}) for index, setting in enumerate(found)
    )


def _numbered(values: Sequence[Scalar], value: Scalar | Other) -> tuple[int, Scalar]:
    """The value and its place in the set; `list.index` would take true for 1."""
    return next((index, item) for index, item in enumerate(values) if item is value)


def _share_coordinates(spec: Study, conditions: Conditions) -> dict[PathKey, int]:
    """A column for each sampled hyperparameter: those that can never be active together may share one.

    Sets of values and scientific ones come first and get the smallest primes; then the order of the study. Each gets
    the first column that no other has with which it can be active (greedy colouring).
    """
    sampled = [item for item in spec.hyperparameters if item.has_coordinate]
    sampled.sort(key=lambda item: item.domain.is_ordered and item.role != "scientific")
    columns: dict[PathKey, int] = {}
    placed: list[Hyperparameter] = []
    for item in sampled:
        taken = {columns[other.path] for other in placed if conditions.together(item, other)}
        columns[item.path] = next(column for column in range(len(placed) + 1) if column not in taken)
        placed.append(item)
    return columns
