"""What a study gives as plain objects: a trial, a finding, the answer to its question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunectl.analysis.comparison.answer_sentences import Certainty
from tunectl.analysis.comparison.study_answer import StudyAnswer
from tunectl.analysis.findings import findings
from tunectl.core.errors import dotted
from tunectl.core.folders import StudyFolder
from tunectl.core.records import Scalar, State, TrialOutcome


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial and how good it is by the study's objective.

    `value` is that of its selected evaluation, after `step` updates, where it measured `metrics` too, and `checkpoint`
    is the file with the weights of that moment. They are None where there is no such evaluation, or no file is kept.
    `kind` is search, retrain, or one of a procedure. `reason` and `message` say why a trial did not complete.
    `hyperparameters` are those that are active, in the order of the study.
    """

    trial: int
    setting: int
    stage: int
    kind: str
    seed: int
    hyperparameters: Mapping[str, Scalar]
    state: State
    reason: str
    message: str
    value: float | None
    step: int | None
    metrics: Mapping[str, float]
    checkpoint: Path | None

    @classmethod
    def of(cls, folder: StudyFolder, outcome: TrialOutcome) -> Trial:
        """The trial of a study folder with this outcome."""
        plan, checkpoint = outcome.plan, outcome.best_checkpoint
        return cls(
            trial=plan.trial,
            setting=plan.setting,
            stage=plan.stage,
            kind=plan.trial_kind,
            seed=plan.seed,
            hyperparameters=dict(plan.hyperparameters),
            state=outcome.state,
            reason=outcome.reason,
            message=outcome.message,
            value=outcome.best_value,
            step=outcome.best_step,
            metrics=dict(outcome.metrics_at_best),
            checkpoint=folder.path / checkpoint if checkpoint is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing about a study, as `tunectl report` prints it.

    `code` names the kind of finding. The `severity` is `warning` for something wrong, `note` for something to keep in
    mind. `text` is one sentence, `certainty` how sure it is, `advice` what to do next and `command` the command that
    does it, each "" where there is none. `trials` and `settings` are numbers, and `hyperparameters` keys; each is empty
    where the finding is about none or about all. `numbers` are those behind it, and `changes` the values that it would
    have in the study file, by their place there (`search.trials`).
    """

    code: str
    severity: Literal["warning", "note"]
    text: str
    certainty: str
    advice: str
    command: str
    trials: tuple[int, ...]
    settings: tuple[int, ...]
    hyperparameters: tuple[str, ...]
    numbers: Mapping[str, Any]
    changes: Mapping[str, Any]

    @classmethod
    def of(cls, found: findings.Finding) -> Finding:
        """The finding as it is shown to users of Python."""
        return cls(
            code=found.id,
            severity=found.level,
            text=found.sentence,
            certainty=found.sureness,
            advice=found.action,
            command=found.command,
            trials=tuple(found.trials),
            settings=tuple(found.settings),
            hyperparameters=tuple(found.hyperparameters),
            numbers=dict(found.numbers),
            changes={dotted(change.path): change.value for change in found.changes},
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a study's question, as the end of a run, the page and `tunectl show` give it.

    `sentence` says it with how certain it is. `certainty` is what it rests on: `retrains` or `search` where these show
    that one setting is better than every other, `open` where it is not known which one is, `one setting` where there is
    nothing to compare, and `none` where there is no answer. `basis` are the numbers behind it, a sentence each,
    `doubts` the codes of findings that make it doubtful, and `command` what would make it more certain, "" where
    nothing is known to. `best` is the best trial, None where no trial has a value, and `varying` names those of its
    hyperparameters that vary in the study.
    """

    sentence: str
    certainty: Certainty
    basis: tuple[str, ...]
    doubts: tuple[str, ...]
    command: str
    best: Trial | None
    varying: tuple[str, ...]

    @classmethod
    def of(cls, found: StudyAnswer, best: Trial | None) -> Answer:
        """The answer as it is shown to users of Python; `best` is its best trial."""
        return cls(
            sentence=found.sentence,
            certainty=found.certainty,
            basis=tuple(found.basis),
            doubts=tuple(found.doubts),
            command=found.command,
            best=best,
            varying=() if found.best is None else tuple(found.best.varying),
        )
