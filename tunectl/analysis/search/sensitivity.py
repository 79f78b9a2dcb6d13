"""`sensitive`: which hyperparameters the objective depends on, in which part, and which decide whether trials train.

Deep Learning Tuning Playbook, "Extracting insight from experimental results": exploration should say which
hyperparameters the validation error is sensitive to, which interact and must be tuned together, and which could be
fixed. Two responses are asked apart: the objective among the feasible trials, and whether a trial is infeasible. With
infeasible trials as the worst of one ranking, a hyperparameter that only decides whether a trial trains at all would
seem to matter among those that do, and its share would grow with the part of the range that fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.search.effect_model import Effect, EffectModel, Questions, effect_model
from tunectl.analysis.search.responses import Response, responses
from tunectl.core.wording import counted, listed, percentage

LITTLE = 0.15
"""A hyperparameter that explains at most this part, by the upper end of its interval, matters little."""

NEVER_FIXED = frozenset({"learning_rate"})
"""Nearly every change needs its own learning rate: if it seems to make no difference, something else is wrong."""

_MOST_NOTES = 8

_FEWEST_DRAWS, _DRAWS_A_QUESTION, _MOST_DRAWS = 1000, 400, 10_000


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """A response of a setting, or of all settings together, and what it depends on."""

    response: Response
    model: EffectModel

    @cached_property
    def responding(self) -> Mapping[str, Effect]:
        """The effects of what the response was found to depend on, alone or in a pair, the largest share first."""
        return {self.response.name(place): self.model.effects[place] for place in self.model.responding}

    @cached_property
    def silent(self) -> Mapping[str, Effect]:
        """The effects of the others."""
        names = {self.response.name(place): effect for place, effect in self.model.effects.items()}
        return {name: effect for name, effect in names.items() if name not in self.responding}

    @cached_property
    def pairs(self) -> Mapping[tuple[str, str], Effect]:
        """The effects of the pairs by the names of the two, the surest first."""
        ordered = sorted(self.model.pairs.items(), key=lambda item: (not item[1].found, item[1].chance, item[0]))
        return {(self.response.name(one), self.response.name(two)): effect for (one, two), effect in ordered}

    @property
    def responding_keys(self) -> list[str]:
        """The keys of the hyperparameters behind what responds; of those that are varied as one all."""
        return [axis.key for place in self.model.responding for axis in self.response.axes[place]]


@lru_cache(maxsize=1)
def sensitivities(evidence: StudyEvidence) -> tuple[Sensitivity, ...]:
    """Of each setting, and with several of all together, what the objective and feasibility depend on."""
    asked = responses(evidence)
    count = sum(bool(response.factors) for response in asked)
    with_pairs = sum(response.asked == "objective" and len(response.factors) > 1 for response in asked)
    questions = Questions(count, with_pairs, min(max(_FEWEST_DRAWS, _DRAWS_A_QUESTION * count), _MOST_DRAWS))
    found = []
    for response in asked:
        own = questions if response.asked == "objective" else replace(questions, pairs=0)
        model = effect_model(response.scores, response.factors, own) if response.factors else EffectModel({}, {})
        found.append(Sensitivity(response, model))
    return tuple(found)


def responding_keys(evidence: StudyEvidence) -> frozenset[str]:
    """The keys of the hyperparameters that an objective or feasibility was found to depend on, alone or in a pair."""
    return frozenset(key for each in sensitivities(evidence) for key in each.responding_keys)


def sensitive_findings(evidence: StudyEvidence) -> list[Finding]:
    """`sensitive`, a note for all settings together, and for each in which something was found that was not in all."""
    groups: dict[int | None, list[Sensitivity]] = {}
    for each in sensitivities(evidence):
        groups.setdefault(each.response.setting, []).append(each)
    together = groups.pop(None, [])
    known = {key for each in together for key in each.responding_keys}
    more = [own for own in groups.values() if any(set(each.responding_keys) - known for each in own)]
    return [_finding(evidence, own) for own in (together, *more[:_MOST_NOTES]) if any(each.responding for each in own)]


def trials_words(evidence: StudyEvidence, response: Response) -> str:
    """`40 feasible trials of optimizer=adam`, `80 feasible trials, averaged over the settings at 40 points`."""
    count = counted(len(response.runs), "feasible trial" if response.asked == "objective" else "trial")
    if response.setting is None:
        return f"{count}, averaged over the settings at {counted(response.points, 'point')}"
    return f"{count} of {evidence.setting_name(response.setting)}" if evidence.settings[response.setting] else count


def share_text(share: float) -> str:
    """`62%`, or `0.4%` below one percent."""
    return percentage(round(share, 3))


def share_words(effect: Effect) -> str:
    """`62% (42% to 75%)`."""
    return f"{share_text(effect.share)} ({share_text(effect.low)} to {share_text(effect.high)})"


def _finding(evidence: StudyEvidence, own: Sequence[Sensitivity]) -> Finding:
    """What one setting, or all together, showed about the objective and feasibility."""
    setting, left_out = own[0].response.setting, own[0].response.left_out
    keys = tuple(dict.fromkeys(key for each in own for key in each.responding_keys))
    best = evidence.ranked(own[0].response.runs)[:1]
    effects = [effect for each in own for effect in (*each.model.effects.values(), *each.model.pairs.values())]
    chance = min(effect.chance for effect in effects if effect.found)
    beside = f"; {counted(left_out, 'suggested trial')} left out" if left_out else ""
    return Finding(
        id="sensitive",
        level="note",
        sentence=f"{'; '.join(sentence for each in own for sentence in _sentences(evidence, each))}.",
        action=_action(evidence, own, keys),
        settings=() if setting is None else (setting,),
        hyperparameters=keys,
        trials=tuple(run.plan.trial for run in best),
        numbers={each.response.asked: _numbers(each) for each in own},
        sureness=f"p = {chance:.2g} over all hyperparameters and settings, 90% intervals{beside}",
    )


def _sentences(evidence: StudyEvidence, each: Sensitivity) -> Iterator[str]:
    if not each.responding:
        return
    (first, share), *rest = [(name, share_words(effect)) for name, effect in each.responding.items()]
    others = "".join(f", {name} {part}" for name, part in rest)
    trials = trials_words(evidence, each.response)
    if each.response.asked == "objective":
        pairs = "; each with its interactions" if any(effect.found for effect in each.pairs.values()) else ""
        title = evidence.objective.title
        yield f"{first} explains {share} of the variance of {title}{others} (by ranks of {trials}{pairs})"
    else:
        yield f"{first} explains {share} of what makes trials infeasible{others} ({trials})"


def _action(evidence: StudyEvidence, own: Sequence[Sensitivity], keys: Sequence[str]) -> str:
    """What to search next, what to fix first, and what is not known yet."""
    objective = own[0]
    silent = {name: effect for name, effect in objective.silent.items() if name not in keys}
    little = [name for name, effect in silent.items() if effect.high <= LITTLE]
    unknown = [*(name for name in silent if name not in little), *objective.response.unknown]
    parents = {name for item in evidence.spec.hyperparameters for name in item.when}
    fixable = {
        item.key
        for item in evidence.spec.hyperparameters
        if item.role == "nuisance" and item.name not in NEVER_FIXED | parents
    }
    may_go = [f"{name} (at most {share_text(silent[name].high)})" for name in little if name in fixable]
    return "; ".join(
        [
            f"search {listed(keys)} in the next study",
            *([f"if that is too much, first fix {listed(may_go)}"] if may_go else []),
            *([f"more trials would show whether {' or '.join(unknown)} matters"] if unknown else []),
        ]
    )


def _numbers(each: Sensitivity) -> dict[str, Any]:
    """The numbers of every hyperparameter, and of each pair that was found, by name."""
    pairs = {f"{one} and {two}": effect for (one, two), effect in each.pairs.items() if effect.found}
    return {
        "trials": len(each.response.runs),
        "points": each.response.points,
        "suggested_left_out": each.response.left_out,
        "effects": {
            name: {"share_of_variance": effect.share, "low": effect.low, "high": effect.high, "chance": effect.chance}
            for name, effect in {**each.responding, **each.silent, **pairs}.items()
        },
    }
