"""campaign.yaml: the goal of a sequence of studies, its baseline, its rounds, and what was launched."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from tunectl.core import typed_fields
from tunectl.core.errors import PathKey, StudyError
from tunectl.core.objective import Objective
from tunectl.core.records import Scalar
from tunectl.core.wording import got, listed, nearest
from tunectl.language.document import Document, read_document

CAMPAIGN_FILE = "campaign.yaml"

_NEEDS = "a campaign needs at least a goal"


@dataclass(frozen=True, slots=True)
class LaunchCost:
    """What the launched trial costs: seconds for one update, and until its best step, on `devices`; its examples.

    None where it is not known.
    """

    seconds_per_step: float | None = None
    steps_to_best: int | None = None
    seconds_to_best: float | None = None
    examples_to_best: int | None = None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchRetrains:
    """The retrains of the launched trial: their values (null: ended without one), mean and standard deviation."""

    values: tuple[float | None, ...] = ()
    mean: float | None = None
    standard_deviation: float | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """An entry of `launched`: a configuration, and on what evidence it was adopted.

    `study` is a study folder, relative to the campaign's, and `trial` the id in it. `compared_with` is what was
    launched before (DIR/TRIAL), the baseline, or `nothing`; `verdict` is that of `compare`, or "not compared" with the
    `reason`. `improvement` is the one of the objective, positive where better, and `interval` its 90 % interval.
    `values` and `max_train_steps` are what it was trained with, in its own stage. `anyway`: it was launched although
    `compare` did not say adopt. Only `study`, `trial` and `because` are required.
    """

    study: str
    trial: int
    because: str
    date: str = ""
    compared_with: str = ""
    verdict: str = ""
    reason: str = ""
    anyway: bool = False
    improvement: float | None = None
    interval: tuple[float, ...] = ()
    p_better: float | None = None
    objective: Objective | None = None
    search_value: float | None = None
    retrains: LaunchRetrains = LaunchRetrains()
    values: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)
    max_train_steps: int | None = None
    cost: LaunchCost = LaunchCost()
    command: str = ""
    commit: str = ""
    uncommitted_changes: bool | None = None
    tunectl: str = ""

    @property
    def place(self) -> str:
        """The launched trial as DIR/TRIAL, relative to the campaign's folder."""
        return f"{self.study}/{self.trial}"

    def to_json(self) -> dict[str, Any]:
        """The entry as it is written: without what is empty or not known."""
        return _beyond_defaults(self)


def _beyond_defaults(record: Any) -> dict[str, Any]:
    """The fields of a record that differ from their defaults, as they are written."""
    found: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if isinstance(value, (LaunchRetrains, LaunchCost)):
            value = _beyond_defaults(value)
        elif value == item.default:
            continue
        if value not in ({}, ()):
            found[item.name] = typed_fields.untyped(value)
    return found


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as its file says. `baseline` is a place (DIR/TRIAL), a configuration, or None.

    `rounds` are study files and study folders in their order; all paths are relative to the campaign's folder.
    `document` has the text, and the place of everything in it.
    """

    document: Document
    name: str
    goal: str = ""
    baseline: str | Mapping[str, Scalar] | None = None
    rounds: tuple[str, ...] = ()
    launched: tuple[Launch, ...] = ()

    @property
    def folder(self) -> Path:
        """The campaign's folder."""
        return Path(self.document.file).parent


def read_campaign(folder: Path) -> Campaign:
    """Read the campaign.yaml of a folder. Raises StudyError with all problems at once, each with its place."""
    document = read_document(folder / CAMPAIGN_FILE, _NEEDS)
    content = document.content
    if not isinstance(content, dict):
        document.report((), f"expected a mapping of keys, {got(content)}; {_NEEDS}")
        raise StudyError(document.problems)
    for key in content:
        if key not in _KEYS:
            document.report((key,), f"no such key{nearest(key, _KEYS)}", at_key=True)
    campaign = Campaign(
        document,
        name=_text(document, "campaign") or folder.absolute().name,
        goal=_text(document, "goal"),
        baseline=_baseline(document),
        rounds=_rounds(document),
        launched=_launched(document),
    )
    if document.problems:
        raise StudyError(document.problems)
    return campaign


_KEYS = ("campaign", "goal", "baseline", "rounds", "launched")


def _text(document: Document, key: str) -> str:
    value = document.content.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    document.report((key,), f"expected text, {got(value)}; write it in quotes")
    return ""


def _baseline(document: Document) -> str | Mapping[str, Scalar] | None:
    value, where = document.content.get("baseline"), ("baseline",)
    if value is None:
        return None
    if isinstance(value, str):
        if not Path(value).name.isdecimal():
            document.report(where, f"expected DIR/TRIAL, such as runs/my-study/18, or a configuration, {got(value)}")
        return value
    if not isinstance(value, dict) or not value:
        document.report(where, f"expected DIR/TRIAL, or a configuration such as {{momentum: 0.9}}, {got(value)}")
        return None
    for name, item in value.items():
        if item is None or isinstance(item, (list, dict)):
            document.report((*where, name), f"expected one value, {got(item)}")
    return value


def _rounds(document: Document) -> tuple[str, ...]:
    rounds: list[str] = []
    for number, value in enumerate(_list(document, "rounds")):
        where = ("rounds", number)
        if not isinstance(value, str) or not value:
            document.report(where, f"expected a study file or a study folder, {got(value)}")
        elif value in rounds:
            document.report(where, f"{value} is round {rounds.index(value) + 1} already; keep one")
        else:
            rounds.append(value)
    return tuple(rounds)


def _launched(document: Document) -> tuple[Launch, ...]:
    entries = enumerate(_list(document, "launched"))
    found = [_launch(document, ("launched", number), value) for number, value in entries]
    return tuple(item for item in found if item is not None)


def _launch(document: Document, where: PathKey, value: Any) -> Launch | None:
    if not isinstance(value, dict):
        document.report(where, f"expected a mapping of keys, {got(value)}")
        return None
    before, known = len(document.problems), get_type_hints(Launch)
    fields: dict[str, Any] = {}
    for key, item in value.items():
        if key not in known:
            document.report((*where, key), f"no such key{nearest(key, known)}", at_key=True)
            continue
        try:
            fields[key] = typed_fields.typed(known[key], item)
        except typed_fields.DamagedError as error:
            document.report((*where, key), str(error))
    missing = [key for key in ("study", "trial", "because") if key not in value]
    if missing:
        document.report(where, f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    return Launch(**fields) if len(document.problems) == before else None


def _list(document: Document, key: str) -> list[Any]:
    value = document.content.get(key)
    if value is None or isinstance(value, list):
        return value or []
    document.report((key,), f"expected a list, {got(value)}")
    return []
