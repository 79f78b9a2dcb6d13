"""The trials of a later stage: which ones a study adds when all trials of the stage before it have ended.

The choice depends on the study and the results alone, so that a run that was killed goes on with the same trials.
Those that were promoted before stay, also where more trials of the stage before, or a larger `keep`, make others the
best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.search.boundary import search_boundary_findings
from tunectl.analysis.search.promotion_choice import Chosen, in_words, runs_to_promote
from tunectl.analysis.search.scientific_ends import scientific_end_findings
from tunectl.core.errors import dotted
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import PlannedTrial
from tunectl.core.wording import counted
from tunectl.language.stage_lengths import PROMOTE, last_stage, stage_words
from tunectl.session.open_study import OpenStudy
from tunectl.session.outcome_index import has_ended
from tunectl.session.promoted_trials import promoted
from tunectl.session.study_evidence import indexed_curves, read_evidence


@dataclass(frozen=True, slots=True)
class Promotion:
    """The trials to add, [] where there are none, and why no more are, "" where nothing stops them.

    `stage` is the number of their stage, `chosen` are the trials of the stage before it to promote, also those that
    were, and `evidence` is that of this earlier stage.
    """

    trials: tuple[PlannedTrial, ...] = ()
    stage: int = 0
    chosen: tuple[Chosen, ...] = ()
    evidence: StudyEvidence | None = None
    stopped: str = ""


def promotion(study: OpenStudy) -> Promotion:
    """The trials to add to the first stage that lacks some, where all trials of the stage before it have ended."""
    for stage in range(last_stage(study.spec)):
        here = [item for item in study.outcomes if item.plan.stage == stage and item.plan.trial_kind == "search"]
        if not here or not all(map(has_ended, here)):
            return Promotion()
        found = _of_stage(study, stage)
        if found.trials or found.stopped:
            return found
    return Promotion()


def _of_stage(study: OpenStudy, stage: int) -> Promotion:
    """What is promoted from a stage whose trials have all ended."""
    spec = study.spec
    asked = spec.search.promote[stage]
    outcomes = [item for item in study.outcomes if item.plan.stage == stage]
    evidence = read_evidence(
        study.folder, spec, outcomes, indexed_curves(study.index), spec.objective, stage, with_updates=False
    )
    chosen = runs_to_promote(evidence, asked.keep)
    there = {trial.origin for trial in study.trials if trial.trial_kind == "search"}
    first = max(trial.trial for trial in study.trials) + 1
    missing = [plan for plan in _in_turn(chosen) if replace(plan, stage=stage + 1).origin not in there]
    if not missing:
        return Promotion()
    crowded = [] if asked.despite_boundary else open_boundaries(evidence)
    if crowded:
        return Promotion(stopped=_stopped(study, stage, crowded))
    added = [promoted(spec, plan, first + place) for place, plan in enumerate(missing)]
    return Promotion(tuple(added), stage + 1, tuple(chosen), evidence)


def _in_turn(chosen: Sequence[Chosen]) -> list[PlannedTrial]:
    """The best of each setting, then the second of each: a run that is stopped has some of every setting."""
    longest = max((len(item.runs) for item in chosen), default=0)
    return [item.runs[place].plan for place in range(longest) for item in chosen if place < len(item.runs)]


def open_boundaries(evidence: StudyEvidence) -> list[Finding]:
    """The findings by which a wider range may have better trials than those that would be promoted."""
    found = [*search_boundary_findings(evidence.evenly_sampled), *scientific_end_findings(evidence)]
    return [finding for finding in found if finding.level == "warning"]


def _stopped(study: OpenStudy, stage: int, crowded: Sequence[Finding]) -> str:
    names = ", ".join(dict.fromkeys(name for finding in crowded for name in finding.hyperparameters))
    asked = dotted((*PROMOTE, stage))
    return (
        f"no trial is promoted to {stage_words(study.spec, stage + 1)}: the best trials crowd the end of {names} "
        "(search-boundary), and better ones may be beyond it. "
        f"`{tunectl_command('next', study.folder.path)}` writes a study with a wider range; to promote these trials "
        f"all the same, write despite_boundary: true in {asked}, and run it again"
    )


def promotion_notes(study: OpenStudy, added: Sequence[PlannedTrial]) -> list[str]:
    """What is promoted and why, a line for each setting; [] where these trials are of no later stage."""
    if not any(trial.stage for trial in added):
        return []
    found = promotion(study)
    if found.evidence is None:
        return []
    new, before = stage_words(study.spec, found.stage), stage_words(study.spec, found.stage - 1)
    lines = [f"{new}: {counted(len(added), 'trial')} of {before} {'is' if len(added) == 1 else 'are'} trained anew"]
    return [*lines, *(f"  {in_words(found.evidence, item)}" for item in found.chosen)]
