from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import NUISANCE_RATE, study_text
from made_up_folders import made_up_folder

from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.session.conclusions import conclusions_beside

TEXT = study_text({"learning_rate": NUISANCE_RATE}, study="digits", search="{trials: 1}")
VALUES = {"learning_rate": 0.1}


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    return parse_study(TEXT, tmp_path / "digits.yaml")


def concluded(place: Path, answer: int, *, text: str = TEXT, **asked: object) -> Path:
    folder = made_up_folder(place, text, lambda _trial: 0.5)
    folder.procedure.write_text(json.dumps({"procedure": "lr-sweep", "values": VALUES, **asked}))
    folder.conclusion.write_text(json.dumps({"answer": answer}))
    return place


def test_the_conclusion_of_another_procedure_about_the_same_configuration_is_found(
    tmp_path: Path, spec: StudySpec
) -> None:
    concluded(tmp_path / "digits.lr-sweep", 1)
    concluded(tmp_path / "digits.clip-sweep", 2, procedure="clip-sweep")
    here = concluded(tmp_path / "digits.batch-size", 3, procedure="batch-size")
    assert conclusions_beside(spec, here, VALUES) == {"lr-sweep": {"answer": 1}, "clip-sweep": {"answer": 2}}


def test_of_two_folders_of_one_procedure_that_with_the_default_name_counts(tmp_path: Path, spec: StudySpec) -> None:
    concluded(tmp_path / "a-copy", 1)
    concluded(tmp_path / "digits.lr-sweep", 2)
    assert conclusions_beside(spec, tmp_path / "digits.clip-sweep", VALUES) == {"lr-sweep": {"answer": 2}}


@pytest.mark.parametrize("harm", ["other values", "another study", "no conclusion", "damaged", "no study"])
def test_a_folder_of_something_else_or_a_damaged_one_is_skipped(tmp_path: Path, spec: StudySpec, harm: str) -> None:
    text = TEXT.replace("range: [1e-3, 1]", "range: [1e-3, 2]") if harm == "another study" else TEXT
    values = {"learning_rate": 0.2} if harm == "other values" else VALUES
    place = concluded(tmp_path / "digits.lr-sweep", 1, text=text, values=values)
    if harm == "no conclusion":
        (place / "conclusion.json").unlink()
    elif harm == "damaged":
        (place / "conclusion.json").write_text('{"answer": ')
    elif harm == "no study":
        (place / "study.yaml").unlink()
    assert conclusions_beside(spec, tmp_path / "digits.clip-sweep", VALUES) == {}
