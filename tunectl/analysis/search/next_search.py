"""The next round of a study: the changes that its findings propose, if they agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.search.scales import above_zero
from tunectl.core.errors import PathKey, dotted
from tunectl.language.name_meaning import slows_training
from tunectl.language.study_edit import in_flow
from tunectl.language.study_spec import StudySpec
from tunectl.space.domains import Range


@dataclass(frozen=True, slots=True)
class AgreedChange:
    """A change on which all findings about its place agree; `findings` are their ids."""

    change: Change
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Findings that propose different changes of one place: what each proposes, by its id."""

    path: PathKey
    wanted: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        wishes = "; ".join(f"{name} proposes {in_flow(value)}" for name, value in self.wanted)
        return f"{dotted(self.path)}: the findings do not agree: {wishes}; decide by hand"


def agreed_changes(spec: StudySpec, findings: Sequence[Finding]) -> tuple[list[AgreedChange], list[Conflict]]:
    """The changes that the findings propose, place by place in the order of the findings, and their conflicts.

    If several findings widen a range, the widest ends count, if several narrow it, the narrowest; if several raise a
    number of trials, the largest. A change of a whole hyperparameter conflicts with one inside it; what is only made
    with it is not made either. Where augmentation or dropout comes, training becomes longer.
    """
    wanted: dict[PathKey, list[tuple[str, Change]]] = {}
    for finding in findings:
        for change in finding.changes:
            wanted.setdefault(tuple(change.path), []).append((finding.id, change))
    agreed: list[AgreedChange] = []
    conflicts: list[Conflict] = []
    for path, every in wanted.items():
        # A range that only begins above 0 for a logarithmic scale: the others are made to begin there, too.
        wishes = [wish for wish in every if wish[1].only_with[-1:] != ("scale",)] or every
        outer = [other for other in wanted if len(other) < len(path) and path[: len(other)] == other]
        rivals = [wish for other in outer for wish in wanted[other]]
        value = _common_value(spec, path, [change.value for _, change in wishes])
        if rivals or value is None:
            conflicts.append(Conflict(path, tuple((name, change.value) for name, change in (*rivals, *wishes))))
        else:
            reason = "; ".join(dict.fromkeys(change.reason for _, change in wishes))
            needed = next((change.only_with for _, change in wishes if change.only_with), ())
            names = tuple(dict.fromkeys(name for name, _ in wishes))
            agreed.append(AgreedChange(Change(path, value, reason, needed), names))
    inside = {conflict.path for conflict in conflicts}
    # A change of the whole hyperparameter is not made either.
    clear = [item for item in agreed if not any(path[: len(item.change.path)] == item.change.path for path in inside)]
    made = {tuple(item.change.path) for item in clear}
    whole = [item for item in clear if not item.change.only_with or item.change.only_with in made]
    return [*_above_zero(whole), *_longer_training(spec, whole, {item.path for item in conflicts})], conflicts


MORE_STEPS = 1.5
"""With augmentation or dropout that was not there before trials train for this many times the steps."""


def _longer_training(spec: StudySpec, agreed: Sequence[AgreedChange], open_places: set[PathKey]) -> list[AgreedChange]:
    """More steps where a change brings augmentation or dropout; none where a finding decides about the steps.

    Deep Learning Tuning Playbook, "Deciding how long to train": methods that make the training data or the network vary
    from update to update need more of them.
    """
    steps = ("training", "max_train_steps")
    if steps in open_places or any(item.change.path == steps for item in agreed):
        return []
    found = []
    for item in agreed:
        path = item.change.path
        new = path[:1] == ("hyperparameters",) and len(path) == 2 and isinstance(item.change.value, dict)
        if new and slows_training(str(path[1])) and item.change.value.get("role") != "fixed" and _is_new(spec, path):
            found.append(item)
    if not found:
        return []
    names = " and ".join(str(item.change.path[1]) for item in found)
    every = spec.training.eval_every
    more = math.ceil(MORE_STEPS * spec.training.max_train_steps / every) * every
    reason = f"with {names} training needs more steps"
    return [AgreedChange(Change(steps, more, reason), tuple(name for item in found for name in item.findings))]


def _is_new(spec: StudySpec, path: PathKey) -> bool:
    """Whether the study has no hyperparameter of this name, or only one value of it."""
    return not any(item.varies for item in spec.alternatives(str(path[1])))


def _common_value(spec: StudySpec, path: PathKey, values: Sequence[Any]) -> Any:
    """The value that satisfies all of these; None if there is none."""
    if all(value == values[0] for value in values):
        return values[0]
    if path == ("search", "trials"):
        return max(values)
    if path[-1] == "range":
        domain = next((item.domain for item in spec.hyperparameters if item.path == path[:-1]), None)
        if isinstance(domain, Range) and all(low <= domain.low and domain.high <= high for low, high in values):
            return [min(low for low, _ in values), max(high for _, high in values)]
        if isinstance(domain, Range) and all(domain.low <= low and high <= domain.high for low, high in values):
            inner = [max(low for low, _ in values), min(high for _, high in values)]
            return inner if inner[0] < inner[1] else None
    return None


def _above_zero(agreed: Sequence[AgreedChange]) -> list[AgreedChange]:
    """The changes, with ranges that begin above 0 where the scale becomes a logarithmic one."""
    logarithmic = {
        item.change.path[:-1] for item in agreed if item.change.path[-1] == "scale" and item.change.value == "log"
    }
    found = []
    for item in agreed:
        change = item.change
        if change.path[-1] == "range" and change.path[:-1] in logarithmic and change.value[0] <= 0:
            change = replace(change, value=[above_zero(change.value[1]), change.value[1]])
        found.append(replace(item, change=change))
    return found
