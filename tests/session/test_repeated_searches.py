"""Other searches of a study are found beside it, and only if they differ in nothing but seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns import OTHER_SEEDS, round_of

from tunectl.session.open_study import study_in
from tunectl.session.repeated_searches import other_searches, repeat_name, searched_name


@pytest.mark.parametrize("name", ["first", "first.search", "first.search-", "a.search-1b"])
def test_a_name_without_a_seed_is_that_of_a_study_itself(name):
    assert searched_name(name) == name
    assert searched_name(repeat_name(name, 3)) == name
    assert repeat_name(repeat_name(name, 3), 4) == repeat_name(name, 4)


def test_searches_with_other_seeds_are_found_from_each_of_them(tmp_path):
    first = round_of(tmp_path, "first", 0.5)
    again = round_of(tmp_path, "first.search-1", 0.5, (), OTHER_SEEDS)
    round_of(tmp_path, "first-round2", 0.5)
    for one, other in ((first, again), (again, first)):
        (found,) = other_searches(one.path, study_in(one))
        assert (found.folder, found.problem) == (other.path, "")


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({**OTHER_SEEDS, "search": "{trials: 6, seed: 1}"}, "has 6 trials for each setting, not 4"),
        ({**OTHER_SEEDS, "search": "{trials: 4}"}, "has the same search seed"),
        (
            {**OTHER_SEEDS, "training": "{max_train_steps: 1000, eval_every: 100, seed: 2}"},
            "is another study, not only another search: training.max_train_steps",
        ),
        ({**OTHER_SEEDS, "objective": "{metric: valid/loss, direction: minimize}"}, "is another study"),
    ],
)
def test_one_that_differs_in_more_than_seeds_says_so(tmp_path, sections, problem):
    first = round_of(tmp_path, "first", 0.5)
    round_of(tmp_path, "first.search-1", 0.5, (), sections)
    (found,) = other_searches(first.path, study_in(first))
    assert problem in found.problem


def test_one_that_cannot_be_read_says_so(tmp_path):
    first = round_of(tmp_path, "first", 0.5)
    again = round_of(tmp_path, "first.search-1", 0.5, (), OTHER_SEEDS)
    again.study.write_text("study: [\n")
    (found,) = other_searches(first.path, study_in(first))
    assert "cannot be read as a study" in found.problem


def test_a_folder_with_signs_of_patterns_in_its_name_is_no_pattern(tmp_path):
    first = round_of(tmp_path, "first", 0.5)
    home = first.path.rename(tmp_path / "runs" / "fir[s]t")
    round_of(tmp_path, "first.search-1", 0.5, (), OTHER_SEEDS)
    assert other_searches(Path(home), study_in(first.__class__(home))) == []
