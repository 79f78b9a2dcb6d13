"""Configurations that are listed, not drawn: grids, and points written by hand. Importing this does not load numpy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from tunectl.core.errors import PathKey, Problem, StudyError
from tunectl.core.records import Scalar
from tunectl.core.wording import counted, got, is_number_as_text, nearest, shown
from tunectl.space.conditions import OTHER, Other
from tunectl.space.derived_values import UncomputableError, add_derived
from tunectl.space.domains import Derived, is_number, same, sameness
from tunectl.space.hyperparameters import Hyperparameter, active, derived_among
from tunectl.space.search_space import SearchSpace, Setting, Study, uncomputable

MOST_TRIALS = 1_000_000

Configuration = tuple[int, int, tuple[float, ...], dict[str, Scalar]]
"""Setting, point, coordinates (none here) and the active hyperparameters."""


def listed_configurations(spec: Study, space: SearchSpace) -> Iterator[Configuration]:
    """The configurations of a grid or of hand-written points, round robin over the settings.

    Raises StudyError where a grid has too many, or a point does not fit the study.
    """
    return _round_robin(_grids(spec, space) if spec.search.sampler == "grid" else _hand_written(spec, space))


def check_count(spec: Study, settings: int) -> None:
    """Raise StudyError where a sampled study has more trials than a plan can have."""
    count = spec.search.trials or 1
    if count * settings > MOST_TRIALS:
        where = "its one setting" if settings == 1 else f"each of {counted(settings, 'setting')}"
        message = f"expected at most {MOST_TRIALS:,} trials in a study, got {count:,} in {where}"
        raise StudyError([spec.problem(("search", "trials"), message)])


def _round_robin(rows: list[list[tuple[int, dict[str, Scalar]]]]) -> Iterator[Configuration]:
    """Takes one (point, configuration) of each setting in turn until there are no more."""
    for group in itertools.zip_longest(*rows):
        for setting, entry in enumerate(group):
            if entry is not None:
                yield setting, entry[0], (), entry[1]


def _grids(spec: Study, space: SearchSpace) -> list[list[tuple[int, dict[str, Scalar]]]]:
    count = sum(_grid_size(space, setting) for setting in space.settings)
    if count > MOST_TRIALS:
        message = (
            f"expected a grid of at most {MOST_TRIALS:,} trials, got {count:,}; use fewer points or sampler: halton"
        )
        raise StudyError([spec.problem(("search",), message)])
    failures: list[UncomputableError] = []
    grids = [list(enumerate(_grid(space, setting, failures))) for setting in space.settings]
    if failures:
        raise uncomputable(spec, failures)
    return grids


def _grid_values(item: Hyperparameter, setting: Setting) -> Sequence[Scalar | Other]:
    if isinstance(item.domain, Derived):
        return [OTHER]
    return [setting.values[item.name]] if item.makes_settings else item.domain.grid()


def _grid(space: SearchSpace, setting: Setting, failures: list[UncomputableError]) -> Iterator[dict[str, Scalar]]:
    """Every combination of grid values in a setting: parents before children, the first name varying slowest.

    Those in which a formula has no value are left out, and their failures noted.
    """
    combinations = space.conditions.combinations(
        space.names, choose=lambda item: _grid_values(item, setting), most=MOST_TRIALS
    )
    for combination in combinations:
        values: dict[str, Scalar] = {
            k: value for k, value in combination.values.items() if not isinstance(value, Other)
        }
        try:
            add_derived(values, derived_among(combination.active.items()))
        except UncomputableError as failure:
            failures.append(failure)
        else:
            yield {name: values[name] for name in space.names if name in values}


def _grid_size(space: SearchSpace, setting: Setting) -> int:
    """The number of combinations, without making them: values that no condition names are one, with a count."""
    choices: dict[PathKey, tuple[list[Scalar | Other], int]] = {}

    def choose(item: Hyperparameter) -> list[Scalar | Other]:
        if item.path not in choices:
            values = _grid_values(item, setting)
            mentioned = {sameness(value) for value in space.conditions.mentioned.get(item.name, ())}
            apart: list[Scalar | Other] = [value for value in values if sameness(value) in mentioned]
            rest = len(values) - len(apart)
            choices[item.path] = (apart + [OTHER] * (rest > 0), rest)
        return choices[item.path][0]

    return sum(
        math.prod(
            choices[combination.active[name].path][1] for name, value in combination.values.items() if value is OTHER
        )
        for combination in space.conditions.combinations(space.names, choose=choose)
    )


def _hand_written(spec: Study, space: SearchSpace) -> list[list[tuple[int, dict[str, Scalar]]]]:
    rows: list[list[tuple[int, dict[str, Scalar]]]] = [[] for _ in space.settings]
    problems: list[Problem] = []
    settings_of = _settings_by_point(space.settings)
    for index, point in enumerate(spec.search.points):
        path: tuple[str | int, ...] = ("search", "points", index)
        wrong = [spec.problem(*problem) for problem in check_point(space.conditions.by_name, point, path)]
        settings = settings_of(point)
        if not wrong and not settings:
            wrong = [spec.problem(path, "no setting of the study has these scientific values")]
        used: set[str] = set()
        for setting in settings if not wrong else ():
            values, missing, failure = _resolve_point(space, setting, point)
            wrong += [
                spec.problem(path, f"expected a value for {key}, which is active here, got none") for key in missing
            ]
            if failure is not None and not missing:
                wrong += [spec.problem(path, f"{name} has no value: {why}") for _, name, why in failure.failures]
            wrong += [spec.problem((*path, name), why) for name, why in _unlike(space, point, values, bool(missing))]
            used.update(values)
            rows[setting.index].append((index, values))
        if not wrong:
            wrong = [
                spec.problem((*path, name), f"{name} is not active in this configuration; leave it out")
                for name in point
                if name not in used
            ]
        problems += dict.fromkeys(wrong)
    if problems:
        raise StudyError(problems)
    return rows


def _settings_by_point(settings: Sequence[Setting]) -> Callable[[Mapping[str, Scalar]], list[Setting]]:
    """A function that returns the settings of a point: those with the same values, as far as the point has them."""
    names = sorted({name for setting in settings for name in setting.values})

    @cache
    def settings_with(given: tuple[tuple[bool, Scalar] | None, ...]) -> list[Setting]:
        point = dict(zip(names, given, strict=True))
        return [
            setting
            for setting in settings
            if all(point[name] in (None, sameness(value)) for name, value in setting.values.items())
        ]

    return lambda point: settings_with(tuple(sameness(point[name]) if name in point else None for name in names))


def check_point(
    by_name: Mapping[str, Sequence[Hyperparameter]], point: Mapping[str, Scalar], path: PathKey
) -> list[tuple[PathKey, str]]:
    """Names that are not in the study and values outside of every alternative, as (path, message)."""
    problems: list[tuple[PathKey, str]] = []
    for name, value in point.items():
        alternatives = by_name.get(name)
        if alternatives is None:
            problems.append(((*path, name), f"the study has no such hyperparameter{nearest(name, by_name)}"))
        elif not any(item.domain.contains(value) for item in alternatives):
            message = f"expected a value in the study's domain of {name}, got {shown(value)}"
            if is_number_as_text(value) and all(_is_numeric(item) for item in alternatives):
                message = f"expected a number, {got(value)}"
            problems.append(((*path, name), message))
    return problems


def _is_numeric(item: Hyperparameter) -> bool:
    return all(map(is_number, item.domain.listed or ()))


def _unlike(
    space: SearchSpace, point: Mapping[str, Scalar], values: Mapping[str, Scalar], lacks: bool
) -> Iterator[tuple[str, str]]:
    """The names of a point whose values are not those of its configuration, with the reason.

    A derived value may be in a point if it is the computed one; where the point `lacks` a value, that is not known.
    """
    for name, value in point.items():
        if name not in values or same(values[name], value):
            continue
        item = active(space.conditions.by_name[name], values)
        if item is None or not isinstance(item.domain, Derived):
            yield name, f"{name} cannot be {shown(value)} in this configuration, because of its `when`"
        elif not lacks and not item.domain.agrees(value, values[name]):
            formula = item.domain.formula.text
            yield name, f"expected {values[name]:.10g}, which is {formula}, got {shown(value)}; leave it out"


def _resolve_point(
    space: SearchSpace, setting: Setting, point: Mapping[str, Scalar]
) -> tuple[dict[str, Scalar], list[str], UncomputableError | None]:
    """The configuration of a point in a setting, the keys of the active hyperparameters that the point lacks, and the
    failure of a formula; where one fails, the configuration is the point.
    """
    missing: list[str] = []

    def choose(item: Hyperparameter) -> Scalar:
        if item.name not in point:
            missing.append(item.key)
        elif item.domain.contains(point[item.name]):
            return item.domain.declared(point[item.name])
        # Any value, to go on looking for problems with.
        return 0 if isinstance(item.domain, Derived) else item.domain.grid()[0]

    try:
        return space.resolve(setting, choose), missing, None
    except UncomputableError as failure:
        return dict(point), missing, failure
