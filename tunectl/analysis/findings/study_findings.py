"""The list of all findings, in order of importance, and the findings of one study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from tunectl.analysis.comparison.not_distinguishable import settings_findings
from tunectl.analysis.curves.overfitting import overfitting
from tunectl.analysis.curves.step_units import steps_do_not_fit, steps_from_zero
from tunectl.analysis.curves.training_length import best_step_early, best_step_late, saturated_early, still_improving
from tunectl.analysis.findings.budget_findings import (
    fixed_caveat_findings,
    not_improved_findings,
    sampled_enough_findings,
)
from tunectl.analysis.findings.curvature_findings import (
    above_stability_bound,
    catapult_findings,
    curvature_limited,
    edge_of_stability_findings,
    left_the_stable_region,
    progressive_sharpening_findings,
)
from tunectl.analysis.findings.curve_findings import late_variance, periodic_evaluations, train_loss_rising
from tunectl.analysis.findings.early_stopping_findings import stopped_early, without_stopped
from tunectl.analysis.findings.evaluation_findings import below_sample_error, never_predicted, untypical_sample
from tunectl.analysis.findings.file_findings import SHARED_FILES, file_findings
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.findings.seed_findings import seed_findings
from tunectl.analysis.findings.stage_changes import named_stage, with_changes_of_stage
from tunectl.analysis.findings.stage_findings import stages_agree
from tunectl.analysis.findings.target_findings import coarse_target, target_not_reached
from tunectl.analysis.findings.update_findings import (
    clipping_too_aggressive,
    diverging,
    gradient_outliers,
    loss_plateau,
    loss_spikes,
    update_ratio,
)
from tunectl.analysis.search.boundary import search_boundary_findings
from tunectl.analysis.search.features import feature_without_gain_findings
from tunectl.analysis.search.insensitive import insensitive_findings
from tunectl.analysis.search.interactions import interaction_findings
from tunectl.analysis.search.narrowing import range_too_wide_findings
from tunectl.analysis.search.scales import linear_scale_findings
from tunectl.analysis.search.scientific_ends import scientific_end_findings
from tunectl.analysis.search.sensitivity import sensitive_findings
from tunectl.analysis.updates.infeasible_fraction import infeasible_fraction_findings
from tunectl.analysis.updates.stability_edge import stability_edge_findings
from tunectl.core.proposed_commands import tunectl_command

FindingFunction = Callable[[StudyEvidence], Sequence[Finding]]


def _of_sampled(find: FindingFunction) -> FindingFunction:
    """A finding about how trials cover the space: it is made without those that a model proposed."""
    return lambda evidence: find(evidence.evenly_sampled)


FINDINGS: Mapping[str, FindingFunction] = {
    # The results of trials that overwrite each other's files cannot be trusted.
    SHARED_FILES: lambda evidence: file_findings(evidence.spec, evidence.written, evidence.shared_folders),
    # A bug in the data, or most trials infeasible: nothing else matters until that is fixed.
    "steps-do-not-fit": steps_do_not_fit,
    "periodic-evaluations": periodic_evaluations,
    # Where seeds change nothing, no deviation, comparison or verdict has a basis.
    "seed-without-effect": seed_findings,
    "infeasible-fraction": _of_sampled(infeasible_fraction_findings),
    "target-not-reached": target_not_reached,
    "diverging": diverging,
    "stability-edge": _of_sampled(stability_edge_findings),
    "left-the-stable-region": left_the_stable_region,
    "curvature-limited": curvature_limited,
    "train-loss-rising": train_loss_rising,
    "overfitting": overfitting,
    "linear-scale": linear_scale_findings,
    "search-boundary": _of_sampled(search_boundary_findings),
    "search-boundary of the scientific hyperparameters": scientific_end_findings,
    "stages-agree": stages_agree,
    "saturated-early": saturated_early,
    "best-step-early": best_step_early,
    "still-improving": still_improving,
    "best-step-late": best_step_late,
    "plateau": loss_plateau,
    "loss-spikes": loss_spikes,
    "gradient-outliers": gradient_outliers,
    "clipping-too-aggressive": clipping_too_aggressive,
    "late-variance": late_variance,
    "coarse-target": coarse_target,
    "sample-not-typical": untypical_sample,
    "settings-not-distinguishable": settings_findings,
    "below-sample-error": below_sample_error,
    "class-never-predicted": never_predicted,
    "update-ratio": update_ratio,
    "above-stability-bound": above_stability_bound,
    "catapult": catapult_findings,
    "progressive-sharpening": progressive_sharpening_findings,
    "edge-of-stability": edge_of_stability_findings,
    "stopped-early": stopped_early,
    "sampled-enough": _of_sampled(sampled_enough_findings),
    "not-improved": not_improved_findings,
    "sensitive": sensitive_findings,
    "interaction": interaction_findings,
    "insensitive": _of_sampled(insensitive_findings),
    "range-too-wide": _of_sampled(range_too_wide_findings),
    "feature-without-gain": _of_sampled(feature_without_gain_findings),
    "fixed-caveat": fixed_caveat_findings,
    "steps-from-zero": steps_from_zero,
}
"""The function of each finding, by the finding's id: what should be fixed first comes first, because a later finding
may only be its consequence. Where two functions make findings of one id, the second has a longer name.
"""


OF_THE_SEARCH = frozenset(
    (
        *("stability-edge", "linear-scale", "sampled-enough"),
        *("sensitive", "interaction", "insensitive", "range-too-wide"),
    )
)
"""What these say of the search space is true only for points that cover it evenly, as those of the first stage do: the
points of a later stage are a selection.
"""
AT_EACH_STAGE = frozenset(("search-boundary", "infeasible-fraction", "stopped-early"))
"""These are asked of the first stage, which has more trials, and of the judged one."""


_NOT_OF_DRIFTING = frozenset(("range-too-wide", "insensitive"))
"""These leave out a part of the space by what the first stage showed. For a hyperparameter whose best value does not
carry over to the next stage (`stages-agree`) or whose end the long trials crowd (`search-boundary`) they are not made.
"""


class FindingAttempt(Protocol):
    """How a finding's function is called: returns what `work` returns, or `instead` if it fails."""

    def __call__(
        self, name: str, work: Callable[[], Sequence[Finding]], instead: Sequence[Finding]
    ) -> Sequence[Finding]:
        """Return the findings of the function with this name."""


def study_findings(evidence: StudyEvidence, attempt: FindingAttempt | None = None) -> list[Finding]:
    """The findings of a study: the warnings before the notes, each in the order of FINDINGS.

    An error in a finding's function is raised, unless `attempt` catches it.
    """
    found: list[Finding] = []
    for name, find in FINDINGS.items():
        for judged in _judged(evidence, name):
            work = partial(find, judged)
            own = work() if attempt is None else attempt(f"the finding {name}", work, ())
            own = without_stopped(judged, [with_changes_of_stage(judged, finding) for finding in own])
            found += own if judged is evidence else [named_stage(judged, finding) for finding in own]
    if evidence.of_search is not evidence:
        found = _without_drifting(found)
    order = {name: place for place, name in enumerate(FINDINGS)}
    found.sort(key=lambda finding: (finding.level != "warning", order.get(finding.id, len(order))))
    return [_with_next_command(evidence, finding) for finding in found]


def _without_drifting(findings: Sequence[Finding]) -> list[Finding]:
    contrary = [finding for finding in findings if finding.id in ("stages-agree", "search-boundary")]
    keys = {key for finding in contrary for key in finding.hyperparameters}
    return [item for item in findings if item.id not in _NOT_OF_DRIFTING or keys.isdisjoint(item.hyperparameters)]


def _judged(evidence: StudyEvidence, name: str) -> list[StudyEvidence]:
    """The stages about which a finding's function is asked."""
    first = evidence.of_search
    if first is evidence or name not in OF_THE_SEARCH | AT_EACH_STAGE:
        return [evidence]
    return [first, evidence] if name in AT_EACH_STAGE else [first]


def _with_next_command(evidence: StudyEvidence, finding: Finding) -> Finding:
    """The finding with the command that writes a new study with its changes, unless it has a command already."""
    if finding.command or not finding.changes or not evidence.folder:
        return finding
    return replace(finding, command=tunectl_command("next", evidence.folder))
