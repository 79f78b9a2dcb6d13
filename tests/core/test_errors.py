"""How problems are ordered and worded."""

from __future__ import annotations

from tunectl.core.errors import EXIT_BAD_STUDY, EXIT_FOLDER, FolderError, Infeasible, Problem, StudyError, TunectlError


def test_problems_are_in_the_order_of_the_file_by_number_and_not_by_text():
    places = [(10, 1), (9, 12), (9, 3), (2, 40)]
    error = StudyError([Problem("s.yaml", line, column, "training", "m") for line, column in places])
    assert [(problem.line, problem.column) for problem in error.problems] == [(2, 40), (9, 3), (9, 12), (10, 1)]
    assert str(error).splitlines()[0] == "s.yaml:2:40: training: m"


def test_a_problem_of_the_whole_file_has_no_path():
    assert str(Problem("s.yaml", 1, 1, "", "the file is empty")) == "s.yaml:1:1: the file is empty"


def test_a_bad_study_exits_with_2_and_a_folder_in_use_with_3():
    assert StudyError([]).exit_code == EXIT_BAD_STUDY == 2
    assert FolderError("in use").exit_code == EXIT_FOLDER == 3


def test_infeasible_is_a_result_and_no_error_of_the_program():
    assert not issubclass(Infeasible, TunectlError)
    assert Infeasible("too wide").reason == "too wide"
    assert Infeasible().reason
