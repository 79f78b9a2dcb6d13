"""Findings: what is wrong or worth knowing about a study, with the numbers behind it and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Level = Literal["warning", "note"]


@dataclass(frozen=True, slots=True)
class Change:
    """A change to the study file: the path of a value in it, the value to put there, and why, in a few words.

    `only_with`: the path of another change, without which this one is not made; () where it does not depend on one.
    """

    path: tuple[str | int, ...]
    value: Any
    reason: str
    only_with: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing about a study.

    A `warning` is about something wrong, a `note` about something to keep in mind. `settings` are numbers of settings,
    `hyperparameters` are keys (`learning_rate[optimizer=adam]`), `trials` are ids of trials, the clearest case first;
    each is empty where the finding is about none or about all. `numbers` are the numbers behind it, by name, with their
    unit in the name. `sureness` says in words how certain it is, with a number (`p = 0.003`, `3 of 4 good trials`).
    `sentence` is one plain sentence. `action` says what to do next; `command` is the command that does it and `changes`
    are the changes to the study file, where there are any.
    """

    id: str
    level: Level
    sentence: str
    action: str
    settings: Sequence[int] = ()
    hyperparameters: Sequence[str] = ()
    trials: Sequence[int] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    sureness: str = ""
    command: str = ""
    changes: Sequence[Change] = ()

    def to_json(self) -> dict[str, Any]:
        """The finding as an entry of findings.json."""
        content = asdict(self)
        content["changes"] = [
            {"path": list(change.path), "value": change.value, "reason": change.reason} for change in self.changes
        ]
        return content


def with_advice_once(findings: Sequence[Finding]) -> list[Finding]:
    """The findings as they are shown: advice that an earlier finding gave already is replaced by a reference to it."""
    first: dict[tuple[str, str, str], str] = {}
    shown = []
    for finding in findings:
        advice = (finding.action, finding.command, repr(finding.changes))
        if finding.action and advice in first:
            shown.append(replace(finding, action=f"see the advice for {first[advice]} above", command="", changes=()))
        else:
            first[advice] = finding.id
            shown.append(finding)
    return shown
