"""The answer to a study's question in one sentence, with how certain it is, and the best trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.analysis.comparison.answer_sentences import Certainty, no_answer, of_one_setting, of_settings
from tunectl.analysis.comparison.setting_verdicts import OtherSearches, setting_verdicts
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.runs import Run
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import Scalar, TrialOutcome, is_ended
from tunectl.core.wording import counted, short_number
from tunectl.language.stage_lengths import stage_words

DOUBTS = (
    *("shared-files", "steps-do-not-fit", "periodic-evaluations", "seed-without-effect", "search-boundary"),
    *("stages-agree", "sample-not-typical", "below-sample-error", "late-variance", "still-improving", "best-step-late"),
    *("coarse-target", "stopped-early"),
)
"""The findings that make it doubtful which trial is the best, or whether its value is right. Some are notes
in other cases, and count only as warnings.
"""
_ALSO_AS_NOTES = frozenset({"below-sample-error", "stopped-early"})


@dataclass(frozen=True, slots=True)
class BestTrial:
    """The best trial: its value and where it was reached.

    `varying` are the hyperparameters that vary in the study, `fixed` the others. `value` is the objective's number,
    `step` its evaluation and `final_step` the trial's last one. `checkpoint` is relative to the study folder, None
    where none is kept, and `folder` is that folder as commands name it. `command` prints all about the trial.
    """

    trial: int
    setting: int
    stage: int
    value: float | None
    step: int | None
    final_step: int | None
    checkpoint: str | None
    varying: Mapping[str, Scalar]
    fixed: Mapping[str, Scalar]
    command: str = ""
    unit: str = ""
    folder: str = ""

    @property
    def where(self) -> str:
        """Its value, and the step at which it has it, in words."""
        if self.value is None or self.step is None:
            return "has no value"
        if self.unit:
            return f"({short_number(self.value)}{self.unit})"
        last = "" if self.final_step in (None, self.step) else f" of {self.final_step:,}"
        return f"({short_number(self.value)} at step {self.step:,}{last})"

    @property
    def checkpoint_path(self) -> str:
        """The checkpoint from where the commands are called, "" where none is kept."""
        return str(Path(self.folder, self.checkpoint)) if self.checkpoint else ""

    def to_json(self) -> dict[str, Any]:
        """The trial as JSON; its hyperparameters are in one object, those that vary first."""
        return {
            "trial": self.trial,
            "setting": self.setting,
            "stage": self.stage,
            "value": self.value,
            "step": self.step,
            "final_step": self.final_step,
            "checkpoint": self.checkpoint,
            "hyperparameters": {**self.varying, **self.fixed},
            "varying": list(self.varying),
            "command": self.command,
        }


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """The answer to a study's question.

    `sentence` says it with its certainty, `certainty` what it rests on, and `basis` the numbers behind it, a sentence
    each. `doubts` are the ids of findings that make it doubtful. `command` is what would make it more certain, "" where
    nothing is known to. `best` is None where no trial has a value.
    """

    sentence: str
    certainty: Certainty
    basis: Sequence[str] = ()
    doubts: Sequence[str] = ()
    command: str = ""
    best: BestTrial | None = None

    def to_json(self) -> dict[str, Any]:
        """The answer as JSON, as in findings.json."""
        return {
            "sentence": self.sentence,
            "certainty": self.certainty,
            "basis": list(self.basis),
            "doubts": list(self.doubts),
            "command": self.command,
            "best": None if self.best is None else self.best.to_json(),
        }


def study_answer(
    evidence: StudyEvidence,
    outcomes: Sequence[TrialOutcome],
    findings: Sequence[Finding] = (),
    searches: OtherSearches | None = None,
) -> StudyAnswer:
    """The answer of a study, by the evidence of the stage that is judged.

    `outcomes` are those of all its trials under the same objective, `findings` its findings, and `searches` what other
    searches of the same study reached.
    """
    doubts = tuple(
        dict.fromkeys(item.id for item in findings if item.id in DOUBTS and item.level == _least_level(item.id))
    )
    verdicts = setting_verdicts(evidence, searches)
    ranked = evidence.ranked(evidence.searched)
    if verdicts is not None:
        said, best = of_settings(evidence, verdicts), verdicts.best
    elif ranked:
        said, best = of_one_setting(evidence, ranked[0]), ranked[0]
    else:
        said, best = no_answer(evidence), None
    return StudyAnswer(
        said.after(_so_far(evidence, outcomes)),
        said.certainty,
        said.basis,
        doubts,
        said.command,
        None if best is None else best_trial(evidence, best, outcomes),
    )


def _least_level(finding: str) -> str:
    return "note" if finding in _ALSO_AS_NOTES else "warning"


def best_trial(evidence: StudyEvidence, run: Run, outcomes: Sequence[TrialOutcome]) -> BestTrial:
    """A trial as the best one is shown."""
    outcome = next((item for item in outcomes if item.plan.trial == run.plan.trial), None)
    varies = {item.name for item in evidence.spec.hyperparameters if item.varies or item.formula is not None}
    values = run.plan.hyperparameters
    last = run.last_step(evidence.objective)
    return BestTrial(
        run.plan.trial,
        run.plan.setting,
        run.plan.stage,
        run.best_value,
        run.best_step,
        int(last) if last else None,
        None if outcome is None else outcome.best_checkpoint,
        {name: value for name, value in values.items() if name in varies},
        {name: value for name, value in values.items() if name not in varies},
        tunectl_command("show", evidence.folder, run.plan.trial) if evidence.folder else "",
        " steps" if evidence.objective.steps_to is not None else "",
        evidence.folder,
    )


def _so_far(evidence: StudyEvidence, outcomes: Sequence[TrialOutcome]) -> str:
    """The beginning of the sentence: the stage that is judged, and how many trials have ended where some have not."""
    search = [item for item in outcomes if item.plan.trial_kind == "search"]
    ended = sum(is_ended(item.state, item.reason) for item in search)
    parts = []
    if ended < len(search):
        parts.append(f"So far ({ended:,} of {counted(len(search), 'trial')} ended)")
    if evidence.spec.search.promote:
        parts.append(f"{'by' if parts else 'By'} {stage_words(evidence.spec, evidence.stage)}")
    return f"{', '.join(parts)}: " if parts else ""
