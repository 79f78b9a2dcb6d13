"""`search-boundary` for a scientific hyperparameter: the best setting has the lowest or the highest of its numbers."""

from __future__ import annotations

from tunectl.analysis.comparison.not_distinguishable import by_point
from tunectl.analysis.comparison.setting_axes import has_two_ends
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.paired_best import PREFERRED, PairedBest, paired_best
from tunectl.analysis.search.boundary import end_value
from tunectl.analysis.search.features import differ_in
from tunectl.analysis.search.widening import End, Wider, wider
from tunectl.analysis.updates.stability_edge import shown_value
from tunectl.space.domains import same
from tunectl.space.hyperparameters import Hyperparameter

FEWEST_POINTS_AT_END = 8
"""With fewer points one of several equal settings is better than all others by luck too often."""


def scientific_end_findings(evidence: StudyEvidence) -> list[Finding]:
    """A warning for each ordered scientific set at whose end the best setting is, if that is clearly better than the
    settings that differ from it in this hyperparameter alone; none if no value lies beyond that end.
    """
    ranked = evidence.ranked(evidence.searched)
    if not ranked:
        return []
    found = []
    for item in evidence.spec.hyperparameters:
        at = ranked[0].plan.hyperparameters.get(item.name)
        if not item.makes_settings or not has_two_ends(item) or at is None:
            continue
        ends: tuple[End, ...] = ("low", "high")
        for end in ends:
            beyond = wider(item, end)
            if beyond is not None and same(at, end_value(item, end)):
                found += _of_end(evidence, item, end, ranked[0].plan.setting, beyond)
    return found


def _of_end(evidence: StudyEvidence, item: Hyperparameter, end: End, best: int, beyond: Wider) -> list[Finding]:
    compared = _compared(evidence, item, best)
    clear = [
        found
        for found in compared.values()
        if found is not None and found.points >= FEWEST_POINTS_AT_END and found.wins >= PREFERRED
    ]
    if len(compared) < 2 or len(clear) < len(compared):
        return []
    value = shown_value(end_value(item, end))
    wins = {setting: found.wins for setting, found in compared.items() if found is not None}
    listed = ", ".join(shown_value(number) for number in beyond.value)
    return [
        Finding(
            id="search-boundary",
            level="warning",
            sentence=f"{item.key}={value} is the best value and the {end}est of those compared: a still "
            f"{end}er one may be better.",
            action=f"compare {item.key} in [{listed}], in a new study",
            settings=(best, *compared),
            hyperparameters=(item.key,),
            trials=tuple(run.plan.trial for run in evidence.ranked(evidence.by_setting[best])[:1]),
            numbers={"end": end, "end_value": end_value(item, end), "wins": wins},
            sureness=f"it wins at least {min(wins.values()):.1%} of the draws against each other value",
            changes=(
                Change((*item.path, beyond.key), beyond.value, f"the best value is the {end}est of those compared"),
            ),
        )
    ]


def _compared(evidence: StudyEvidence, item: Hyperparameter, best: int) -> dict[int, PairedBest | None]:
    """The best setting against those that differ from it in this hyperparameter alone, by setting."""
    values = evidence.settings[best]
    return {
        setting: paired_best(by_point(evidence, best), by_point(evidence, setting))
        for setting, others in evidence.settings.items()
        if setting != best and differ_in(values, others) == {item.name}
    }
