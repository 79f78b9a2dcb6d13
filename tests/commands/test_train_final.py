"""`train-final`, from a finished study to a model: what it writes, and that `test` is looked at once, whatever happens.

Trials run in this process, so that it can be stopped at any place; one test calls the command itself.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_folders import made_up_folder
from misbehaving import regression
from watchers import Silent

from tunectl.commands import train_final as command
from tunectl.commands.final_program import FinalProgram
from tunectl.commands.train_final import FinalOptions, FinalResult, train_final
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.own_code_request import Request, request_in
from tunectl.core.probed_trial import ProbedTrial
from tunectl.core.records import PlannedTrial, Scalar, TrialRequest, WorkloadReference
from tunectl.execution.backends.backend import Backend, BackendEvent, BackendReady, ProcessEnded, ProcessStarted
from tunectl.execution.devices import CPU
from tunectl.execution.shared_places import OWN_PLACES, Places
from tunectl.execution.slots import Slot, make_slots
from tunectl.language.study_spec import ResourcesSection
from tunectl.session.checked_study import check_study
from tunectl.session.training_trials import RunOptions
from tunectl.session.trial_requests import trial_request
from tunectl.store.plan_file import read_plan
from tunectl.store.study_folder import study_and_trial
from tunectl.store.test_looks import append_look, read_looks
from tunectl.store.trial_files import write_request, write_result
from tunectl.training.final_model import load_final
from tunectl.training.final_trial import run_final
from tunectl.workloads.workload import Workload

NOW = "2026-03-01T12:00:00+00:00"


class Killed(BaseException):
    """The process ends here."""


class SameProcess:
    """A backend that runs each trial at once in this process, as the worker would."""

    name = "local"

    def __init__(self, factory: Callable[..., Workload] = regression) -> None:
        self.factory = factory
        self.events: list[BackendEvent] = []

    def slots(self, resources: ResourcesSection, count: int | None = None) -> tuple[Slot, ...]:
        return make_slots([CPU], 1, resources.threads_per_trial, count, cores=1)

    def places(
        self, resources: ResourcesSection, slots: Sequence[Slot], say: Callable[[str], None], *, waits: bool = True
    ) -> Places:
        return OWN_PLACES

    def start(self, *, own_code: bool = False) -> None: ...

    def load(
        self, workload: WorkloadReference, arguments: Mapping[str, Scalar], code: Sequence[WorkloadReference] = ()
    ) -> None: ...

    def wait_ready(self, stop_requested: Callable[[], int] = lambda: 0) -> BackendReady | None:
        return BackendReady(0.0)

    def probe(self, request: Request, slot: Slot, stop_requested: Callable[[], int] = lambda: 0) -> ProbedTrial | None:
        return ProbedTrial(100)

    def hold(self, fd: int) -> None: ...

    def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
        home = TrialFolder(folder)
        request = request_in(home.request.read_bytes())
        assert isinstance(request, TrialRequest)
        result = run_final(request, home, self.factory, device="cpu", stop=lambda: False, seconds=TrialSeconds())
        assert result is not None
        write_result(home, replace(result, attempt=attempt))
        self.events += [ProcessStarted(trial, os.getpid()), ProcessEnded(trial, 0, None, 0.0)]

    def poll(self, timeout_seconds: float) -> Sequence[BackendEvent]:
        events, self.events = self.events, []
        return events

    def end_recorded(self, trial: int) -> None: ...

    def stop(self, trial: int) -> None: ...

    def kill(self, trial: int) -> None: ...

    def close(self) -> None: ...


def finished(place: Path, study: Path, more: tuple[PlannedTrial, ...] = ()) -> StudyFolder:
    """A study that was run: trial 1 is its best, at step 50 of 100; `more` are trials beyond its search."""
    text, values = study.read_text(), lambda plan: 0.5 - plan.point / 10 - plan.repeat / 100
    folder = made_up_folder(place, text, values, file=study, more=more)
    known = check_study(study, study.parent)
    for trial in read_plan(folder.plan):
        request = trial_request(known.spec, known.reference, known.signature, trial)
        write_request(folder.trial(trial.trial), request)
    return folder


@pytest.fixture
def study(write_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    monkeypatch.chdir(tmp_path)
    return finished(Path("runs") / "small", write_study(steps=100))


def train(study: StudyFolder, to: Path | None = None, backend: Backend | None = None, **options: Any) -> FinalResult:
    values = {"place": study.path, "trial": None, "now": NOW, "token": os.urandom(4).hex(), **options}
    watching = Silent()
    found = train_final(FinalOptions(**values), RunOptions(folder=to), watching, backend or SameProcess())
    assert isinstance(found, FinalResult)
    return found


def model_of(folder: StudyFolder) -> dict[str, bytes]:
    """What a model is: its weights and its metrics."""
    files = (folder.model, folder.trial(2).measurements, folder.trial(1).steps)
    return {path.name: path.read_bytes() for path in files}


FINAL = StudyFolder(Path("runs") / "small.final")


def test_the_command_writes_a_model_and_is_refused_a_second_time(study, tunectl):
    called = tunectl("train-final", study.path, "--json")
    assert called.code == 0, called.err
    answer = called.json()
    assert (answer["trial"], answer["updates"], answer["trained_examples"], answer["test_looks"]) == (1, 50, 192, 1)
    assert load_final(FINAL.path).evaluate("test") == answer["test"]
    (look,) = read_looks(study)
    assert (look.trial, look.folder) == (1, str(FINAL.path.resolve()))
    card = FINAL.card.read_text()
    assert "`train` 128, `valid` 64, `test` 64" in card
    assert "50 updates of 100 (the best step of trial 1 (50))." in card
    assert "`test` was evaluated 1 time for this study." in card
    refused = tunectl("train-final", study.path)
    assert (refused.code, refused.out) == (2, "")
    assert f"its split test was evaluated before:\n  {look.words}\n" in refused.err
    assert f"test/distance {answer['test']['test/distance']:.4g}" in refused.err


def test_neither_another_trial_nor_another_folder_nor_a_study_beside_it_gives_a_second_look(study, write_study):
    train(study)
    weights = model_of(FINAL)
    for options in ({"trial": 0}, {"same_epochs": True}, {"to": Path("elsewhere")}, {"trial": 0, "to": Path("there")}):
        with pytest.raises(UsageError, match=r"small: its split test was evaluated before:\n  at 2026"):
            train(study, **options)
    other = finished(Path("runs") / "other", write_study("other.yaml", name="other", steps=100))
    with pytest.raises(UsageError, match=r"small, a study beside .*other with the same examples: its split test was"):
        train(other)
    assert not StudyFolder(Path("runs") / "other.final").trial(1).path.exists()
    assert not Path("elsewhere").exists()
    assert model_of(FINAL) == weights
    assert (len(read_looks(study)), read_looks(other)) == (1, [])

    # Once more, on purpose: it is counted, and the first model stays.
    found = train(study, trial=0, same_epochs=True, again=True)
    again = StudyFolder(Path("runs") / "small.final-2")
    assert found.procedure.folder.path == again.path
    assert found.to_json()["test_looks"] == 2 == len(read_looks(study))
    assert found.to_json()["updates"] == 75, "the training set is half as large again"
    assert "`test` was evaluated 2 times for this study." in again.card.read_text()
    assert model_of(FINAL) == weights
    with pytest.raises(FolderError, match="has a model already, which is not overwritten"):
        train(study, FINAL.path, again=True)
    assert "1 time for this study, and 2 times for studies beside it" in _card(train(other, again=True))


def test_where_the_trial_was_retrained_the_median_of_the_best_steps_is_trained(tmp_path, write_study, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write_study(steps=100, trials=2)
    first = read_plan(finished(Path("runs") / "first", file).plan)[1]
    more = tuple(replace(first, trial=trial, repeat=trial - 1, trial_kind="retrain") for trial in (2, 3))
    study = finished(Path("runs") / "small", file, more)
    for trial, step in ((2, 80), (3, 60)):
        lines = study.trial(trial).measurements
        lines.write_text(lines.read_text().replace('"step": 50', f'"step": {step}'))
    found = train(study)
    assert found.to_json()["updates"] == 60
    card = _card(found)
    assert "60 updates of 100 (the median of the best steps of trials 1 (50), 2 (80) and 3 (60): 60)." in card
    assert "between retrains in the study valid/distance had a deviation of" in card


def _card(found: FinalResult) -> str:
    return found.procedure.folder.card.read_text()


def killing(where: str, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
    """Kill this process at the next call of a function of the command, before it or after it."""
    function = getattr(command, where)

    def killed(*arguments: Any, **more: Any) -> Any:
        if after:
            function(*arguments, **more)
        raise Killed

    monkeypatch.setattr(command, where, killed)


def killed_at(where: str, study: StudyFolder, monkeypatch: pytest.MonkeyPatch, *, after: bool, **options: Any) -> None:
    with monkeypatch.context() as here:
        killing(where, here, after=after)
        with pytest.raises(Killed):
            train(study, **options)


MOMENTS = ["open_study", "train_trials", "train_trials", "append_look", "train_trials", "write_model_files"]
"""In the order in which they come: each of the three trials has a call of train_trials."""


def test_after_kills_at_all_moments_the_same_command_ends_with_the_same_model_and_one_look(study, monkeypatch):
    whole = Path("whole.final")
    train(study, whole)
    study.looks.unlink()
    looks = []
    for where in MOMENTS:
        for after in (False, True):
            killed_at(where, study, monkeypatch, after=after)
            looks.append(len(read_looks(study)))
    killed_at("report_procedure", study, monkeypatch, after=False)
    assert looks == [0] * 7 + [1] * 5
    found = train(study)
    assert found.exit_code == 0
    assert model_of(FINAL) == model_of(StudyFolder(whole))
    assert found.to_json()["test_looks"] == 1 == len(read_looks(study))
    assert load_final(FINAL.path).evaluate("test") == found.to_json()["test"]


def test_a_call_that_was_killed_after_the_record_has_looked(study, monkeypatch):
    killed_at("append_look", study, monkeypatch, after=True)
    shutil.rmtree(FINAL.path)
    with pytest.raises(UsageError, match="was evaluated before"):
        train(study)
    assert not FINAL.path.exists()


def test_one_that_was_killed_before_it_has_not(study, monkeypatch):
    killed_at("append_look", study, monkeypatch, after=False)
    shutil.rmtree(FINAL.path)
    assert train(study, trial=0).to_json()["test_looks"] == 1


def test_one_that_was_stopped_after_the_training_has_not(study, monkeypatch):
    class Interrupted(SameProcess):
        def launch(self, trial: int, folder: Path, slot: Slot, attempt: int) -> None:
            super().launch(trial, folder, slot, attempt)
            if trial == 1:
                signal.raise_signal(signal.SIGTERM)

    assert train(study, backend=Interrupted()).exit_code == 130
    assert FINAL.model.exists()
    assert read_looks(study) == []
    assert train(study).to_json()["test_looks"] == 1


def test_a_training_goes_on_where_both_folders_were_moved(study, monkeypatch):
    killed_at("append_look", study, monkeypatch, after=True)
    shutil.move("runs", "moved")
    moved, final = StudyFolder(Path("moved") / "small"), Path("moved") / "small.final"
    assert train(moved, final).to_json()["test_looks"] == 1
    assert load_final(final).evaluate("test")


def test_of_two_trainings_at_the_same_time_only_one_looks(study, monkeypatch):
    record, others = command._Last._record_look, [Path("first")]

    def meanwhile(last: Any, data: Any) -> None:
        if others:
            train(study, others.pop())
        record(last, data)

    monkeypatch.setattr(command._Last, "_record_look", meanwhile)
    with pytest.raises(UsageError, match="was evaluated before"):
        train(study)
    assert FINAL.model.exists()
    assert not FINAL.trial(2).path.exists()
    # Its model is not lost: with --again the same folder goes on.
    assert train(study, again=True).procedure.folder.path == FINAL.path
    assert len(read_looks(study)) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_look_that_cannot_be_recorded_is_not_made(study, monkeypatch, number):
    def refused(*_arguments: Any, **_more: Any) -> None:
        raise OSError(number, os.strerror(number))

    def on_a_full_disk(*arguments: Any) -> None:
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", refused)
            append_look(*arguments)

    with monkeypatch.context() as here:
        if number == errno.ENOSPC:
            here.setattr(command, "append_look", on_a_full_disk)
        else:  # a folder that is read-only is found before anything is trained
            here.setattr(command, "try_to_write", refused)
        with pytest.raises(FolderError, match=r"test_looks\.jsonl: cannot be written: (No space left|Read-only)"):
            train(study)
    assert FINAL.model.exists() == (number == errno.ENOSPC)
    assert not FINAL.trial(2).path.exists()
    assert read_looks(study) == []
    assert train(study).to_json()["test_looks"] == 1


def test_a_workload_without_test_is_trained_and_says_so(study):
    def without_test() -> Workload:
        workload = regression()
        return replace(workload, data={name: data for name, data in workload.data.items() if name != "test"})

    for _ in range(2):
        found = train(study, backend=SameProcess(without_test))
        assert (found.exit_code, found.to_json()["test"]) == (0, {})
    assert "`test` was not evaluated: the workload has no such split." in FINAL.card.read_text()
    assert not study.looks.exists()
    assert "test" not in load_final(FINAL.path).request.objective.metric


def test_a_training_that_cannot_work_writes_no_model_and_does_not_look(tmp_path, write_study, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = finished(Path("runs") / "small", write_study(learning_rate="learning_rate: 1e30", trials=1, steps=100))
    found = train(study)
    assert found.exit_code == 1
    assert found.infeasible.startswith("nan_")
    assert not FINAL.model.exists()
    assert read_looks(study) == []


def test_a_folder_with_other_files_or_another_request_is_left_alone(study):
    other = Path("other")
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(FolderError, match="is not empty and is not a study folder"):
        train(study, other)
    assert (other / "mine.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="expected another folder than that of the study"):
        train(study, study.path)
    with pytest.raises(FolderError, match="has the trials of a study already"):
        train(study, finished(Path("runs") / "there", Path("small.yaml")).path)


def test_only_a_completed_trial_of_a_finished_study_is_trained_again(study):
    with pytest.raises(UsageError, match="expected a trial from 0 to 1"):
        train(study, trial=2)
    (study.trial(0).path / "result.json").unlink()
    with pytest.raises(UsageError, match="1 trial of the search has not ended"):
        train(study)
    with pytest.raises(UsageError, match="expected a completed trial, got one that is"):
        train(study, trial=0)
    study.trial(1).request.unlink()
    with pytest.raises(FolderError, match="what the trial trained is not known"):
        train(study, trial=1)


def test_a_trial_is_named_by_its_folder_or_its_number(study):
    assert study_and_trial(study.path) == (study.path, None)
    assert study_and_trial(study.path / "1") == (study.path, 1)
    assert study_and_trial(study.trial(1).path) == (study.path, 1)
    shutil.move(study.path, "2026")
    assert study_and_trial(Path("2026")) == (Path("2026"), None)


def test_the_command_of_own_code_is_printed_with_its_values_and_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    file = tmp_path / "own.yaml"
    file.write_text(OWN_CODE)
    study = finished(Path("runs") / "own", file)
    asked = FinalOptions(study.path, 1, NOW, "token")
    found = train_final(asked, RunOptions(), Silent(), SameProcess())
    assert isinstance(found, FinalProgram)
    home, final = tmp_path / "runs" / "own" / "trials" / "00001", tmp_path / "runs" / "own.final"
    assert found.best_step == 50
    assert "is the task of the program" in found.explanation
    assert found.lines[0] == f"(mkdir -p {final} && cd {tmp_path} && env \\"
    assert found.lines[-1] == f"  python train.py --lr=0.5 --out={final} --config={home}/hyperparameters.yaml)"
    assert "  MODE='it is final' \\" in found.lines
    assert "  TUNECTL_LR=0.5 \\" in found.lines
    assert not final.exists()
    assert not study.looks.exists()


def test_the_call_of_a_function_is_its_name_with_its_arguments_and_the_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("def train(trial, *, lr):\n    pass\n")
    file = tmp_path / "own.yaml"
    command = OWN_CODE[OWN_CODE.index("workload:") : OWN_CODE.index("objective")]
    file.write_text(OWN_CODE.replace(command, "workload: {function: ./train.py:train}\n"))
    study = finished(Path("runs") / "own", file)
    found = train_final(FinalOptions(study.path, 0, NOW, "token"), RunOptions(), Silent(), SameProcess())
    assert isinstance(found, FinalProgram)
    seed = read_plan(study.plan)[0].seed
    assert found.lines == ["./train.py:train with", "  lr: 0.25", f"  seed: {seed}"]
    assert "is the task of the function" in found.explanation
    assert (found.to_json()["function"], found.to_json()["command"]) == ("./train.py:train", None)


OWN_CODE = """\
study: own
workload:
  command: [python, train.py, "--lr={lr}", "--out={trial.dir}", "--config={trial.hyperparameters}"]
  environment: {MODE: it is final}
  metrics: [{regex: 'loss (?P<loss>\\S+)'}]
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 100}
hyperparameters:
  lr: {role: nuisance, values: [0.25, 0.5]}
search: {sampler: grid}
"""
