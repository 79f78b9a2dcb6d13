"""Every kind of bad input that `check` names: a place in the file, what is wrong, exit code 2, nothing created."""

from __future__ import annotations

import re

import pytest
from builders import NUISANCE_RATE, study_text

from tunectl.core.errors import EXIT_BAD_STUDY, StudyError
from tunectl.session.checked_study import check_study

FACTORY = "raise RuntimeError('check imported the workload')\n\ndef make(*, width=64, seed=0):\n    return None\n"
VARIES = {"learning_rate": NUISANCE_RATE}


@pytest.fixture
def refuse(tmp_path):
    """Writes a study beside `./w.py:make`; gives `check`'s one problem as (line, column, path, message)."""
    (tmp_path / "w.py").write_text(FACTORY)

    def check(text):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        with pytest.raises(StudyError) as caught:
            check_study(path, tmp_path)
        assert caught.value.exit_code == EXIT_BAD_STUDY
        (problem,) = caught.value.problems
        assert re.match(rf"{re.escape(str(path))}:\d+:\d+: ", str(problem))
        assert sorted(item.name for item in tmp_path.iterdir()) == ["a.yaml", "w.py"]  # nothing is created
        return problem.line, problem.column, problem.path, problem.message

    return check


def text(hyperparameters=None, **sections):
    sections = {"workload": "./w.py:make", "search": "{trials: 4}" if hyperparameters else None, **sections}
    return study_text(hyperparameters, **sections)


def test_a_good_study_passes_and_the_workload_is_not_imported(tmp_path):
    (tmp_path / "w.py").write_text(FACTORY)
    (tmp_path / "a.yaml").write_text(text({**VARIES, "width": "3"}))
    assert check_study(tmp_path / "a.yaml", tmp_path).spec.name == "a"


def test_a_misspelt_key(refuse):
    line, column, path, message = refuse(text(traning="{}"))
    assert (line, column, path) == (7, 1, "traning")
    assert "did you mean training?" in message


def test_a_misspelt_hyperparameter(refuse):
    line, column, path, message = refuse(text({**VARIES, "widht": "3"}))
    assert (line, column, path) == (7, 3, "hyperparameters.widht")
    assert "did you mean width?" in message


def test_a_missing_direction(refuse):
    line, column, path, message = refuse(text(objective="{metric: valid/loss}"))
    assert (line, column, path) == (2, 1, "objective.direction")
    assert "write minimize or maximize" in message


def test_a_quoted_number(refuse):
    line, column, path, message = refuse(text({"learning_rate": "'0.1'"}))
    assert (line, column, path) == (6, 18, "hyperparameters.learning_rate")
    assert "write 0.1 without quotes" in message


def test_low_above_high(refuse):
    found = refuse(text({"learning_rate": "{role: nuisance, range: [1, 0.1]}"}))
    assert found[2:] == ("hyperparameters.learning_rate.range", "expected low below high, got [1, 0.1]")


def test_zero_on_a_log_scale(refuse):
    found = refuse(text({**VARIES, "weight_decay": "{role: nuisance, range: [0, 1], scale: log}"}))
    assert found == (7, 42, "hyperparameters.weight_decay.range[0]", "expected more than 0 (scale: log), got 0")


def test_a_nan_bound(refuse):
    found = refuse(text({"learning_rate": "{role: nuisance, range: [.nan, 1]}"}))
    assert found[2:] == ("hyperparameters.learning_rate.range[0]", "expected a finite number, got nan")


def test_a_condition_on_a_missing_name(refuse):
    found = refuse(text({**VARIES, "width": "{value: 3, when: {optimiser: sgd}}"}))
    assert found[2] == "hyperparameters.width.when.optimiser"
    assert "did you mean optimizer?" in found[3]


def test_a_circular_condition(refuse):
    found = refuse(text({**VARIES, "a": "{value: 1, when: {b: 1}}", "b": "{value: 1, when: {a: 1}}"}))
    assert found[2] == "hyperparameters.a.when"
    assert "form a circle: a → b → a" in found[3]


def test_a_duplicate_key(refuse):
    found = refuse(text(VARIES) + "search: {trials: 5}\n")
    assert found == (8, 1, "search", "duplicate key, first in line 7; keep one")


def test_tabs(refuse):
    line, _, _, message = refuse("workload: ./w.py:make\nobjective:\n\tmetric: valid/loss\n")
    assert line == 3
    assert "got a tab" in message


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing yet\n"])
def test_an_empty_file(refuse, content):
    line, column, path, message = refuse(content)
    assert (line, column, path) == (1, 1, "")
    assert message.startswith("the file is empty")


def test_a_folder_instead_of_a_file(tmp_path):
    with pytest.raises(StudyError, match="got a folder; name the file in it") as caught:
        check_study(tmp_path, tmp_path)
    assert caught.value.exit_code == EXIT_BAD_STUDY


@pytest.mark.parametrize(
    "workload", ["./w.py:mak", "./none.py:make", "no_such_module:make", "w.py", "''", "'./w.py:'", "':make'"]
)
def test_a_factory_that_does_not_exist(refuse, workload):
    line, column, path, _ = refuse(text(workload=workload))
    assert (line, column, path) == (1, 11, "workload")


def test_a_factory_that_takes_no_such_keyword(refuse):
    line, column, path, message = refuse(text({**VARIES, "num_heads": "{role: nuisance, values: [1, 2]}"}))
    assert (line, column, path) == (7, 3, "hyperparameters.num_heads")
    assert "num_heads is not used" in message


def test_max_train_steps_as_a_hyperparameter(refuse):
    found = refuse(text({**VARIES, "max_train_steps": "500"}))
    assert found[:3] == (7, 3, "hyperparameters.max_train_steps")
    assert "write it under training" in found[3]


@pytest.mark.parametrize("name", ["a/b", "../a", "/a", "."])
def test_a_study_name_with_a_slash(refuse, name):
    found = refuse(text(study=name))
    assert found[:3] == (1, 8, "study")
    assert "expected a name that a folder can have" in found[3]


def test_a_grid_or_points_that_do_not_fit_are_found_by_check_too(refuse):
    wide = "{role: nuisance, range: [0.1, 1], points: 9999}"
    found = refuse(text({"learning_rate": wide, "width": wide}, search="{sampler: grid}"))
    assert "a grid of at most 1,000,000 trials, got 99,980,001" in found[3]
    found = refuse(text(VARIES, search="{points: [{learning_rate: 5}]}"))
    assert found[2] == "search.points[0].learning_rate"


def test_too_many_settings_are_found_by_check(refuse):
    widths = ", ".join(str(width) for width in range(1, 1002))
    path, message = refuse(text({**VARIES, "width": f"{{role: scientific, values: [{widths}]}}"}))[2:]
    assert path == "hyperparameters.width"
    assert "more than 1,000 settings" in message
