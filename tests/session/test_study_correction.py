"""A study file that is corrected after a first run: the output of its trials is read again, and no result is lost.

Tests session/study_correction.py, session/open_study.py and store/earlier_studies.py.
"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_calls import Called
from watchers import Silent

from tunectl.core import real_folders
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.language.study_reader import load_study
from tunectl.programs import reread_trial
from tunectl.session.open_study import open_study
from tunectl.store import earlier_studies, trial_files
from tunectl.store.event_file import events_since
from tunectl.store.index import Index
from tunectl.store.study_folder import check_place

Call = Callable[..., Called]

PROGRAM = """\
import sys
lr, home = float(sys.argv[1]), sys.argv[2]
open("trained.txt", "a").write(f"{lr}\\n")
for step in range(1, 5):
    print(f"step {step}: train {lr / step} gap {'nan' if step == 2 else step} valid {2 * lr / step}", flush=True)
    with open(home + "/printed.csv", "a") as file:
        file.write(f"step,valid_loss\\n{step},{3 * lr / step}\\n" if step == 1 else f"{step},{3 * lr / step}\\n")
if lr == 0.4:
    print("the loss exploded")
    sys.exit(7)
"""
WRONG = "step (?P<step>.): train (?P<train_loss>\\S+) gap \\S+ validation (?P<valid_loss>\\S+)"
RIGHT = WRONG.replace("validation", "valid")
STUDY = """\
study: own
workload:
  command: [python, -S, program.py, "{lr}", "{trial.dir}"]
  metrics: [PLACE]
objective: {metric: valid_loss, direction: minimize}
training: {max_train_steps: 4}
hyperparameters:
  lr: {role: nuisance, values: [0.1, 0.2, 0.4]}
search: {sampler: grid}
"""


def text(regex: str = RIGHT, **changed: str) -> str:
    found = STUDY.replace("PLACE", f"{{regex: '{regex}'}}")
    for old, new in changed.items():
        found = found.replace(old.replace("_", ""), new)
    return found


class Study:
    """A study file that is changed between calls of the command."""

    def __init__(self, tunectl: Call, home: Path) -> None:
        self.call, self.file, self.folder = tunectl, home / "own.yaml", home / "out"
        (home / "program.py").write_text(PROGRAM)

    def run(self, content: str, *words: object) -> Called:
        self.file.write_text(content)
        return self.call("run", self.file, "--dir", self.folder, *words)

    def rows(self) -> list[tuple[str, str, str]]:
        with open(self.folder / "tables" / "trials.csv", newline="") as file:
            return [(row["state"], row["reason"], row["best_value"]) for row in csv.DictReader(file)]

    @property
    def trained(self) -> list[str]:
        return self.file.with_name("trained.txt").read_text().split()


@pytest.fixture
def study(tunectl: Call, tmp_path: Path) -> Study:
    return Study(tunectl, tmp_path)


def test_a_corrected_expression_makes_results_of_what_was_trained(study: Study) -> None:
    first = study.run(text(WRONG))
    assert first.code == 1, first.err
    assert [row[1] for row in study.rows()] == ["no_metric", "no_metric", "exit_code_7"]
    study.file.write_text(text())
    status = study.call("status", study.folder)
    assert "the next run reads the output of the trials that there are again" in " ".join(status.out.split())
    again = study.run(text())
    assert again.code == 1, again.err  # one trial ended with exit code 7
    assert study.rows() == [("completed", "", "0.05"), ("completed", "", "0.1"), ("failed", "exit_code_7", "0.2")]
    assert "the output of 3 trials was read again: 2 were failed and are completed" in again.err
    assert len(study.trained) == 3
    # What the files held before is kept, and so is how they were read.
    kept = study.folder / "trials" / "00000" / "earlier" / "1"
    assert json.loads((kept / "result.json").read_text())["reason"] == "no_metric"
    assert "validation" in (kept / "request.json").read_text()
    # Ends that are the hyperparameters' fault may be named later, too.
    ended = study.run(text(objective_="  infeasible: {patterns: [exploded]}\nobjective"))
    assert ended.code == 0, ended.err
    assert study.rows()[2] == ("infeasible", "the loss exploded", "0.2")
    untouched = study.run(text(objective_="  infeasible: {patterns: [exploded]}\nobjective"))
    assert "read again" not in untouched.err
    assert len(study.trained) == 3


def test_the_name_of_an_objective_that_no_trial_measured_can_be_corrected_and_another_one_cannot(study: Study) -> None:
    study.run(text().replace("metric: valid_loss", "metric: val_loss"))
    assert [row[1] for row in study.rows()][:2] == ["no_metric", "no_metric"]
    assert study.run(text()).code == 1
    assert [row[2] for row in study.rows()] == ["0.05", "0.1", "0.2"]
    # A completed trial gets its metrics again, too.
    again = study.run(STUDY.replace("PLACE", '{csv: "{trial.dir}/printed.csv"}'))
    assert "every state is as before" in again.err
    assert [float(row[2]) for row in study.rows()] == pytest.approx([0.075, 0.15, 0.3])
    assert len(study.trained) == 3
    refused = study.run(text().replace("metric: valid_loss", "metric: train_loss"))
    assert refused.code == 3
    assert "objective.metric: was valid_loss, is train_loss" in refused.err


def test_a_study_without_a_result_may_change_altogether_and_what_was_there_is_kept(study: Study) -> None:
    study.run(text(WRONG))
    (study.folder / "requests").mkdir()  # a command asks just now
    again = study.run(text().replace("0.4]", "0.3]").replace("steps: 4", "steps: 8"))
    assert again.code == 0, again.err
    numbers = [event["number"] for event in events_since(StudyFolder(study.folder), 0)]
    assert numbers == list(range(1, len(numbers) + 1)), "who follows the events of the folder gets also the new ones"
    assert "begins anew" in again.err
    assert [row[2] for row in study.rows()] == ["0.05", "0.1", "0.15"]
    status = study.call("status", study.folder / "earlier" / "1")
    assert "3 failed" in status.out
    # Now there are results, and the study is what it is.
    refused = study.run(text())
    assert refused.code == 3
    assert "hyperparameters.lr.values: was [0.1, 0.2, 0.3], is [0.1, 0.2, 0.4]" in refused.err
    assert len(study.trained) == 6


class Killed(BaseException):
    """Raised in place of a kill."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_kill_at_any_moment_of_setting_aside_leads_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program.py").write_text("")
    file = tmp_path / "own.yaml"
    move = real_folders.move
    for moment in range(10):
        place = tmp_path / f"out{moment}"
        file.write_text(text())
        with open_study(load_study(file), place, Silent()):
            pass
        folder = StudyFolder(place)
        (folder.trial(1).path).mkdir()
        folder.trial(1).log.write_text("printed")
        for name in ("report.html", "findings.json", "provenance.json"):
            (place / name).write_text("{}")
        before = contents(folder.trials)
        moved: list[Path] = []

        def until_killed(path: Path, to: Path, within: Path, moment: int = moment, moved: list[Path] = moved) -> None:
            if len(moved) == moment:
                raise Killed
            moved.append(path)
            move(path, to, within)

        file.write_text(text().replace("0.4]", "0.3]"))
        monkeypatch.setattr(real_folders, "move", until_killed)
        killed = False
        try:
            with open_study(load_study(file), place, Silent()):
                pass
        except Killed:
            killed = True
        monkeypatch.undo()
        assert killed or moment >= 7
        check_place(place)  # it is no folder of something else
        with open_study(load_study(file), place, Silent()) as study:
            assert study.spec.text.count("0.3]") == 1
            assert [trial.trial for trial in study.left()] == [0, 1, 2]
        assert [path.name for path in folder.earlier.iterdir()] == ["1"]
        kept = StudyFolder(folder.earlier / "1")
        assert contents(kept.trials) == before
        assert "0.4]" in kept.study.read_text()
        assert kept.plan.is_file()
        index = Index.open_at_rest(kept.index)
        assert index is not None, "the backup of the trials is with them"
        with index:
            assert list(index.planned()) == [0, 1, 2]
        assert (kept.path / "report.html").is_file()
        assert not (place / "report.html").exists()


def test_a_kill_while_trials_are_read_again_is_gone_on_from(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.run(text(WRONG))
    study.file.write_text(text())
    folder = StudyFolder(study.folder)
    with monkeypatch.context() as patch:
        real, calls = reread_trial.read_again, []

        def killed_at_the_second(*words: Any) -> bool:
            calls.append(words)
            if len(calls) == 2:
                raise Killed
            return real(*words)

        patch.setattr(reread_trial, "read_again", killed_at_the_second)
        with pytest.raises(Killed), open_study(load_study(study.file), study.folder, Silent()):
            pass
    assert folder.rereading.exists()
    watcher = Silent()
    with open_study(load_study(study.file), study.folder, watcher) as at_work:
        assert [item.state for item in at_work.outcomes] == ["completed", "completed", "failed"]
    assert any("the output of 3 trials was read again" in line for line in watcher.messages)
    assert not folder.rereading.exists()
    # Killed there, and the file as it was before: what was read meanwhile is read as before again.
    study.file.write_text(text(WRONG))
    folder.rereading.write_bytes(b"")
    with open_study(load_study(study.file), study.folder, Silent()) as at_work:
        assert [item.reason for item in at_work.outcomes] == ["no_metric", "no_metric", "exit_code_7"]


def results(folder: StudyFolder) -> list[dict[str, object]]:
    return [json.loads(folder.trial(trial).result.read_bytes()) for trial in range(3)]


@pytest.mark.parametrize("where", ["read_again", "write_request"])
def test_a_correction_of_the_direction_and_the_metrics_that_is_killed_ends_as_if_it_were_not(
    study: Study, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:

    real = getattr(reread_trial, where)
    corrected = text().replace("minimize", "maximize")
    study.run(text(WRONG))
    first, whole = study.folder, study.folder.with_name("whole")
    shutil.copytree(first, whole)
    study.file.write_text(corrected)
    with open_study(load_study(study.file), whole, Silent()) as at_work:
        right = list(at_work.outcomes)
    assert [item.best_value for item in right] == pytest.approx([0.2, 0.4, 0.8])
    for moment in range(3):
        place = first.with_name(f"killed{moment}")
        shutil.copytree(first, place)
        folder, calls = StudyFolder(place), list[object]()

        def until_killed(*words: object, moment: int = moment, calls: list[object] = calls) -> object:
            calls.append(words)
            if len(calls) > moment:
                raise Killed
            return real(*words)

        # Killed twice at the same place, then back to the first study for as long, then to the end.
        for content in (corrected, corrected, text(WRONG), corrected):
            study.file.write_text(content)
            calls.clear()
            monkeypatch.setattr(reread_trial, where, until_killed)
            with contextlib.suppress(Killed), open_study(load_study(study.file), place, Silent()):
                pass
            monkeypatch.undo()
        if folder.rereading.exists():
            status = study.call("status", place)
            assert "best so far: not known" in status.out
            assert "reads the output of the trials that there are again" in " ".join(status.out.split())
            assert study.call("status", place, "--json").json()["best"] is None
            report = study.call("report", place)
            assert report.code == 3
            assert "run the study again" in report.err
        with open_study(load_study(study.file), place, Silent()) as at_work:
            assert list(at_work.outcomes) == right
        assert results(folder) == results(StudyFolder(whole))
        assert not folder.rereading.exists()
    assert len(study.trained) == 3


def test_a_killed_rereading_of_results_does_not_let_the_objective_change(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:

    study.run(text())
    study.file.write_text(text(WRONG))  # all fail by it
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise Killed

        real = trial_files.write_request
        patch.setattr(
            reread_trial, "write_request", lambda *words: killed() if "00002" in str(words[0]) else real(*words)
        )
        with pytest.raises(Killed), open_study(load_study(study.file), study.folder, Silent()):
            pass
    refused = study.run(text().replace("minimize", "maximize"))
    assert refused.code == 3
    assert study.run(text()).code == 1
    assert [row[0] for row in study.rows()] == ["completed", "completed", "failed"]


DEAD = """\
import sys
open("trained.txt", "a").write(sys.argv[1] + "\\n")
for step in range(1, 41):
    print(f"step {step}: loss {9.0 if step < 3 else 2.3} valid {float(sys.argv[1])}")
"""
FUNCTION = """\
def train(trial, lr):
    open("trained.txt", "a").write(f"{lr}\\n")
    for step in range(1, 41):
        trial.record(step, {"train/loss": 9.0 if step < 3 else 2.3, "valid_loss": lr})
"""
COMMAND_LINES = """\
  command: [python, -S, dead.py, "{lr}"]
  metrics: [{regex: 'step (?P<step>.+): loss (?P<train__loss>.+) valid (?P<valid_loss>.+)'}]
"""


@pytest.mark.parametrize("workload", [COMMAND_LINES, "  function: ./dead_function.py:train\n"])
def test_a_baseline_that_is_added_or_taken_away_judges_again_what_was_trained(
    study: Study, workload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = study.file.parent
    monkeypatch.chdir(home)
    (home / "dead.py").write_text(DEAD)
    (home / "dead_function.py").write_text(FUNCTION)
    head, tail = STUDY.split("  command")[0], STUDY[STUDY.index("objective:") :].replace("_steps: 4", "_steps: 40")
    plain, given = head + workload + tail, head + workload + "  baseline_loss: 2.3\n" + tail
    forgiving = given.replace("_steps: 40", "_steps: 40, no_progress: false")

    def ends(content: str) -> set[tuple[str, str]]:
        ran = study.run(content)
        assert ran.code == 0, ran.err
        return {row[:2] for row in study.rows()}

    dead, alive = {("infeasible", "no_progress")}, {("completed", "")}
    assert ends(plain) == alive
    assert ends(given) == dead
    assert ends(forgiving) == alive
    assert ends(given) == dead
    assert ends(plain) == alive
    assert len(study.trained) == 3


def test_a_retrain_never_begins_a_study_anew(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("")
    file = tmp_path / "own.yaml"
    file.write_text(text())
    with open_study(load_study(file), tmp_path / "out", Silent()):
        pass
    file.write_text(text().replace("0.4]", "0.3]"))
    with (
        pytest.raises(FolderError, match="belongs to another study"),
        open_study(load_study(file), tmp_path / "out", Silent(), may_begin_anew=False),
    ):
        pass
    assert not earlier_studies.is_being_set_aside(tmp_path / "out")
