"""Configurations that are listed rather than drawn: grids, and points written by hand. Importing it loads no numpy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from tunectl.core.errors import Problem, StudyError
from tunectl.core.records import Scalar
from tunectl.sampling.space import SearchSpace, Setting, grid_values
from tunectl.spec.conditions import can_take
from tunectl.spec.hyperparameters import same
from tunectl.spec.model import FixedValue, Hyperparameter, Range, StudySpec
from tunectl.spec.wording import nearest, shown

MOST_TRIALS = 1_000_000

Configuration = tuple[int, int, tuple[float, ...], dict[str, Scalar]]
"""Setting, point, coordinates (none here) and the active hyperparameters."""


def listed_configurations(spec: StudySpec, space: SearchSpace) -> Iterator[Configuration]:
    """The configurations of a grid or of hand-written points, round robin over the settings.

    Raises StudyError where a grid has too many, or a point does not fit the study.
    """
    return _round_robin(_grids(spec, space) if spec.search.sampler == "grid" else _hand_written(spec, space))


def check_count(spec: StudySpec, settings: int) -> None:
    """Raises StudyError where a sampled study asks for more trials than a plan holds."""
    count = spec.search.trials or 1
    if count * settings > MOST_TRIALS:
        message = f"a study has at most {MOST_TRIALS:,} trials, found {count:,} in each of {settings:,} settings"
        raise StudyError([spec.problem(("search", "trials"), message)])


def _round_robin(rows: list[list[tuple[int, dict[str, Scalar]]]]) -> Iterator[Configuration]:
    """Takes one (point, configuration) of each setting in turn until all are used up."""
    for group in itertools.zip_longest(*rows):
        for setting, entry in enumerate(group):
            if entry is not None:
                yield setting, entry[0], (), entry[1]


def _grids(spec: StudySpec, space: SearchSpace) -> list[list[tuple[int, dict[str, Scalar]]]]:
    total = 0
    grids = []
    for setting in space.settings:
        rows: list[tuple[int, dict[str, Scalar]]] = []
        for values in _grid(space, setting):
            rows.append((len(rows), values))
            total += 1
            if total > MOST_TRIALS:
                message = f"a study has at most {MOST_TRIALS:,} trials, and this grid has more; use fewer points or sampler: halton"
                raise StudyError([spec.problem(("search",), message)])
        grids.append(rows)
    return grids


def _grid(space: SearchSpace, setting: Setting) -> Iterator[dict[str, Scalar]]:
    """Every combination of the grid values that are active in a setting, the study's first name varying slowest."""

    def values(item: Hyperparameter) -> list[Scalar]:
        if item.makes_settings:
            return [setting.values[item.name]]
        return grid_values(item.domain)

    # An odometer over the sampled names: what is active may change with the values of parents, so each combination is resolved on its own.
    pending: list[list[tuple[str, int]]] = [[]]
    while pending:
        choices = dict(pending.pop())
        used: list[tuple[str, int, int]] = []

        def choose(
            item: Hyperparameter, choices: dict[str, int] = choices, used: list[tuple[str, int, int]] = used
        ) -> Scalar:
            options = values(item)
            index = choices.get(item.key, 0)
            used.append((item.key, index, len(options)))
            return options[index]

        yield space.resolve(setting, choose)
        for depth in range(len(used)):
            key, index, count = used[depth]
            # The first combination below each prefix sends off its siblings; later ones only their own continuation.
            if key not in choices:
                prefix = [(name, at) for name, at, _ in used[:depth]]
                pending += [[*prefix, (key, other)] for other in range(count - 1, index, -1)]


def _hand_written(spec: StudySpec, space: SearchSpace) -> list[list[tuple[int, dict[str, Scalar]]]]:
    rows: list[list[tuple[int, dict[str, Scalar]]]] = [[] for _ in space.settings]
    problems: list[Problem] = []
    for index, point in enumerate(spec.search.points):
        path: tuple[str | int, ...] = ("search", "points", index)
        found = _check_names(spec, space, point, path)
        settings = [
            setting
            for setting in space.settings
            if all(name not in point or same(point[name], value) for name, value in setting.values.items())
        ]
        if not found and not settings:
            found = [spec.problem(path, "no setting of the study has these scientific values")]
        used: set[str] = set()
        for setting in settings if not found else ():
            values, missing = _resolve_point(space, setting, point, used)
            found += [spec.problem(path, f"a value for {key} is due where it is active, found none") for key in missing]
            rows[setting.index].append((index, values))
        if not found:
            found = [
                spec.problem((*path, name), f"{name} is not active in this configuration; leave it out")
                for name in point
                if name not in used
            ]
        problems += dict.fromkeys(found)
    if problems:
        raise StudyError(problems)
    return rows


def _check_names(
    spec: StudySpec, space: SearchSpace, point: Mapping[str, Scalar], path: tuple[str | int, ...]
) -> list[Problem]:
    problems = []
    for name, value in point.items():
        alternatives = space.conditions.by_name.get(name)
        if alternatives is None:
            problems.append(
                spec.problem((*path, name), f"the study has no such hyperparameter{nearest(name, space.names)}")
            )
        elif not any(_within(item, value) for item in alternatives):
            problems.append(
                spec.problem(
                    (*path, name), f"the value lies outside of what the study declares for {name}, found {shown(value)}"
                )
            )
    return problems


def _resolve_point(
    space: SearchSpace, setting: Setting, point: Mapping[str, Scalar], used: set[str]
) -> tuple[dict[str, Scalar], list[str]]:
    missing: list[str] = []

    def choose(item: Hyperparameter) -> Scalar:
        if item.name in point and _within(item, point[item.name]):
            value: Scalar = point[item.name]
            return float(value) if isinstance(item.domain, Range) and not item.domain.integer else value
        missing.append(item.key)
        return from_first(item)

    values = space.resolve(setting, choose)
    used.update(values)
    return values, missing


def from_first(item: Hyperparameter) -> Scalar:
    """Some value of a domain, to go on looking for problems with."""
    return item.domain.value if isinstance(item.domain, FixedValue) else grid_values(item.domain)[0]


def _within(item: Hyperparameter, value: Scalar) -> bool:
    domain = item.domain
    if not isinstance(domain, Range) or domain.integer:
        return can_take(item, value)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and domain.low <= value <= domain.high
