"""The words of a study's answer: the sentence, what it rests on, and what would make it more certain."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunectl.analysis.comparison.comparison import FIRST_RETRAINS, LEVEL, detectable_difference
from tunectl.analysis.comparison.not_distinguishable import (
    can_have_more_trials,
    retrain_costs,
    retrain_deviation,
    value_words,
)
from tunectl.analysis.comparison.setting_verdicts import SettingVerdict, SettingVerdicts
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.seed_findings import seed_findings
from tunectl.analysis.results.paired_best import FEWEST_PAIRED_POINTS
from tunectl.analysis.results.runs import LARGEST, Run
from tunectl.core.records import Scalar, is_ended
from tunectl.core.wording import counted, listed, short_number, short_text

Certainty = Literal["retrains", "search", "open", "one setting", "none"]
"""What an answer rests on: the retrains or the search show that one setting is better than every other; it is open
which one is; there is only one; there is no answer.
"""

_MOST_NAMED = 3
_MOST_COMPARED = 20
_MOST_RETRAINS = 30
"""More retrains of each are not proposed as a command."""


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence without its full stop, what it rests on, and the command that would make it more certain."""

    sentence: str
    certainty: Certainty
    command: str = ""
    basis: Sequence[str] = ()

    def after(self, beginning: str) -> str:
        """The sentence after a beginning, "" for none; the name of a setting keeps its first letter."""
        is_own_word = beginning and self.sentence.split(" ", 1)[0] in ("No", "The", "Only")
        return f"{beginning}{self.sentence[0].lower() + self.sentence[1:] if is_own_word else self.sentence}."


def upper_first(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def no_answer(evidence: StudyEvidence) -> Said:
    """Why no trial can be preferred."""
    search = [run for run in evidence.runs if run.plan.trial_kind == "search"]
    ended = [run for run in search if is_ended(run.state, run.reason)]
    if not ended:
        return Said("No trial has ended, so there is no answer yet", "none")
    if evidence.missed:
        nearest = evidence.closest_first(evidence.missed)[0]
        found = nearest.closest(evidence.objective)
        close = "" if found is None else f"; trial {nearest.plan.trial} came closest, with {short_number(found[1])}"
        return Said(f"No trial reached {evidence.objective.target}{close}", "none", basis=_trial_counts(evidence))
    states = Counter(f"{run.state}{f': {run.reason}' if run.reason else ''}" for run in ended)
    what = ", ".join(f"{number:,} {state}" for state, number in states.most_common())
    said = f"{upper_first(evidence.objective.never_given)} ({what}), so there is no answer"
    return Said(said, "none", basis=_trial_counts(evidence))


def of_one_setting(evidence: StudyEvidence, best: Run) -> Said:
    """The answer of a study without settings to compare: what its best trial reaches, and how much of that is luck."""
    ended = len(evidence.searched)
    what = (
        "The only trial" if ended == 1 else f"The best of {counted(ended, 'trial')} is trial {best.plan.trial}, which"
    )
    # Values that are scientific and sampled are the question, too.
    asked = {item.name for item in evidence.spec.hyperparameters if item.role == "scientific" and item.varies}
    values = {name: value for name, value in best.plan.hyperparameters.items() if name in asked}
    having = f", with {_shown_values(values)}" if values else ""
    sentence = f"{what} {_reaches(evidence)} {_value(evidence, best)}{having}"
    costs = retrain_costs(evidence, best)
    basis = _trial_counts(evidence)
    before = evidence.earlier.best(evidence.objective) if evidence.earlier is not None else None
    if before is not None:
        is_better = best.cost(evidence.objective) < evidence.objective.cost(before.value)
        compared = "better than" if is_better else "not better than"
        sentence += (
            f", {compared} the best one before ({short_number(before.value or 0.0)}, trial {before.trial} of "
            f"{before.folder})"
        )
    if seed_findings(evidence):
        return Said(f"{sentence}; other seeds change nothing", "one setting", "", basis)
    if len(costs) > 1:
        return Said(f"{sentence}; {_again(evidence, costs)}", "one setting", "", basis)
    luck = "how much of that is luck is not known, since it was not trained again"
    command = evidence.retrain_command("--repeats", FIRST_RETRAINS) if evidence.folder else ""
    return Said(f"{sentence}; {luck}", "one setting", command, basis)


def of_settings(evidence: StudyEvidence, verdicts: SettingVerdicts) -> Said:
    """The answer of a study that compares settings."""
    parts, certainty = [], _certainty(verdicts)
    command = ""
    if verdicts.open:
        parts.append(_not_distinguished(evidence, verdicts))
        resolution, command = _resolution(evidence, verdicts)
        parts.append(resolution)
    elif verdicts.worse:
        parts.append(_decided(evidence, verdicts))
    else:
        only = f"Only {_label(evidence, verdicts.setting)} has a trial with a value"
        parts.append(f"{only}: its best one {_reaches(evidence)} {_value(evidence, verdicts.best)}")
    if verdicts.without_value:
        parts.append(_without_value(evidence, verdicts.without_value))
    basis = [*_trial_counts(evidence)]
    basis += [_basis(evidence, verdicts, item) for item in verdicts.others[:_MOST_COMPARED]]
    if len(verdicts.others) > _MOST_COMPARED:
        basis.append(f"and {counted(len(verdicts.others) - _MOST_COMPARED, 'more setting')}")
    return Said("; ".join(filter(None, parts)), certainty, command, basis)


def _certainty(verdicts: SettingVerdicts) -> Certainty:
    bases = {item.worse_by for item in verdicts.others}
    if None in bases:
        return "open"
    return "retrains" if bases == {"retrains"} else "search"


def _decided(evidence: StudyEvidence, verdicts: SettingVerdicts) -> str:
    """That one setting is better than all others that have a value, and what shows it."""
    name, closest = _label(evidence, verdicts.setting), verdicts.worse[0]
    others = _named([_label(evidence, item.setting) for item in verdicts.worse])
    again = [item for item in verdicts.worse if item.worse_by == "retrains"]
    if len(again) < len(verdicts.worse):
        values = _named(
            [f"{_label(evidence, item.setting)} ({_value(evidence, item.best)})" for item in verdicts.worse]
        )
        shown = closest if closest.worse_by == "search" else next(i for i in verdicts.worse if i.worse_by == "search")
        return f"{name} is better than {values}: {_its_best(evidence, verdicts.best)} ({_by_search(name, shown)})"
    lucky = ""
    if verdicts.overtaken is not None:
        other = _label(evidence, verdicts.overtaken.plan.setting)
        lucky = f"; the best trial of the search, with {other} ({_value(evidence, verdicts.overtaken)}), was lucky"
    return f"{name} is better than {others}: {_by_retrains(evidence, verdicts.best, again[0])}{lucky}"


def _not_distinguished(evidence: StudyEvidence, verdicts: SettingVerdicts) -> str:
    """That the best setting and others are not distinguished, with what each reaches."""
    name, close = _label(evidence, verdicts.setting), verdicts.open
    again = _means(evidence, [verdicts.best, *(item.best for item in close)]) if _all_retrained(close) else None
    value, *own = again or [_value(evidence, run) for run in (verdicts.best, *(item.best for item in close))]
    others = [_label(evidence, item.setting) for item in close]
    named = _named([f"{other} ({its})" for other, its in zip(others, own, strict=True)])
    if _are_few(close):
        points = _points(close)
        few = f"{counted(points, 'trial')} of each {'is' if points == 1 else 'are'} too few"
        said = f"{few} to say whether {name} ({value}) is better than {named}"
    elif verdicts.worse:
        said = f"{name} {_reaches(evidence)} {value} and cannot be distinguished from {named}"
    elif set(own) == {value}:
        both = "both" if len(others) == 1 else "all"
        said = f"{_named([name, *others])} cannot be distinguished: {both} {_reaches(evidence, plural=True)} {value}"
    else:
        every = [f"{other} ({its})" for other, its in zip([name, *others], [value, *own], strict=True)]
        said = f"{_named(every)} cannot be distinguished"
    if verdicts.worse:
        said += f", but is better than {_named([_label(evidence, item.setting) for item in verdicts.worse])}"
    return f"{'Trained again, ' if again else ''}{said}"


def _all_retrained(items: Sequence[SettingVerdict]) -> bool:
    return all(item.by_retrains is not None for item in items)


def _points(items: Sequence[SettingVerdict]) -> int:
    return min((item.by_search.points for item in items if item.by_search is not None), default=0)


def _are_few(items: Sequence[SettingVerdict]) -> bool:
    """Whether there are too few trials of these settings to say anything about them, and retrains do not help."""
    return _points(items) < FEWEST_PAIRED_POINTS and not any(item.by_retrains for item in items)


def _means(evidence: StudyEvidence, runs: Sequence[Run | None]) -> list[str] | None:
    """The means of the retrains of these trials, in words; None where one has no value."""
    costs = [retrain_costs(evidence, run) for run in runs if run is not None]
    if any(abs(cost) >= LARGEST for own in costs for cost in own):
        return None
    return [f"{_number(evidence, evidence.objective.value(statistics.fmean(own)))} on average" for own in costs]


def _resolution(evidence: StudyEvidence, verdicts: SettingVerdicts) -> tuple[str, str]:
    """What would decide between settings that are not distinguished: in words, and as a command."""

    def command(repeats: int) -> str:
        return evidence.retrain_command("--each-setting", "--repeats", repeats) if evidence.folder else ""

    if seed_findings(evidence):
        return "retrains say nothing, since other seeds change nothing", ""
    if _are_few(verdicts.open) and can_have_more_trials(evidence):
        return "raise search.trials", ""
    again = [item.by_retrains for item in verdicts.open if item.by_retrains is not None]
    weighed = [found.reason for found in again if found.p_better is not None and found.p_better <= LEVEL]
    if weighed:
        name = _label(evidence, verdicts.setting)
        return weighed[0].replace("its retrains are", f"the retrains of {name} are", 1), ""
    deviation = retrain_deviation(evidence)
    smallest = detectable_difference(FIRST_RETRAINS, deviation) if deviation else None
    unit = " steps" if evidence.objective.steps_to is not None else ""
    resolved = f"{FIRST_RETRAINS} retrains of each would resolve {short_number(smallest or 0.0, 2)}{unit}"
    count = max((found.more for found in again if found.more is not None), default=0)
    if count > _MOST_RETRAINS and smallest is not None:
        return f"{resolved}, and about {count} are needed for the difference between them", ""
    if count:
        return f"about {count} retrains of each would show the difference between them", command(
            count
        ) if count <= _MOST_RETRAINS else ""
    if again and not deviation:
        return "their retrains are equally good", ""
    if smallest is not None:
        return resolved, command(FIRST_RETRAINS)
    return f"retrain the best of each, {FIRST_RETRAINS} times, to see how much of it is luck", command(FIRST_RETRAINS)


def _without_value(evidence: StudyEvidence, items: Sequence[SettingVerdict]) -> str:
    names = _named([_label(evidence, item.setting) for item in items])
    settings = {item.setting for item in items}
    kinds = Counter(run.state for run in evidence.runs if run.plan.setting in settings)
    what = listed([f"{number:,} {state}" for state, number in kinds.most_common()])
    few = "" if all(item.worse_by for item in items) else ", which are too few to say that none ever would"
    return f"no trial of {names} has a value ({what}{few})"


def _basis(evidence: StudyEvidence, verdicts: SettingVerdicts, item: SettingVerdict) -> str:
    """What is known about one setting beside the best one, in a sentence."""
    name, best = _label(evidence, item.setting), _label(evidence, verdicts.setting)
    if item.worse_by == "retrains":
        return f"{name}: worse by retrains; {_by_retrains(evidence, verdicts.best, item)}"
    if item.worse_by == "search":
        return f"{name}: worse by the search; {_by_search(best, item)}"
    if item.by_retrains is not None:
        return f"{name}: not distinguished by retrains; {item.by_retrains.reason}"
    return f"{name}: not distinguished by the search; {_by_search(best, item)}"


def _by_search(best: str, item: SettingVerdict) -> str:
    found = item.by_search
    if found is None:
        return "no trial of it has ended"
    if found.points < FEWEST_PAIRED_POINTS:
        return f"{counted(found.points, 'trial')} of each {'is' if found.points == 1 else 'are'} too few to say"
    return f"with {found.k} of {found.points} trials of each, {best} would be ahead in {_share(found.wins)} of cases"


def _share(wins: float) -> str:
    return f"{math.floor(wins * 1000) / 10:g}%"


def _by_retrains(evidence: StudyEvidence, best: Run, item: SettingVerdict) -> str:
    assert item.by_retrains is not None
    assert item.best is not None
    costs = [retrain_costs(evidence, run) for run in (best, item.best)]
    counts = " and ".join(str(len(own)) for own in costs)
    chance = min(value for value in (item.by_retrains.p_better, item.by_retrains.p_worse) if value is not None)
    how = f"{counts} retrains, p = {chance:.2g}"
    if max(abs(cost) for own in costs for cost in own) >= LARGEST:
        return f"its retrains are better, of which some have no value ({how})"
    means = [_number(evidence, evidence.objective.value(statistics.fmean(own))) for own in costs]
    return f"trained again they {_reaches(evidence, plural=True)} {means[0]} and {means[1]} on average ({how})"


def _again(evidence: StudyEvidence, costs: Sequence[float]) -> str:
    """What the retrains of the only best trial say."""
    count = counted(len(costs), "retrain")
    lost = sum(abs(cost) >= LARGEST for cost in costs)
    if lost:
        return f"{lost} of its {count} {'has' if lost == 1 else 'have'} no value"
    mean, deviation = statistics.fmean(costs), statistics.stdev(costs)
    reached = _number(evidence, evidence.objective.value(mean))
    return (
        f"its {count} {_reaches(evidence, plural=True)} {reached} on average, with a standard deviation of "
        f"{short_number(deviation, 2)}"
    )


def _its_best(evidence: StudyEvidence, run: Run) -> str:
    return f"its best trial {_reaches(evidence)} {_value(evidence, run)}"


def _reaches(evidence: StudyEvidence, *, plural: bool = False) -> str:
    """What a trial does to its value: by its best evaluation, by its last one, or after some steps to a target."""
    objective = evidence.objective
    if objective.steps_to is not None:
        return f"{'reach' if plural else 'reaches'} {objective.target} after"
    if objective.checkpoint == "final":
        return "end at" if plural else "ends at"
    return "reach" if plural else "reaches"


def _value(evidence: StudyEvidence, run: Run | None) -> str:
    return "no value" if run is None else value_words(evidence, run)


def _number(evidence: StudyEvidence, value: float) -> str:
    return f"{short_number(value)}{' steps' if evidence.objective.steps_to is not None else ''}"


def _label(evidence: StudyEvidence, setting: int) -> str:
    """A setting by its scientific values; one that is a word needs no name before it."""
    values = evidence.settings.get(setting, {})
    names = {name for own in evidence.settings.values() for name in own}
    value = next(iter(values.values()), None)
    return value if len(names) == 1 and isinstance(value, str) and value else evidence.setting_name(setting)


def _shown_values(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name}={short_text(value)}" for name, value in values.items())


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return listed([*names[:_MOST_NAMED], f"{more} more"] if more > 0 else list(names))


def _trial_counts(evidence: StudyEvidence) -> list[str]:
    """How the trials of the search ended."""
    states = Counter(run.state for run in evidence.runs if run.plan.trial_kind == "search")
    return [f"{counted(sum(states.values()), 'trial')}: " + ", ".join(f"{n:,} {state}" for state, n in states.items())]
