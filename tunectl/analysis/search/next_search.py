"""The next round of a study: the changes that its findings propose, if they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunectl.analysis.findings.findings import Change, Finding
from tunectl.core.errors import PathKey, dotted
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

    If several findings widen a range, the widest ends count; if several raise a number of trials, the largest. A change
    of a whole hyperparameter conflicts with one inside it; what is only made with it is not made either.
    """
    wanted: dict[PathKey, list[tuple[str, Change]]] = {}
    for finding in findings:
        for change in finding.changes:
            wanted.setdefault(tuple(change.path), []).append((finding.id, change))
    agreed: list[AgreedChange] = []
    conflicts: list[Conflict] = []
    for path, wishes in wanted.items():
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
    return [item for item in clear if not item.change.only_with or item.change.only_with in made], conflicts


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
    return None
