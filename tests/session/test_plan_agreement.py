"""A plan.jsonl that is damaged, and how the plan is restored from the rest of the folder.

Tests session/plan_agreement.py and session/snapshot.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import STUDY_FILE, study_text
from made_up_folders import STEPS, made_up_folder

from tunectl.core import jsontext
from tunectl.core.errors import FolderError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialRequest, WorkloadReference
from tunectl.language.configuration import TrainingConfiguration
from tunectl.language.study_reader import parse_study
from tunectl.session.plan_agreement import disagreement
from tunectl.session.snapshot import study_snapshot
from tunectl.space.trial_plan import plan_trials, trial_seed
from tunectl.store import json_lines
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import write_request

TEXT = study_text({"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}, search="{trials: 4, seed: 0}")
SPEC = parse_study(TEXT, STUDY_FILE)
SEARCH = plan_trials(SPEC)
RETRAINS = [
    replace(SEARCH[2], trial=4 + n, repeat=1 + n, seed=trial_seed(SPEC.training.seed, 4 + n), trial_kind="retrain")
    for n in range(2)
]
PLAN = [*SEARCH, *RETRAINS]

Harm = Callable[[list[str]], list[str]]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A finished study of four trials and two retrains of the third, whose requests are those of a run."""
    made = made_up_folder(tmp_path / "study", TEXT, lambda trial: 0.1 * (trial.trial + 1), more=tuple(RETRAINS))
    for trial in PLAN:
        configuration = jsontext_of(TrainingConfiguration.from_hyperparameters(trial.hyperparameters))
        reference = WorkloadReference("m:f", "f", module="m")
        write_request(
            made.trial(trial.trial),
            TrialRequest("s", trial.trial, trial.seed, reference, {}, configuration, SPEC.objective, 100, 10, 3),
        )
        updates = [0.5] * STEPS[-1]
        block = {"first": 0, "loss": updates, "gradient_norm": updates, "clipped": updates, "learning_rate": updates}
        json_lines.append(made.trial(trial.trial).steps, [block])
    return made


def jsontext_of(configuration: TrainingConfiguration) -> dict[str, object]:
    return dict(json.loads(jsontext.encode(vars_of(configuration))))


def vars_of(configuration: TrainingConfiguration) -> dict[str, object]:
    return {name: getattr(configuration, name) for name in type(configuration).__dataclass_fields__}


def seen(folder: StudyFolder) -> tuple[list[PlannedTrial], list[str]]:
    said: list[str] = []
    with study_snapshot(folder.path, said.append) as study:
        return [item.plan for item in study.outcomes], said


def without_seal(line: str) -> dict[str, object]:
    content = dict(json.loads(line))
    content.pop("crc32")
    return content


def edited(number: int, **changes: object) -> Harm:
    """A line that was edited by hand: it has no checksum, as if an earlier version had written it."""

    def edit(lines: list[str]) -> list[str]:
        lines[number] = json.dumps({**without_seal(lines[number]), **changes})
        return lines

    return edit


HARMS: dict[str, Harm] = {
    "emptied": lambda _lines: [],
    "its last lines cut": lambda lines: lines[:3],
    "a line missing": lambda lines: lines[:1] + lines[2:],
    "a line twice": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "a line torn": lambda lines: [*lines[:2], lines[2][:40], *lines[3:]],
    "a digit flipped": lambda lines: [lines[0].replace('"seed": ', '"seed": 1'), *lines[1:]],
    "another learning rate": edited(1, hyperparameters={"learning_rate": 0.5}),
    "another seed": edited(3, seed=7),
    "a retrain shown as a trial of the search": edited(4, kind="search"),
    "a trial of the search shown as a retrain": edited(0, kind="retrain"),
    "in another order": lambda lines: lines[::-1],
}


HARMLESS = ("a line twice", "in another order")
"""Here every trial still has its line."""


@pytest.mark.parametrize("has_index", [True, False], ids=["with its index", "without an index"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_plan_is_read_from_the_rest_of_the_folder_and_said(
    folder: StudyFolder, harm: str, has_index: bool
) -> None:
    assert seen(folder) == (PLAN, [])
    if not has_index:
        folder.index.unlink()
    lines = HARMS[harm](folder.plan.read_text().splitlines())
    folder.plan.write_text("".join(f"{line}\n" for line in lines))
    plan, said = seen(folder)
    assert plan == PLAN
    assert bool(said) == (harm not in HARMLESS)
    assert all("plan.jsonl: is damaged" in line for line in said)


@pytest.mark.parametrize("changes", [{"setting": 1}, {"point": 3}, {"kind": "retrain", "repeat": 1}], ids=str)
def test_what_a_trial_is_for_is_the_index_s_where_a_line_without_a_checksum_says_otherwise(
    folder: StudyFolder, changes: dict[str, object]
) -> None:
    # request.json says nothing of the setting, the point or the kind: it agrees with both.
    lines = edited(0, **changes)(folder.plan.read_text().splitlines())
    folder.plan.write_text("".join(f"{line}\n" for line in lines))
    plan, said = seen(folder)
    assert plan == PLAN
    assert len(said) == 1
    assert said[0].startswith(f"warning: {folder.plan}: is damaged: the line of trial 0 ")


TWO_SETTINGS = study_text(
    {
        "optimizer": "{role: scientific, values: [momentum, nesterov]}",
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    },
    search="{trials: 3, seed: 0}",
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([{"setting": 1}, {"setting": 0}], "has the setting of trial 0, and other values of optimizer"),
        ([{"kind": "retrain", "repeat": 1}], "is a retrain, and no trial has its setting and point"),
        ([{"kind": "retrain", "repeat": 1, "point": 1}], "is a retrain of trial 2, and has other values"),
    ],
    ids=["settings", "no original", "another original"],
)
def test_lines_of_an_earlier_version_that_do_not_fit_together_are_said(
    tmp_path: Path, changes: list[dict[str, object]], words: str
) -> None:
    made = made_up_folder(tmp_path / "study", TWO_SETTINGS, lambda trial: 0.1 * (trial.trial + 1))
    made.index.unlink()
    lines = made.plan.read_text().splitlines()
    made.plan.write_text("".join(json.dumps(without_seal(line)) + "\n" for line in lines))
    assert seen(made)[1] == []
    for number, change in enumerate(changes):
        lines = edited(number, **change)(lines)
    made.plan.write_text("".join(f"{line}\n" for line in lines))
    said = seen(made)[1]
    assert said
    assert any(words in line for line in said), said


def test_a_line_that_nothing_else_knows_of_is_refused(folder: StudyFolder) -> None:
    folder.index.unlink()
    folder.trial(1).request.unlink()
    lines = folder.plan.read_text().splitlines()
    folder.plan.write_text("".join(f"{line}\n" for line in [*lines[:1], *lines[2:]]))
    with pytest.raises(FolderError, match=r"plan\.jsonl: trial 1 has a folder"), study_snapshot(folder.path):
        pass


def test_a_trial_of_which_is_not_known_what_was_trained_is_no_result(folder: StudyFolder) -> None:
    request = json.loads(folder.trial(0).request.read_bytes())
    request["configuration"]["learning_rate"] = 0.25
    request.pop("crc32")
    folder.trial(0).request.write_text(json.dumps(request))
    said: list[str] = []
    with study_snapshot(folder.path, said.append) as study:
        states = [(item.state, item.reason) for item in study.outcomes]
    assert states == [("failed", "damaged"), *[("completed", "")] * 5]
    (line,) = said
    assert line.startswith("warning: trial 0: plan.jsonl and request.json differ")
    assert "in the plan, 0.25 in the request" in line


def test_the_lines_of_a_sound_plan_are_believed_without_a_look_elsewhere(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunectl.session.plan_agreement.plan_trials", lambda *_: pytest.fail("it is planned again"))
    folder.index.unlink()
    assert seen(folder)[0] == read_plan(folder.plan) == PLAN


def test_a_computed_value_is_restored_and_compared_with_the_request_like_others(tmp_path: Path) -> None:
    text = study_text(
        {"learning_rate": "{formula: base / 10}", "base": "{role: nuisance, range: [1, 2]}"}, search="{trials: 3}"
    )
    planned = plan_trials(parse_study(text, STUDY_FILE))
    made = made_up_folder(tmp_path / "study", text, lambda _: 0.5)
    lines = made.plan.read_text().splitlines(keepends=True)
    made.plan.write_text(
        "".join([lines[0], lines[1].replace('"learning_rate": 0.1', '"learning_rate": 0.2'), lines[2]])
    )
    with study_snapshot(made.path) as study:
        assert [dict(trial.hyperparameters) for trial in study.trials] == [dict(t.hyperparameters) for t in planned]
    rate = planned[1].hyperparameters["learning_rate"]
    asked = {"configuration": {"learning_rate": 0.5}}
    assert disagreement(asked, planned[1]) == f"learning_rate is {rate!r} in the plan, 0.5 in the request"
