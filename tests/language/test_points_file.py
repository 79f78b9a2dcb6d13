"""`search.points: FILE.csv`: configurations from a table, and what is wrong with one, at its line and column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from builders import study_text
from narrowing import as_numbers
from watchers import Silent

from tunectl.core.errors import FolderError, StudyError
from tunectl.core.folders import StudyFolder
from tunectl.language.identity import Differences, differences
from tunectl.language.study_reader import load_study
from tunectl.session.checked_study import check_study
from tunectl.session.open_study import open_study, study_in

HYPERPARAMETERS = {
    "learning_rate": "{role: nuisance, range: [1e-3, 1e+3], scale: log}",
    "optimizer": "{role: nuisance, values: [sgd, adam]}",
    "beta1": "{role: nuisance, when: {optimizer: adam}, range: [0.8, 0.99]}",
}
GOOD = "learning_rate,optimizer,beta1\n0.1,sgd,\n1e-2,adam,0.9\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """Write the table of a study; gives the study's file."""

    def written(table: str | bytes) -> Path:
        (tmp_path / "tables").mkdir(exist_ok=True)
        content = table.encode() if isinstance(table, str) else table
        (tmp_path / "tables" / "points.csv").write_bytes(content)
        path = tmp_path / "study.yaml"
        path.write_text(study_text(HYPERPARAMETERS, search="{points: tables/points.csv}"))
        return path

    return written


def problems(path: Path) -> list[str]:
    with pytest.raises(StudyError) as caught:
        check_study(path, path.parent)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def test_rows_are_configurations_and_an_empty_cell_gives_none(write: Callable[[str], Path]) -> None:
    assert load_study(write(GOOD)).search.points == (
        {"learning_rate": 0.1, "optimizer": "sgd"},
        {"learning_rate": 0.01, "optimizer": "adam", "beta1": 0.9},
    )


def test_the_same_table_as_spreadsheets_and_other_tools_write_it(write: Callable[[str | bytes], Path]) -> None:
    plain = load_study(write(GOOD)).search.points
    quoted = '"learning_rate","optimizer","beta1"\r\n"0.1","sgd",""\r\n\r\n"1e-2","adam","0.9"\r\n'
    assert load_study(write(b"\xef\xbb\xbf" + quoted.encode())).search.points == plain
    spaced = " learning_rate , optimizer,beta1\r0.1, sgd ,\r1e-2 ,adam,0.9"
    assert load_study(write(spaced)).search.points == plain


def test_a_cell_is_text_where_the_study_declares_text(tmp_path: Path) -> None:
    """Quotes are the table's own: the declared values say whether 16 is a number."""
    entries = {"precision_name": "{role: nuisance, values: ['16', '32', 'null', 'a \"b\", c']}"}
    path = tmp_path / "study.yaml"
    path.write_text(study_text(entries, search="{points: p.csv}"))
    (tmp_path / "p.csv").write_text('precision_name\n16\n"32"\nnull\n"a ""b"", c"\n')
    found = [point["precision_name"] for point in load_study(path).search.points]
    assert found == ["16", "32", "null", 'a "b", c']


BAD = [
    ("", "tables/points.csv:1:1: search.points: expected a line of names and one line for each configuration", "an empty file"),
    ("learning_rate\n", "tables/points.csv:1:1: search.points: expected a line of names", "got no configuration"),
    ("learnin_rate\n1\n", "tables/points.csv:1:1: search.points: the study has no hyperparameter 'learnin_rate'", "did you mean learning_rate?"),
    ("learning_rate;beta1\n", "tables/points.csv:1:1: search.points: the study has no hyperparameter", "commas"),
    ("learning_rate,trial\n1,0\n", "tables/points.csv:1:15: search.points: trial is a column of the trial tables", "leave it out"),
    (",learning_rate\n0,1\n", "tables/points.csv:1:1: search.points: expected the name of", "leave row numbers out"),
    ("beta1,beta1\n", "tables/points.csv:1:7: search.points: expected one column for each hyperparameter", "second one for beta1"),
    (GOOD + "1,sgd\n", "tables/points.csv:4:1: search.points[2]: expected 3 cells, as there are names, got 2", ""),
    (GOOD + "1,sgd,,\n", "tables/points.csv:4:1: search.points[2]: expected 3 cells", "got 4"),
    (GOOD + '1,"sgd,\n', "tables/points.csv:4:3: search.points: expected a closing", ""),
    (GOOD + "1,sgd,~\n", "tables/points.csv:4:7: search.points[2].beta1: expected a value, got '~'", "leave the cell empty"),
    (GOOD + '1e9, sgd,\n', "tables/points.csv:4:1: search.points[2].learning_rate: expected a value in the study's domain", ""),
    ('learning_rate,optimizer\n"1","sg\nd"\n1, adm\n', "tables/points.csv:4:3: search.points[1].optimizer: expected a value in the study's domain", "'adm'"),
    (GOOD + "1,sgd,0.9\n", "tables/points.csv:4:7: search.points[2].beta1: beta1 is not active in this configuration", ""),
    (GOOD + "1,adam,\n", "tables/points.csv:4:1: search.points[2]: expected a value for beta1, which is active here", ""),
    (b"learning_rate\n1\n\xff\n", "tables/points.csv:3:1: search.points: expected UTF-8 text", ""),
]  # fmt: skip


@pytest.mark.parametrize(("table", "said", "right"), BAD)
def test_a_problem_has_its_place_in_the_table(
    write: Callable[[str | bytes], Path], table: str | bytes, said: str, right: str
) -> None:
    found = problems(write(table))
    assert any(line.startswith(said) and right in line for line in found), found


def test_a_table_that_is_missing_or_not_a_file_is_a_problem_of_the_study(
    tmp_path: Path, write: Callable[[str], Path]
) -> None:
    path = write(GOOD)
    (tmp_path / "tables" / "points.csv").unlink()
    (found,) = problems(path)
    assert found.startswith("study.yaml:8:18: search.points: file tables/points.csv not found")
    (tmp_path / "tables" / "points.csv").mkdir()
    (found,) = problems(path)
    assert found.startswith("study.yaml:8:18: search.points: expected a CSV file of configurations")


def test_a_study_folder_keeps_the_table_and_notices_another_one(tmp_path: Path, write: Callable[[str], Path]) -> None:
    path, place = write(GOOD), tmp_path / "runs" / "study"

    def planned() -> list[float]:
        with open_study(load_study(path), place, Silent(), may_begin_anew=False) as study:
            return as_numbers(trial.hyperparameters["learning_rate"] for trial in study.trials)

    assert planned() == [0.1, 0.01]
    assert StudyFolder(place).points.read_text() == GOOD
    write(GOOD.replace("sgd,", "sgd , ") + "\n")  # the same configurations
    assert planned() == [0.1, 0.01]
    path = write(GOOD.replace("0.9", "0.95"))
    with pytest.raises(FolderError, match=r"search.points\[1\].beta1: was 0.9, is 0.95") as caught:
        planned()
    assert caught.value.exit_code == 3
    # A run that was killed before its plan was written is begun anew.
    StudyFolder(place).plan.unlink()
    StudyFolder(place).index.unlink()
    write(GOOD)
    assert planned() == [0.1, 0.01]
    # What is kept is read back without the user's file.
    (tmp_path / "tables" / "points.csv").unlink()
    assert len(study_in(StudyFolder(place)).search.points) == 2


def test_points_of_a_table_are_those_of_a_list(tmp_path: Path, write: Callable[[str], Path]) -> None:
    one = load_study(write(GOOD))
    listed = "[{learning_rate: 0.1, optimizer: sgd}, {learning_rate: 1e-2, optimizer: adam, beta1: 0.9}]"
    (tmp_path / "study.yaml").write_text(study_text(HYPERPARAMETERS, search=f"{{points: {listed}}}"))
    assert differences(one, load_study(tmp_path / "study.yaml")) == Differences()
