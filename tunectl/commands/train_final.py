"""`train-final`: a study's configuration is trained on train and validation together, and `test` evaluated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from tunectl.commands.final_program import FinalProgram, final_program
from tunectl.commands.procedure_report import ProcedureResult, report_procedure
from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.files import try_to_write
from tunectl.core.final_training import FoldedData
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error
from tunectl.core.records import PlannedTrial, TrialOutcome, TrialRequest, TrialResult
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.core.wording import counted, short_number
from tunectl.execution.backends.backend import Backend
from tunectl.execution.slots import Slot
from tunectl.execution.stop_signals import StopRequests, counted_stop_signals
from tunectl.procedures.procedure import Conclusion
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.chosen_trial import ChosenTrial, chosen_trial
from tunectl.session.last_training import LastTraining
from tunectl.session.launched_trial import launched_trial
from tunectl.session.open_study import OpenStudy, open_study, with_trials
from tunectl.session.original_study import original_study
from tunectl.session.outcome_index import has_ended
from tunectl.session.probed_study import ProbedWorkload, probe_workload
from tunectl.session.run_progress import Watcher
from tunectl.session.snapshot import study_snapshot
from tunectl.session.study_code import changed_files
from tunectl.session.training_trials import RunOptions, study_places, train_trials, training_slots
from tunectl.session.written_model import TrainedModel, read_data, write_model_files
from tunectl.store.study_folder import study_path
from tunectl.store.test_looks import TestLook, append_look, looks_beside, read_looks
from tunectl.store.trial_files import read_result, read_trial
from tunectl.store.writing_lock import writing_lock

NAME = "train-final"
_AGAIN = "The more often it is evaluated, the less its numbers say. --again evaluates it once more, and counts that."


@dataclass(frozen=True, slots=True)
class FinalOptions:
    """What to train: the trial with the id `trial` of the study folder `place`; None: the one that its campaign
    launched last, else its best one.

    `again` allows one more evaluation of `test`. `now` is the time, and `token` a new mark for a new folder.
    """

    place: Path
    trial: int | None
    now: str
    token: str
    same_epochs: bool = False
    again: bool = False
    study_file: Path | None = None


@dataclass(frozen=True, slots=True)
class FinalResult:
    """The end of a last training; `infeasible` says why there is no model, "" where there is one or none yet."""

    procedure: ProcedureResult
    infeasible: str = ""

    @property
    def exit_code(self) -> int:
        """0 done, 1 the training failed or is infeasible, 130 interrupted."""
        return self.procedure.exit_code

    def to_json(self) -> dict[str, Any]:
        """The result as one JSON object."""
        return {**self.procedure.to_json(), "infeasible": self.infeasible or None}


def train_final(
    asked: FinalOptions, options: RunOptions, watcher: Watcher, backend: Backend
) -> FinalResult | FinalProgram:
    """Train the configuration of a study's trial on train and validation together, or continue an earlier call.

    A study of own code is only looked at: its program trains by itself. Raises UsageError where the
    trial cannot be trained again, and where `test` was evaluated before for this study; FolderError where that cannot
    be recorded, or a folder cannot be used; and the errors of `run_study`.
    """
    with study_snapshot(asked.place, watcher.message) as study:
        launched = launched_trial(study.folder)
        chosen = chosen_trial(study, launched.trial if asked.trial is None else asked.trial)
    said = launched.problem or launched.in_words(chosen.outcome.plan.trial)
    if said:
        watcher.message(f"{NAME}: {said}")
    if not isinstance(chosen.asked, TrialRequest):
        return final_program(chosen, chosen.asked, options.folder)
    training = LastTraining(chosen.outcome.plan, chosen.asked, chosen.steps.typical, asked.same_epochs)
    place, token = _place(asked, options, chosen)
    _refuse_look(chosen, asked, place, token)
    checked = _checked(asked, chosen, chosen.asked, watcher)
    slots = training_slots(checked.spec, options, backend, 1, place)
    text = record_checksums.sealed(jsontext.encode(_procedure(training, chosen, token))) + b"\n"
    with counted_stop_signals() as stops, ExitStack() as stack:
        opening = open_study(
            chosen.spec, place, watcher, lambda _planned: [], text, may_begin_anew=False, stop_requested=stops
        )
        opened = stack.enter_context(opening)
        run = _Run(opened, checked, backend, slots, options, watcher, stops)
        return _Last(run, chosen, training, asked, token, said).result()


def _place(asked: FinalOptions, options: RunOptions, chosen: ChosenTrial) -> tuple[Path, str]:
    """The folder of this training, and its mark: --to, else runs/<study>.final.

    With --again the first of runs/<study>.final, runs/<study>.final-2, … that is not finished.
    """
    home = study_path(Path("runs"), f"{chosen.spec.name}.final")
    names = (home if number == 1 else home.with_name(f"{home.name}-{number}") for number in count(1))
    place = options.folder or next(name for name in names if not asked.again or not _is_finished(name))
    if place.resolve() == asked.place.resolve():
        raise UsageError(f"--to {place}: expected another folder than that of the study")
    if asked.again and _is_finished(place):
        raise FolderError(f"{place}: has a model already, which is not overwritten; give another --to")
    kept = _content(StudyFolder(place).procedure).get("token")
    return place, kept if isinstance(kept, str) and kept else asked.token


def _is_finished(place: Path) -> bool:
    return StudyFolder(place).conclusion.exists()


def _content(path: Path) -> dict[str, Any]:
    try:
        return sealed_object(regular_files.content(path))
    except (OSError, DamagedError):
        return {}


def _refuse_look(chosen: ChosenTrial, asked: FinalOptions, place: Path, token: str) -> None:
    """Raise UsageError where `test` was evaluated for the study, but by the training in this folder that goes on."""
    looks = read_looks(chosen.folder)
    is_own = any(look.token == token for look in looks)
    others = [look for look in looks if look.token != token]
    if asked.again or not (others or (is_own and _is_finished(place))):
        return
    metrics: Mapping[str, Any] = {}
    if is_own and _is_finished(place):
        metrics = _content(StudyFolder(place).conclusion).get("test") or {}
    raise UsageError(_looked(f"{chosen.folder.path}: its split test", looks, metrics))


def _looked(split: str, looks: Sequence[TestLook], metrics: Mapping[str, Any] | None = None) -> str:
    """The error where `test` was evaluated before, with the metrics of then where they are known."""
    lines = [f"{split} was evaluated before:", *(f"  {look.words}" for look in looks)]
    lines += [f"  {name} {short_number(float(value))}" for name, value in (metrics or {}).items()]
    return "\n".join([*lines, _AGAIN])


def _checked(asked: FinalOptions, chosen: ChosenTrial, request: TrialRequest, watcher: Watcher) -> CheckedStudy:
    """The study by its file; raises UsageError where that now names another workload than the trial had."""
    checked = check_study(asked.study_file or original_study(asked.place), Path.cwd())
    if checked.reference.text != request.workload.text:
        raise UsageError(
            f"{checked.spec.file}: expected the workload {request.workload.text} of trial {chosen.outcome.plan.trial}, "
            f"got {checked.reference.text}"
        )
    for changed in changed_files(chosen.folder, checked.signature.file, checked.spec.code.values()):
        watcher.message(
            f"warning: {changed} has changed since these trials were trained: what is trained now may "
            "be another model, or on other data"
        )
    return checked


def _procedure(training: LastTraining, chosen: ChosenTrial, token: str) -> dict[str, Any]:
    """The content of procedure.json: a call with other options does not go on in this folder."""
    options = {
        "study": chosen.spec.name,
        "trial": chosen.outcome.plan.trial,
        "updates": training.updates,
        "same_epochs": training.same_epochs,
    }
    values = dict(chosen.outcome.plan.hyperparameters)
    return {"procedure": NAME, "options": options, "values": values, "from": None, "token": token}


@dataclass(slots=True)
class _Run:
    """The folder of the training, whose trials run one after the other."""

    opened: OpenStudy
    checked: CheckedStudy
    backend: Backend
    slots: tuple[Slot, ...]
    options: RunOptions
    watcher: Watcher
    stops: StopRequests
    probed: ProbedWorkload | None = field(default=None)

    def ended(self, trial: PlannedTrial) -> TrialOutcome | None:
        """Plan this trial and train it, unless that was done; None where it was stopped or has failed."""
        if len(self.opened.trials) <= trial.trial:
            self.opened = with_trials(self.opened, [trial])
        left = [item for item in self.opened.left(retry_failed=self.options.retry_failed) if item.trial == trial.trial]
        if left:
            if self.probed is None:
                places = study_places(self.checked.spec, self.slots, self.options, self.watcher.message, self.backend)
                self.probed = probe_workload(self.backend, self.checked, left, self.slots, self.stops, places=places)
            train_trials(
                self.opened, left, self.checked, self.probed, self.slots, self.options, self.watcher, self.stops
            )
            self.opened = with_trials(self.opened, [])
        outcome = self.opened.outcomes[trial.trial]
        return outcome if has_ended(outcome) and outcome.state != "failed" else None

    def report(self, conclusion: Conclusion | None) -> ProcedureResult:
        """Write the tables, and with a conclusion conclusion.json, by which the folder is finished."""
        return report_procedure(NAME, self.opened, conclusion, self.watcher, interrupted=self.stops() > 0)


@dataclass(frozen=True, slots=True)
class _Last:
    """The last training in an open folder: it counts the data, trains, and evaluates `test`, each in a trial."""

    run: _Run
    chosen: ChosenTrial
    training: LastTraining
    asked: FinalOptions
    token: str
    launched: str = ""

    def result(self) -> FinalResult:
        """Go through all trials that are left, and write the files of the model."""
        run, folder = self.run, self.run.opened.folder
        if run.ended(self.training.trial("data", None)) is None:
            return FinalResult(run.report(None))
        data = read_data(folder)
        self._check_look(data)
        self._say(data)
        outcome = run.ended(self.training.trial("final", data))
        if outcome is None:
            return FinalResult(run.report(None))
        if outcome.state != "completed" and outcome.reason != "recovered":
            return FinalResult(run.report(None), f"{outcome.reason}: {outcome.message}")
        test: Mapping[str, float] = {}
        if data.has_test:
            if run.stops():
                return FinalResult(run.report(None))
            self._record_look(data)
            if run.ended(self.training.trial("test", data)) is None:
                return FinalResult(run.report(None))
            test = _measured(folder)
        model = self._model(data, test)
        paths = write_model_files(folder, model)
        found = run.report(_conclusion(model, paths))
        return FinalResult(replace(found, paths=(*paths, *found.paths)))

    def _say(self, data: FoldedData) -> None:
        updates, trial = self.training.trained_updates(data), self.chosen.outcome.plan.trial
        self.run.watcher.message(
            f"{NAME}: trial {trial} of {self.chosen.spec.name}, {counted(updates, 'update')} on the "
            f"{data.trained_examples:,} examples of train and valid"
        )
        if data.fold == "as_evaluated":
            self.run.watcher.message(
                f"{NAME}: the workload has no data['valid_for_training']; the examples of valid are trained on as they "
                "are evaluated, without the transforms that train may have"
            )
        if not data.has_test:
            self.run.watcher.message(f"{NAME}: the workload has no split test, so nothing is evaluated at the end")

    def _check_look(self, data: FoldedData) -> None:
        """Raise, before anything is trained, where `test` may not be evaluated or that could not be recorded."""
        folder = self.chosen.folder
        if not data.has_test or any(look.token == self.token for look in read_looks(folder)):
            return
        beside = looks_beside(folder, data.test_digest)
        if beside and not self.asked.again:
            place = beside[0][0]
            looks = [look for folder, look in beside if folder == place]
            raise UsageError(
                _looked(f"{place}, a study beside {folder.path} with the same examples: its split test", looks)
            )
        try:
            try_to_write(folder.path, folder.looks.name)
        except OSError as error:
            raise path_error(folder.looks, "written", error) from error

    def _record_look(self, data: FoldedData) -> None:
        """Record that `test` is evaluated, before it is: a process that is killed in between has looked."""
        folder, say = self.chosen.folder, self.run.watcher.message
        # Another training of the same study may have been running all the time.
        with writing_lock(folder, say):
            looks = read_looks(folder)
            if any(look.token == self.token for look in looks):
                return
            if looks and not self.asked.again:
                raise UsageError(_looked(f"{folder.path}: its split test", looks))
            place = str(self.run.opened.folder.path.resolve())
            trial = self.chosen.outcome.plan.trial
            append_look(folder, TestLook(self.asked.now, trial, place, self.token, data.test_digest))

    def _model(self, data: FoldedData, test: Mapping[str, float]) -> TrainedModel:
        result = read_result(self.run.opened.folder.trial(1))
        chosen = self.chosen
        return TrainedModel(
            spec=chosen.spec,
            training=self.training,
            data=data,
            steps=chosen.steps,
            chosen=chosen.outcome,
            searched=chosen.searched,
            result=result or TrialResult(1, "completed"),
            test=test,
            looks=len(read_looks(chosen.folder)),
            elsewhere=len(looks_beside(chosen.folder, data.test_digest)),
            deviation=chosen.deviation,
            launched=self.launched,
        )


def _measured(folder: StudyFolder) -> Mapping[str, float]:
    measurements = read_trial(folder.trial(2)).measurements
    if not measurements:
        raise FolderError(f"{folder.trial(2).measurements}: is damaged: the metrics of test are missing")
    return measurements[-1].metrics


def _conclusion(model: TrainedModel, paths: tuple[Path, ...]) -> Conclusion:
    trial = model.chosen.plan.trial
    answers = {
        "trial": trial,
        "updates": model.updates,
        "trained_examples": model.data.trained_examples,
        "test": dict(model.test),
        "test_looks": model.looks,
        "model": str(paths[0]),
    }
    times = "once" if model.looks == 1 else f"{model.looks} times"
    tested = f" test was evaluated {times} for this study." if model.test else ""
    verdict = (
        f"The configuration of trial {trial} was trained for {counted(model.updates, 'update')} on "
        f"{model.data.trained_examples:,} examples.{tested}"
    )
    return Conclusion(verdict, answers, ("metric", "value"), list(model.test.items()))
