"""The JSON Schema accepts what the reader accepts, and refuses a wrong key or value; jsonschema is the oracle."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from each_case import each_case
from jsonschema import Draft202012Validator

from tunectl.language.configuration import FIELDS
from tunectl.language.document import read_document
from tunectl.language.hyperparameter_reader import HYPERPARAMETER_KEYS
from tunectl.language.key_meanings import OF_FIELDS, OF_HYPERPARAMETERS, OF_SECTIONS, OF_STUDY
from tunectl.language.sections import Sections
from tunectl.language.study_schema import SCHEMA_LINE, schema_text, study_schema

STUDIES = Path(__file__).parents[2] / "studies"
SCHEMA = study_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

STUDY: dict[str, Any] = {
    "workload": "tunectl.workloads.digits:mlp",
    "objective": {"metric": "valid/loss", "direction": "minimize"},
    "training": {"max_train_steps": 100, "eval_every": 10},
    "hyperparameters": {
        "optimizer": {"role": "scientific", "values": ["nesterov", "adam"]},
        "learning_rate": [
            {"role": "nuisance", "when": {"optimizer": "adam"}, "range": [1e-5, 1e-1], "scale": "log"},
            {"formula": "rate * 0.1"},
        ],
        "rate": {"role": "nuisance", "range": [1e-3, 1], "scale": "log"},
        "width": 64,
    },
    "search": {"trials": 4},
}
OWN: dict[str, Any] = {
    **STUDY,
    "workload": {
        "command": ["python", "train.py", ["--lr", "{optimizer}"], {"when": {"a": True}, "arguments": ["-a"]}]
    },
    "training": {"max_train_steps": 100},
    "hyperparameters": {"optimizer": 3, "learning_rate": "small"},
}


def wrong(study: dict[str, Any], value: Any, *path: str) -> list[str]:
    """Where the schema finds an error in the study with this value at the path."""
    changed = copy.deepcopy(study)
    at = changed
    for key in path[:-1]:
        at = at.setdefault(key, {})
    at[path[-1]] = value
    return [".".join(map(str, error.absolute_path)) for error in VALIDATOR.iter_errors(changed)]


def test_it_is_a_schema_and_accepts_every_study_in_the_folder_studies() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    files = [path for path in sorted(STUDIES.rglob("*.yaml")) if "workload" in (read_document(path).content or {})]
    assert len(files) > 40
    for path in files:
        content = json.loads(json.dumps(read_document(path).content))
        assert [error.message for error in VALIDATOR.iter_errors(content)] == [], path


def test_fields_of_training_are_free_names_for_own_code_and_its_evaluations_are_its_own() -> None:
    assert list(VALIDATOR.iter_errors(STUDY)) == []
    assert list(VALIDATOR.iter_errors(OWN)) == []
    assert wrong({**STUDY, "training": {"max_train_steps": 100}}, 4, "search", "trials") == ["training"]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (1, ("trainin",)),
        (10, ("training", "eval_evry")),
        (0, ("training", "max_train_steps")),
        ("minimise", ("objective", "direction")),
        ("adamm", ("hyperparameters", "optimizer")),
        (-0.1, ("hyperparameters", "learning_rate")),
        ({"role": "nuisance", "range": [0.1]}, ("hyperparameters", "momentum")),
        ({"role": "nuisance", "range": [0, 1], "scal": "log"}, ("hyperparameters", "width")),
        ({"role": "nuisance"}, ("hyperparameters", "width")),
        ({"role": "random", "values": [1, 2]}, ("hyperparameters", "width")),
        ({"comand": ["python"]}, ("workload",)),
        ([], ("resources", "devices")),
        ({"keep": 4}, ("search", "promote")),
        (0, ("resources", "slurm", "time_minutes")),
        ("gpu", ("resources", "slurm", "partitin")),
        ("a", ("resources", "slurm", "setup")),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_key_or_value_is_found_at_its_place(value: Any, path: tuple[str, ...]) -> None:
    (found,) = set(wrong(STUDY, value, *path))
    assert ".".join(path).startswith(found)


@each_case("name", FIELDS)
def test_a_field_has_the_values_that_the_reader_takes(name: str) -> None:
    rule = FIELDS[name]
    # Of text with a form of its own, the schema knows that it is text.
    values: list[Any] = [-1, 0, 1, 0.5, 2, 1.5, *rule.choices, *(["none"] if rule.text_form is None else [])]
    for value in values:
        accepted = not wrong(STUDY, value, "hyperparameters", name)
        assert accepted == rule.accepts(value), value


def test_every_key_has_a_meaning_and_no_other_has_one() -> None:
    definitions = SCHEMA["$defs"]
    assert set(OF_STUDY) == set(Sections.model_fields)
    assert tuple(OF_HYPERPARAMETERS) == HYPERPARAMETER_KEYS
    assert set(OF_FIELDS) == set(FIELDS)
    for section, meanings in OF_SECTIONS.items():
        own = definitions[SCHEMA["properties"][section]["$ref"].rpartition("/")[2]]["properties"]
        assert set(meanings) == set(own)
    assert all(text.endswith(".") for text in (*OF_STUDY.values(), *OF_FIELDS.values(), *OF_HYPERPARAMETERS.values()))


def test_the_text_is_the_schema_and_the_line_of_editors_names_its_file() -> None:
    assert json.loads(schema_text()) == SCHEMA
    assert SCHEMA_LINE == "# yaml-language-server: $schema=tunectl.schema.json\n"
