"""The conditions of parameters that only some trials have, inferred from the trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunectl.core.records import Scalar
from tunectl.space.domains import SampledDomain, is_among, sameness
from tunectl.space.hyperparameters import holds

_MOST_VALUES = 30
"""A whole-number range of more values cannot be a switch."""

Values = Mapping[str, Scalar]
When = dict[str, tuple[Scalar, ...]]


def conditions(
    trials: Sequence[Values], domains: Mapping[str, SampledDomain], whole: Sequence[bool] = ()
) -> tuple[dict[str, When], list[str]]:
    """For each parameter that some trials lack, the values of other parameters under which trials have it; and the
    parameters that no other explains.

    `whole` says which trials completed, all where none did. A trial that was stopped may lack a parameter only because
    it ended before it asked for one, so it counts only where it has the parameter. A condition must hold in exactly
    those counted trials that have the parameter. Only sets and short whole-number ranges can be switches.
    """
    switches = [
        name for name, domain in domains.items() if domain.varies and domain.few_values(_MOST_VALUES) is not None
    ]
    found: dict[str, When] = {}
    unexplained = []
    certain = whole if any(whole) else [True] * len(trials)
    for name in domains:
        counted = [trial for trial, sure in zip(trials, certain, strict=True) if sure or name in trial]
        present = [name in trial for trial in counted]
        if all(present):
            continue
        when = _explained(name, counted, present, [other for other in switches if other != name], found)
        if when is None:
            unexplained.append(name)
        else:
            found[name] = when
    return found, unexplained


def _explained(
    name: str, trials: Sequence[Values], present: Sequence[bool], switches: Sequence[str], found: Mapping[str, When]
) -> When | None:
    """The fewest switches that explain which trials have the parameter; those before it in the study come first."""
    explaining: When = {}
    for switch in switches:
        if _waits_for(switch, name, found):
            continue
        with_it = [trial for trial, there in zip(trials, present, strict=True) if there]
        if not with_it or any(switch not in trial for trial in with_it):
            continue
        distinct = {sameness(trial[switch]): trial[switch] for trial in with_it}
        values = tuple(sorted(distinct.values(), key=lambda value: (str(type(value)), value)))
        if any(switch not in trial or not is_among(trial[switch], values) for trial in trials):
            explaining[switch] = values
    for switch, values in explaining.items():
        if _explains({switch: values}, trials, present):
            return {switch: values}
    if not explaining or not _explains(explaining, trials, present):
        return None
    for switch in list(explaining):
        fewer = {other: values for other, values in explaining.items() if other != switch}
        if fewer and _explains(fewer, trials, present):
            explaining = fewer
    return explaining


def _waits_for(name: str, other: str, found: Mapping[str, When]) -> bool:
    """Whether `name` is conditional on `other`, directly or not: the other way round would be a circle."""
    return any(parent == other or _waits_for(parent, other, found) for parent in found.get(name, {}))


def _explains(when: When, trials: Sequence[Values], present: Sequence[bool]) -> bool:
    return all(there == holds(when, trial) for trial, there in zip(trials, present, strict=True))
