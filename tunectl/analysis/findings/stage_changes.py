"""Findings of a study with stages: which stage each is about, and where in the study file its changes belong."""

from __future__ import annotations

import math
from dataclasses import replace

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.language.stage_lengths import LENGTH, PROMOTE, last_stage, stage_words, training_of


def named_stage(evidence: StudyEvidence, finding: Finding) -> Finding:
    """A finding about an earlier stage than the judged one, which its sentence names."""
    stage = stage_words(evidence.spec, evidence.stage)
    return replace(finding, sentence=f"{stage[0].upper()}{stage[1:]}: {finding.sentence}")


def with_changes_of_stage(evidence: StudyEvidence, finding: Finding) -> Finding:
    """The finding with the changes of `training:` where the length of its stage is.

    A length that is not between those of the stages around it is not proposed: short trials may still improve, as the
    next stage trains longer.
    """
    if not evidence.spec.search.promote:
        return finding
    lengths = [change for change in finding.changes if change.path == ("training", LENGTH)]
    shortest, longest = _between(evidence)
    refused = [change for change in lengths if not shortest < change.value < longest]
    changes = tuple(_moved(evidence, change) for change in finding.changes if change not in refused)
    finding = replace(finding, changes=changes)
    if not refused:
        return finding
    if refused[0].value >= longest:
        action = f"nothing: {stage_words(evidence.spec, evidence.stage + 1)} trains longer; judge it there"
        return replace(finding, action=action, level="note")
    return replace(finding, action=f"leave this stage out: stage {evidence.stage - 1} trains for {shortest:,} steps")


def _between(evidence: StudyEvidence) -> tuple[float, float]:
    """The lengths of the stages before and after this one: 0 and infinite where there is none."""
    before = evidence.earlier_stages[-1].spec.training.max_train_steps if evidence.earlier_stages else 0
    is_last = evidence.stage >= last_stage(evidence.spec)
    after = math.inf if is_last else training_of(evidence.spec, evidence.stage + 1).max_train_steps
    return before, after


def _moved(evidence: StudyEvidence, change: Change) -> Change:
    if evidence.stage and change.path in (("training", LENGTH), ("training", "eval_every")):
        return replace(change, path=(*PROMOTE, evidence.stage - 1, change.path[-1]))
    return change
