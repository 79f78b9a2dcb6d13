"""`interaction`: two hyperparameters whose best values depend on each other, so that they must be tuned together.

Deep Learning Tuning Playbook, "Identifying scientific, nuisance, and fixed hyperparameters": the less a nuisance
hyperparameter interacts with the scientific ones, the less harm is done by fixing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunectl.analysis.comparison.setting_axes import has_two_ends
from tunectl.analysis.findings.finding_evidence import HyperparameterAxis, StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.search.effect_model import Effect
from tunectl.analysis.search.sensitivity import Sensitivity, sensitivities, share_words, trials_words


@dataclass(frozen=True, eq=False)
class Interaction:
    """A pair of hyperparameters that interact, and where that was found: in all settings together first."""

    pair: tuple[HyperparameterAxis, HyperparameterAxis]
    found: tuple[tuple[Sensitivity, Effect], ...]

    @property
    def keys(self) -> tuple[str, str]:
        """The keys of the two hyperparameters."""
        return self.pair[0].key, self.pair[1].key


def interactions(evidence: StudyEvidence) -> list[Interaction]:
    """The pairs that interact in some setting, or in all together, the surest first.

    A pair that these trials vary together with a third hyperparameter is left out: it is not known which it is.
    """
    axes = {axis.key: axis for axis in evidence.axes}
    cases: dict[tuple[str, str], list[tuple[Sensitivity, Effect]]] = {}
    for each in sensitivities(evidence):
        for pair, effect in each.pairs.items():
            if effect.found and all(name in axes for name in pair):
                cases.setdefault(pair, []).append((each, effect))
    found = []
    for (one, two), own in cases.items():
        own.sort(key=lambda case: (case[0].response.setting is not None, -case[1].share))
        found.append(Interaction((axes[one], axes[two]), tuple(own)))
    return sorted(found, key=lambda item: (item.found[0][1].chance, -item.found[0][1].share))


def interaction_findings(evidence: StudyEvidence) -> list[Finding]:
    """`interaction`, a note for each pair that interacts."""
    return [_finding(evidence, item) for item in interactions(evidence)]


def _finding(evidence: StudyEvidence, item: Interaction) -> Finding:
    (first, effect), (one, two) = item.found[0], item.keys
    settings = [number for each, _ in item.found if (number := each.response.setting) is not None]
    return Finding(
        id="interaction",
        level="note",
        sentence=f"{one} and {two} interact: {_dependence(item.pair, effect)}. Together they explain "
        f"{share_words(effect)} of the variance of {evidence.objective.title} more than each does alone (by ranks of "
        f"{trials_words(evidence, first.response)}).",
        action=f"tune {one} and {two} together: where one of them is fixed, or its range is moved, the best value of "
        "the other changes",
        settings=tuple(settings),
        hyperparameters=item.keys,
        trials=tuple(run.plan.trial for run in evidence.ranked(first.response.runs)[:1]),
        numbers={
            "trials": len(first.response.runs),
            "share_of_variance": effect.share,
            "low": effect.low,
            "high": effect.high,
            "chance": effect.chance,
        },
        sureness=f"p = {effect.chance:.2g} over all pairs and settings, 90% interval",
    )


def _dependence(pair: Sequence[HyperparameterAxis], effect: Effect) -> str:
    """How the best value of each depends on the other, as far as the sign of their product says it."""
    one, two = (axis.key for axis in pair)
    ordered = [has_two_ends(axis.hyperparameter) for axis in pair]
    if not all(ordered):
        category, other = (one, two) if not ordered[0] else (two, one)
        return f"the best {other} is not the same for each {category}"
    if effect.sign > 0:
        return f"the higher {one}, the lower the best {two}"
    return f"the higher {one}, the higher the best {two}"
