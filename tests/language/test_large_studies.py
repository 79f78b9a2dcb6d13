"""Studies of many values are checked in a time that grows with their number, or refused with the number allowed.

Tests language/condition_checks.py, language/hyperparameter_reader.py, space/conditions.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunectl.core.errors import StudyError
from tunectl.session.checked_study import check_study

STUDY = """\
workload: {{command: [python, -c, "0", "{{a}}", [-b, "{{b}}"]], metrics: [{{json_lines: stdout}}]}}
objective: {{metric: loss, direction: minimize}}
training: {{max_train_steps: 4}}
hyperparameters:
{hyperparameters}
{search}
"""
RANGE = "{role: nuisance, range: [0, 1]}"


def numbers(count: int) -> str:
    return ", ".join(map(str, range(count)))


def values_of_a_set(count: int) -> tuple[str, str]:
    return f"  a: {{role: nuisance, values: [{numbers(count)}]}}\n  b: {RANGE}", "search: {trials: 3}"


def texts_of_a_set(count: int) -> tuple[str, str]:
    texts = ", ".join(f"v{number}" for number in range(count))
    return f"  a: {{role: nuisance, values: [{texts}]}}\n  b: {RANGE}", "search: {trials: 3}"


def values_that_conditions_name(count: int) -> tuple[str, str]:
    waiting = f"b: {{role: nuisance, when: {{a: [{numbers(count // 4)}]}}, range: [0, 1]}}"
    return f"  a: {{role: nuisance, values: [{numbers(count)}]}}\n  {waiting}", "search: {trials: 3}"


def points_of_a_set(count: int) -> tuple[str, str]:
    points = "".join(f"\n    - {{a: {number}, b: {number % 10}}}" for number in range(count))
    entries = f"  a: {{role: nuisance, values: [{numbers(count)}]}}\n  b: {{role: scientific, values: [{numbers(10)}]}}"
    return entries, f"search:\n  points:{points}"


Made = Callable[[int], tuple[str, str]]


def calls(made: Made, count: int, path: Path) -> int:
    """The number of calls, of Python's functions and of those written in C, in which a study is checked."""
    hyperparameters, search = made(count)
    path.write_text(STUDY.format(hyperparameters=hyperparameters, search=search))
    counted = 0

    def count_one(_frame: object, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count_one)
    try:
        check_study(path, path.parent)
    finally:
        sys.setprofile(before)
    return counted


@pytest.mark.parametrize("made", [values_of_a_set, texts_of_a_set, points_of_a_set, values_that_conditions_name])
def test_the_work_grows_as_the_number_of_values(tmp_path: Path, made: Made) -> None:
    calls(made, 4, tmp_path / "s.yaml")  # what is imported at first counts for none
    few, many = (calls(made, count, tmp_path / "s.yaml") for count in (200, 800))
    assert many < 5 * few


def refused(tmp_path: Path, hyperparameters: str) -> str:
    path = tmp_path / "s.yaml"
    path.write_text(STUDY.format(hyperparameters=hyperparameters, search="search: {trials: 3}"))
    with pytest.raises(StudyError) as found:
        check_study(path, tmp_path)
    (problem,) = found.value.problems
    return f"{problem.line}: {problem.path}: {problem.message}"


def test_more_hyperparameters_than_can_be_compared_are_refused(tmp_path: Path) -> None:
    keys = "".join(f"  k{number}: {number}\n" for number in range(501))
    most = "expected at most 500 hyperparameters (each alternative counts)"
    assert refused(tmp_path, keys) == f"4: hyperparameters: {most}, got 501"
    alternatives = "".join(f"    - {{when: {{a: {number}}}, value: 1}}\n" for number in range(600))
    values = f"  a: {{role: scientific, values: [{numbers(600)}]}}\n"
    assert refused(tmp_path, f"{values}  b:\n{alternatives}") == f"4: hyperparameters: {most}, got 601"


def test_a_file_of_more_values_than_a_study_has_is_refused_at_the_first_one_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunectl.language.document._MOST_NODES", 1000)  # parsing 100,000 takes seconds
    keys = "".join(f"  k{number}: {number}\n" for number in range(1_200))
    assert refused(tmp_path, keys).endswith(": expected at most 100,000 values, got more")


def test_a_condition_that_names_too_many_values_is_refused(tmp_path: Path) -> None:
    waiting = f"b: {{role: nuisance, when: {{a: [{numbers(1001)}]}}, range: [0, 1]}}"
    found = refused(tmp_path, f"  a: {{role: nuisance, values: [{numbers(2000)}]}}\n  {waiting}")
    assert found == "6: hyperparameters.b.when.a: expected at most 1,000 values, got 1,001"


def test_true_and_1_stay_two_values_and_1_and_1_0_one(tmp_path: Path) -> None:
    assert "got 1.0 again" in refused(tmp_path, f"  a: {{role: nuisance, values: [1, true, 1.0]}}\n  b: {RANGE}")
