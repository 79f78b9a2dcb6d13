"""`next`: the file of the next round, from made-up findings.

Tests commands/next_round.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_folders import made_up_folder
from narrowing import present

from tunectl.analysis.findings.findings import Change, Finding
from tunectl.commands import next_round as module
from tunectl.commands.next_round import next_round
from tunectl.core import record_checksums
from tunectl.core.errors import UsageError
from tunectl.language.study_reader import parse_study
from tunectl.space.domains import Range

TEXT = """\
# An example with comments.
study: example
workload: ./my_workload.py:factory
objective: {metric: valid/error_rate, direction: minimize}  # the question
training: {max_train_steps: 200, eval_every: 50}
hyperparameters:
  optimizer: sgd
  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log}  # a guess
search: {trials: 3}
"""
RATE = Change(("hyperparameters", "learning_rate", "range"), [1e-5, 1], "the best trials crowd its low end")
STEPS = Change(("training", "max_train_steps"), 400, "the best trials still improve")
FEWER = Change(("training", "max_train_steps"), 100, "all was done early")


@pytest.fixture
def studied(tmp_path, monkeypatch):
    """A finished study whose findings ask for the given changes."""
    monkeypatch.chdir(tmp_path)
    folder = made_up_folder(tmp_path / "runs" / "example", TEXT, lambda _: 0.5, file=tmp_path / "mine" / "example.yaml")

    def ask(*changes: Change) -> Path:
        findings = [
            Finding(f"finding-{number}", "warning", "so it is", "do it", changes=(change,))
            for number, change in enumerate(changes)
        ]
        monkeypatch.setattr(module, "study_findings", lambda _evidence, _attempt: findings)
        return folder.path

    return ask


def test_the_next_round_is_written_beside_the_study_s_file_under_a_new_name(studied, tmp_path):
    found = next_round(studied(RATE, STEPS))
    assert found.path == tmp_path / "mine" / "example-round2.yaml"
    assert found.path is not None
    assert found.path.read_text() == (
        TEXT.replace("study: example", "study: example-round2")
        .replace("[1e-3, 1]", "[1e-05, 1]")
        .replace("max_train_steps: 200", "max_train_steps: 400")
    )
    spec = parse_study(found.path.read_text(), found.path)
    assert spec.name == "example-round2"
    assert spec.alternatives("learning_rate")[0].domain == Range(1e-5, 1, "log")
    assert spec.training.max_train_steps == 400


def test_a_study_folder_from_someone_else_does_not_decide_where_to_write(studied, tmp_path, monkeypatch):
    folder = studied(RATE)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    found = next_round(folder)
    assert found.path == Path("example-round2.yaml")
    assert [path.name for path in here.iterdir()] == ["example-round2.yaml"]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["example.yaml"]


OUTSIDE = ["elsewhere/example.yaml", "here/link/example.yaml", "here/../elsewhere/example.yaml", "elsewhere/back.yaml"]


@pytest.mark.parametrize("named", [*OUTSIDE, "here/.github/workflow.yaml", "here/other/other.yaml"])
def test_whatever_file_a_received_folder_names_the_next_round_is_in_the_current_folder(tmp_path, monkeypatch, named):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for place, text in {
        elsewhere / "example.yaml": TEXT,
        here / "example.yaml": TEXT,
        here / ".github" / "workflow.yaml": "on: push\n",
        here / "other" / "other.yaml": TEXT.replace("study: example", "study: other"),
    }.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    (here / "link").symlink_to(elsewhere)
    (elsewhere / "back.yaml").symlink_to(here / "example.yaml")
    before = {path for path in tmp_path.rglob("*") if path.parent != here}
    monkeypatch.chdir(here)
    folder = made_up_folder(tmp_path / "received", TEXT, lambda _: 0.5)
    provenance = json.loads(folder.provenance.read_text())
    provenance["runs"][-1]["study_file"]["path"] = str(tmp_path / named)
    folder.provenance.write_bytes(record_checksums.sealed(json.dumps({"format": 1, "runs": provenance["runs"]})))
    findings = [Finding("finding", "warning", "so it is", "do it", changes=(RATE,))]
    monkeypatch.setattr(module, "study_findings", lambda _evidence, _attempt: findings)
    assert next_round(folder.path).path == Path("example-round2.yaml")
    assert (here / "example-round2.yaml").is_file()
    found = {path for path in tmp_path.rglob("*") if path.parent != here and folder.path not in (path, *path.parents)}
    assert found - {tmp_path / "study_file.yaml"} == before


def test_a_file_that_is_there_is_never_written_over(studied, tmp_path):
    taken = tmp_path / "mine" / "example-round2.yaml"
    taken.write_text("mine")
    with pytest.raises(UsageError, match=r"example-round2\.yaml: already exists"):
        next_round(studied(RATE))
    assert taken.read_text() == "mine"
    found = next_round(studied(RATE), tmp_path / "third.yaml")
    assert (found.path, found.study) == (tmp_path / "third.yaml", "third")


def test_a_round_in_another_folder_has_a_note_that_its_workload_is_relative_to_the_first_one(studied, tmp_path):
    elsewhere = next_round(studied(RATE), tmp_path / "third.yaml")
    assert elsewhere.by_hand == (
        f"the workload is relative to {tmp_path / 'mine'}, and this file is in another folder: change its path",
    )
    assert next_round(studied(RATE), tmp_path / "mine" / "third.yaml").by_hand == ()


def test_conflicts_are_reported_and_nothing_is_guessed(studied):
    found = next_round(studied(STEPS, FEWER, RATE))
    assert "max_train_steps: 200" in present(found.path).read_text()
    (conflict,) = found.conflicts
    assert str(conflict).startswith("training.max_train_steps: the findings do not agree: finding-0 proposes 400")
    assert [item.change.path for item in found.changes] == [RATE.path]


def test_without_anything_to_change_no_file_is_written(studied, tmp_path):
    for changes in ((), (STEPS, FEWER)):
        found = next_round(studied(*changes))
        assert (found.path, found.changes) == (None, ())
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["example.yaml"]


def test_the_rounds_are_counted(studied):
    assert [module._next_name(name) for name in ("a", "a-round2", "a-round19", "a-round", "round2")] == [
        "a-round2",
        "a-round3",
        "a-round20",
        "a-round-round2",
        "round2-round2",
    ]


def test_a_change_that_the_text_cannot_take_is_to_be_made_by_hand(studied):
    bad = Change(("hyperparameters", "optimizer", "range"), [1, 2], "a reason")
    found = next_round(studied(bad, RATE))
    assert len(found.by_hand) == 1
    assert "hyperparameters.optimizer.range" in found.by_hand[0]
    assert "a reason" in found.by_hand[0]
    assert found.path is not None


def test_changes_that_belong_together_are_made_together_or_not_at_all(studied, tmp_path):
    name, rate = ("hyperparameters", "effective_rate"), ("hyperparameters", "learning_rate")
    searched = Change(name, {"role": "nuisance", "range": [0.1, 1]}, "searched", only_with=rate)
    computed = Change(rate, {"formula": "effective_rate / 2"}, "computed", only_with=name)
    found = next_round(studied(searched, computed))
    assert found.path is not None
    spec = parse_study(found.path.read_text(), found.path)
    assert spec.alternatives("learning_rate")[0].formula is not None
    assert spec.alternatives("effective_rate")[0].domain == Range(0.1, 1.0)
    nowhere = Change(("hyperparameters", "optimizer", "deeper", "still"), 1, "computed", only_with=name)
    searched = Change(name, {"role": "nuisance", "range": [0.1, 1]}, "searched", only_with=nowhere.path)
    found = next_round(studied(searched, nowhere))
    assert found.path is None
    assert len(found.by_hand) == 2


def test_a_change_that_would_make_the_study_invalid_is_left_for_the_user_and_the_others_are_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = TEXT.replace("optimizer: sgd", "optimizer: sgd\n  weight_decay: {formula: learning_rate - 0.001}")
    text = text.replace("trials: 3", "trials: 20")
    folder = made_up_folder(tmp_path / "runs" / "example", text, lambda _: 0.5)
    finding = Finding("search-boundary", "warning", "so it is", "do it", changes=(RATE, STEPS))
    monkeypatch.setattr(module, "study_findings", lambda _evidence, _attempt: [finding])
    found = next_round(folder.path)
    assert [item.change for item in found.changes] == [STEPS]
    (reason,) = found.by_hand
    assert reason.startswith(
        "hyperparameters.learning_rate.range: not changed to [1e-05, 1] (the best trials crowd its low end), as the "
        "study would not be valid: hyperparameters.weight_decay.formula: no valid value in "
    )


def test_the_folder_of_a_procedure_has_no_next_round(studied):
    place = studied(RATE)
    (place / "procedure.json").write_text("{}")
    with pytest.raises(UsageError, match="expected the folder of a study, got that of a procedure"):
        next_round(place)


BAYESIAN = TEXT.replace("{trials: 3}", "{sampler: bayesian, after: runs/explored, trials: 8, seed: 4}")


@pytest.fixture
def proposed(tmp_path, studied):
    """The same for a study whose points were proposed from other trials, which are gone."""
    folder = made_up_folder(tmp_path / "runs" / "proposed", TEXT, lambda _: 0.5, file=tmp_path / "example.yaml")
    folder.study.write_text(BAYESIAN)

    def ask(*changes: Change) -> Path:
        studied(*changes)
        return folder.path

    return ask


def test_a_change_of_training_explores_again_without_the_trials_that_were_trained_in_another_way(proposed):
    found = next_round(proposed(STEPS))
    assert found.path is not None
    spec = parse_study(found.path.read_text(), found.path)
    assert (spec.search.sampler, spec.search.after, spec.search.trials, spec.search.seed) == ("halton", "", 20, 4)
    assert [item.change.path for item in found.changes] == [("training", "max_train_steps"), ("search",)]
    assert "max_train_steps: was 200, is 400" in found.changes[1].change.reason


def test_a_change_of_a_range_keeps_the_search_and_says_why_its_trials_cannot_be_used(proposed):
    found = next_round(proposed(RATE))
    assert found.path is not None
    assert parse_study(found.path.read_text(), found.path).search.after == "runs/explored"
    assert ["there is no study folder" in line for line in found.by_hand[-1:]] == [True]
