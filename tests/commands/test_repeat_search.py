"""`repeat-search` writes the study of another search beside the first one, and runs it."""

from __future__ import annotations

import pytest

from tunectl.commands.repeat_search import write_repeated_search
from tunectl.core.errors import StudyError, UsageError
from tunectl.language.study_reader import load_study


def test_it_is_the_same_study_with_another_name_and_other_seeds(write_study):
    study = write_study(more="  width: 8  # ours", factory="regression")
    study.write_text(study.read_text().replace("  width: 8  # ours\n", "# ours\n"))
    path = write_repeated_search(study, 3)
    assert path == study.with_name("small.search-3.yaml")
    assert "# ours" in path.read_text()
    first, other = load_study(study), load_study(path)
    assert (other.name, other.search.seed, other.search.trials) == ("small.search-3", 3, first.search.trials)
    assert other.training.seed != first.training.seed
    seeds = {load_study(write_repeated_search(study, seed)).training.seed for seed in (1, 2, 3, 4)}
    assert len(seeds) == 4


def test_the_same_call_takes_the_file_that_is_there_and_another_study_is_never_replaced(write_study):
    study = write_study()
    path = write_repeated_search(study, 1)
    path.write_text(path.read_text() + "# mine\n")
    assert write_repeated_search(study, 1) == path
    study.write_text(study.read_text().replace("trials: 2", "trials: 5"))
    with pytest.raises(UsageError, match=r"differs from the study in more than seeds:\n  search.trials: was 5, is 2\n"):
        write_repeated_search(study, 1)
    path.write_text("study: [\n")
    with pytest.raises(UsageError, match="already exists, and is no study"):
        write_repeated_search(study, 1)
    assert path.read_text() == "study: [\n"


@pytest.mark.parametrize(
    ("changes", "seed", "message"),
    [
        ({}, 0, "is the seed of the study itself"),
        ({"name": "small.search-1"}, 2, "is itself another search of small"),
        ({"learning_rate": "learning_rate: 0.1"}, 1, "nothing in it is sampled"),
    ],
)
def test_where_it_would_change_nothing_it_says_so_and_writes_nothing(write_study, changes, seed, message):
    study = write_study(**changes)
    before = sorted(study.parent.iterdir())
    with pytest.raises(UsageError, match=message):
        write_repeated_search(study, seed)
    assert sorted(study.parent.iterdir()) == before


def test_a_wrong_study_is_reported_and_nothing_is_written(write_study):
    study = write_study(metric="valid")
    with pytest.raises(StudyError, match=r"objective\.metric"):
        write_repeated_search(study, 1)
    assert not study.with_name("small.search-1.yaml").exists()


def test_it_runs_the_other_search_in_its_own_folder(write_study, tunectl, tmp_path):
    study = write_study(steps=10)
    called = tunectl("repeat-search", study.name, "--search-seed", 1, "--json", "--quiet")
    assert called.code == 0, called.err
    assert called.json()["folder"] == "runs/small.search-1"
    assert "small.search-1.yaml: the same study with search seed 1" in called.err
    assert tunectl("repeat-search", study.name, "--search-seed", 1, "--json", "--quiet").json()["untouched"]
