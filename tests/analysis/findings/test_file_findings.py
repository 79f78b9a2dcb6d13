"""Tests findings/file_findings.py: files that several trials write."""

from __future__ import annotations

import pytest
from builders import problems_of, study

from tunectl.analysis.findings.file_findings import file_findings, must_stop
from tunectl.language.study_spec import StudySpec
from tunectl.store.written_files import How, Mark, SharedFolders, WrittenFile


def own(*arguments: str, more: str = "", workload: str | None = None) -> StudySpec:
    command = ", ".join(["python", "train.py", '"{x}"', *(f'"{item}"' for item in arguments)])
    return study(
        {"optimizer": None, "learning_rate": None, "x": "{role: nuisance, range: [1, 2]}"},
        workload=workload or f"\n  command: [{command}]\n  {more}",
        objective="{metric: loss, direction: minimize}",
        training="{max_train_steps: 4}",
        search="{trials: 2}",
    )


def shared(*paths: str, how: How = "overwritten", alone: tuple[int, ...] = ()) -> list[WrittenFile]:
    groups = (frozenset({0}), frozenset({3}))
    return [WrittenFile(path, Mark(1, 2, 3), frozenset(alone), how=how, trials=groups) for path in paths]


def test_overwritten_files_are_one_warning_with_their_trials_and_the_remedy() -> None:
    (found,) = file_findings(own(), shared("b.pt", "a.pt"))
    assert (found.id, found.level) == ("shared-files", "warning")
    assert found.sentence == ("Trials overwrite each other's files: a.pt (trials 0 and 3), b.pt (trials 0 and 3).")
    assert found.action == (
        'give each trial its own folder: `folder: "{trial.dir}"` under workload (with a new name under study, because '
        "all trials must be trained again); if it is intended, write `shared_files: [a.pt, b.pt]` under workload"
    )
    assert list(found.trials) == [0, 3]


def test_at_most_ten_names_are_listed() -> None:
    (found,) = file_findings(own(), shared(*(f"out/{number:02}.pt" for number in range(25))))
    assert found.sentence.count(".pt") == 10
    assert "and 15 more" in found.sentence
    assert "shared_files: [out/*]" in found.action


@pytest.mark.parametrize(
    ("arguments", "path", "remedy"),
    [
        (("--out=results",), "results/a/model.pt", "`--out={trial.dir}`"),
        (("--out", "./results/"), "results/a/model.pt", "`--out {trial.dir}`"),
        (("--save", "out/model.pt"), "out/model.pt", "`--save {trial.dir}/model.pt`"),
        (("trainer.dir=results",), "results/model.pt", "`trainer.dir={trial.dir}`"),
        (("--out={trial.dir}",), "results/model.pt", "`folder:"),
    ],
)
def test_the_option_that_names_the_folder_is_the_remedy(arguments: tuple[str, ...], path: str, remedy: str) -> None:
    (found,) = file_findings(own(*arguments), shared(path))
    assert f"give each trial its own folder: {remedy}" in found.action


def test_what_is_appended_or_identical_is_a_note() -> None:
    found = file_findings(own(), [*shared("log.csv", how="appended"), *shared("vocab", how="identical")])
    assert [(item.level, item.trials) for item in found] == [("note", (0, 3))]
    assert "log.csv" in found[0].sentence
    assert "vocab" in found[0].sentence


def test_a_file_of_one_trial_is_no_finding() -> None:
    assert file_findings(own(), [WrittenFile("a.pt", Mark(1, 2, 3), frozenset({1}), worst="overwritten")]) == []


@pytest.mark.parametrize("pattern", ["out/*.pt", "out/a.pt", "./out", "*.pt", "out/"])
def test_intended_files_are_no_finding(pattern: str) -> None:
    assert file_findings(own(more=f"shared_files: ['{pattern}']"), shared("out/a.pt")) == []


def test_fewer_folders_than_trials_are_a_warning() -> None:
    folders = SharedFolders("outputs/10-00", 3, 4)
    (found,) = file_findings(own(), [], folders)
    assert found.level == "warning"
    assert found.sentence.startswith("4 trials made 3 folders such as outputs/10-00")
    assert file_findings(own(more="shared_files: [outputs]"), [], folders) == []


def test_a_function_is_advised_to_write_to_the_trial_s_own_folder() -> None:
    (found,) = file_findings(own(workload="{function: './m.py:f'}"), shared("a.pt"))
    assert found.action.startswith("write to trial.dir")


@pytest.mark.parametrize(
    ("spec", "path", "stops"),
    [
        (own("--resume=last.pt"), "last.pt", True),
        (own("--ckpt", "./out/last.pt"), "out/last.pt", True),
        (own("--save_ckpt", "out/last.pt"), "out/last.pt", False),
        (own("--resume=last.pt", more="shared_files: [last.pt]"), "last.pt", False),
        (own("--out=last.pt"), "last.pt", False),
        (own(more="metrics: [{csv: 'logs/{trial.id}*.csv'}]"), "logs/10.csv", True),
        (own(more="metrics: [{csv: 'logs/{trial.id}*.csv'}]"), "logs/10.txt", False),
        (own(more="metrics: [{tensorboard: 'tb/{trial.id}'}]"), "tb/1/events", True),
        (own(more="metrics: [{csv: '{trial.dir}/a.csv'}]"), "x/a.csv", False),
    ],
)
def test_the_study_stops_for_what_trials_read(spec: StudySpec, path: str, *, stops: bool) -> None:
    assert bool(must_stop(spec, shared(path))) is stops
    assert must_stop(spec, shared(path, how="appended")) == []
    assert must_stop(spec, shared(path, alone=(1,))) == []


def test_shared_files_are_a_list_of_patterns() -> None:
    sections = {
        "workload": "{function: './m.py:f', shared_files: out}",
        "objective": "{metric: loss, direction: minimize}",
    }
    (problem,) = [item for item in problems_of(**sections) if "shared_files" in item]
    assert "a list of patterns of files" in problem


def unclear(*paths: str, trials: tuple[int, ...] = (0, 1)) -> list[WrittenFile]:
    return [WrittenFile(path, Mark(1, 2, 3), frozenset(trials), unclear=frozenset(trials)) for path in paths]


def test_files_that_trials_may_have_overwritten_are_one_warning_and_never_stop_a_study() -> None:
    spec = own("--resume=a.pt")
    (found,) = file_findings(spec, unclear("b.pt", "a.pt", trials=(0, 1, 2)))
    assert (found.id, found.level, found.trials) == ("shared-files", "warning", (0, 1, 2))
    assert found.sentence == (
        "Trials may have overwritten each other's files: a.pt, b.pt. All 3 trials that completed were running when "
        "they were written, so it is not known how many trials wrote each file."
    )
    assert "{trial.dir}" in found.action
    assert must_stop(spec, unclear("a.pt")) == []
    assert file_findings(own(more="shared_files: ['*.pt']"), unclear("a.pt")) == []
