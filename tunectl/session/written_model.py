"""The files beside the weights of a last training, written from what its trials have measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.analysis.results.best_steps import BestSteps
from tunectl.core import jsontext, regular_files, typed_fields
from tunectl.core.errors import FolderError
from tunectl.core.files import write_if_changed
from tunectl.core.final_training import FoldedData
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.records import TrialOutcome, TrialRequest, TrialResult
from tunectl.core.wording import counted, listed, short_number
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.study_spec import StudySpec
from tunectl.report.model_card import LOADER, ModelCard, card_text
from tunectl.session.last_training import LastTraining
from tunectl.store.provenance import command_of, has_uncommitted_changes, read_provenance
from tunectl.store.trial_files import read_trial

FORMAT = 1


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A last training whose trials have ended.

    `chosen` is the trial of the study, of whose search `searched` trials ended, and `deviation` the standard deviation
    of its retrains, None where that is not known; `looks` is how often `test` was evaluated for that study, this time
    included, and `elsewhere` how often for others beside it. `launched` says whether a campaign launched this
    configuration, "" where there is none.
    """

    spec: StudySpec
    training: LastTraining
    data: FoldedData
    steps: BestSteps
    chosen: TrialOutcome
    searched: int
    result: TrialResult
    test: Mapping[str, float]
    looks: int
    elsewhere: int = 0
    deviation: float | None = None
    launched: str = ""

    @property
    def updates(self) -> int:
        """The number of updates that were trained."""
        return self.training.trained_updates(self.data)


def read_data(folder: StudyFolder) -> FoldedData:
    """What the first trial has counted; raises FolderError where that cannot be read."""
    path = folder.trial(0).data
    with path_errors(path, "read"):
        content = regular_files.content(path, within=folder.path)
    try:
        return typed_fields.typed(FoldedData, typed_fields.sealed_object(content))
    except typed_fields.DamagedError as error:
        raise FolderError(f"{path}: is damaged ({error})") from error


def write_model_files(folder: StudyFolder, model: TrainedModel) -> tuple[Path, ...]:
    """Write configuration.json, load_model.py and the model card; raises FolderError where one cannot be written."""
    runs = read_provenance(folder)
    last = runs[-1] if runs else {}
    contents = {
        folder.configuration: jsontext.encode(_configuration(folder, model, last), indent=2) + "\n",
        folder.loader: LOADER,
        folder.card: card_text(_card(model, last)),
    }
    for path, text in contents.items():
        with path_errors(path, "written"):
            write_if_changed(path, text.encode("utf-8", "backslashreplace"), within=folder.path)
    return (folder.model, *contents)


def _configuration(folder: StudyFolder, model: TrainedModel, run: Mapping[str, Any]) -> dict[str, Any]:
    tested = folder.trial(2 if model.test else 1)
    return {
        "format": FORMAT,
        "study": model.spec.name,
        "trial": model.chosen.plan.trial,
        "hyperparameters": model.training.hyperparameters(model.data),
        "updates": model.updates,
        "best_steps": {str(trial): step for trial, step in model.steps.by_trial.items()},
        "same_epochs": model.training.same_epochs,
        "data": typed_fields.untyped(model.data),
        "test": dict(model.test),
        "test_looks": model.looks,
        "request": _request(folder, tested.request).to_json(),
        "workload_file": run.get("workload_file"),
        "versions": run.get("versions"),
    }


def _request(folder: StudyFolder, path: Path) -> TrialRequest:
    content = read_trial(folder.trial(int(path.parent.name))).request
    if content is None:
        raise FolderError(f"{path}: is missing, or cannot be read")
    return TrialRequest.from_json(content)


def _card(model: TrainedModel, run: Mapping[str, Any]) -> ModelCard:
    spec, plan = model.spec, model.chosen.plan
    return ModelCard(
        title=f"{spec.name}: the model of trial {plan.trial}",
        goal=spec.goal,
        workload=model.training.asked.workload.text,
        hyperparameters=model.training.hyperparameters(model.data),
        facts=_facts(model),
        splits=model.data.splits,
        trained_on=model.data.trained_examples,
        test=model.test,
        caveats=_caveats(model, run),
        command=command_of(run),
        provenance=_provenance(run),
        versions={"python": run.get("python"), **(run.get("versions") or {})},
    )


def _facts(model: TrainedModel) -> list[str]:
    best, training = model.steps, model.training
    whole = TrainingConfiguration(**training.asked.configuration).total_steps(training.asked.max_train_steps)
    trials = listed([f"{trial} ({step:,})" for trial, step in best.by_trial.items()])
    which = f"the best step of trial {trials}"
    if len(best.by_trial) > 1:
        which = f"the median of the best steps of trials {trials}: {best.typical:,}"
    if training.same_epochs:
        facts = [
            f"{counted(model.updates, 'update')}: as many epochs as {best.typical:,} of {whole:,} updates were in the "
            f"study ({which}). The training set is larger, and all lengths of the learning-rate schedule grow with it."
        ]
    else:
        end = "." if best.typical >= whole else ", cut off after the last update."
        facts = [
            f"{counted(model.updates, 'update')} of {whole:,} ({which}).",
            f"Each update had the learning rate that it had in the study: the schedule is the same{end}",
        ]
    facts.append(
        f"Seed {training.asked.seed}, that of trial {model.chosen.plan.trial}. There is no validation set to select a "
        "checkpoint by: the weights are those after the last update, as they are evaluated (averaged where the "
        "configuration averages them, with the statistics of batch normalisation that the study evaluates)."
    )
    facts.append(f"Trained in {short_number(model.result.train_seconds)} s on {model.result.device or 'a device'}.")
    return facts


def _caveats(model: TrainedModel, run: Mapping[str, Any]) -> list[str]:
    objective, chosen = model.spec.objective, model.chosen
    reached = "" if chosen.best_value is None else f" ({short_number(chosen.best_value)})"
    caveats = [
        f"Trial {chosen.plan.trial} was chosen among {counted(model.searched, 'trial')} by {objective.title}{reached}: "
        "that number is optimistic, and is not a measurement of this model.",
        "This model was trained on `valid` too, so no number on `valid` says how good it is.",
        "Nothing is left to tune or to select with. This suits a workload that is not launched again; for one that "
        "is, keep the model of the study, and `valid`.",
        _seed(model),
    ]
    if model.launched:
        caveats.append(f"{model.launched[0].upper()}{model.launched[1:].rstrip('.')}.")
    if model.data.fold == "as_evaluated":
        caveats.append(
            "The examples of `valid` were trained on as they are evaluated: the workload has no "
            '`data["valid_for_training"]`, so transforms that its `train` may have were not applied to them.'
        )
    if model.test:
        caveats.append(_looks(model))
    if model.result.reason == "recovered":
        caveats.append(f"The training was {model.result.message}.")
    if has_uncommitted_changes(run):
        caveats.append("The code had changes that are not in a commit; uncommitted.diff has those that were kept.")
    return caveats


def _seed(model: TrainedModel) -> str:
    if model.deviation is None:
        return "It is one training with one seed; `tunectl retrain` measures how much another seed changes."
    deviation, title = short_number(model.deviation), model.spec.objective.title
    return f"It is one training with one seed: between retrains in the study {title} had a deviation of {deviation}."


def _looks(model: TrainedModel) -> str:
    beside = f", and {counted(model.elsewhere, 'time')} for studies beside it" if model.elsewhere else ""
    again = " Each look but the first makes its numbers more optimistic." if model.looks + model.elsewhere > 1 else ""
    return f"`test` was evaluated {counted(model.looks, 'time')} for this study{beside}.{again}"


def _provenance(run: Mapping[str, Any]) -> list[str]:
    git, workload = run.get("git") or {}, run.get("workload_file") or {}
    facts = {
        "time": run.get("time"),
        "host": run.get("host"),
        "platform": run.get("platform"),
        "commit": git.get("commit"),
        "workload": workload.get("path"),
        "SHA-256 of the workload": workload.get("sha256"),
    }
    return [f"{name}: {value}" for name, value in facts.items() if value]
