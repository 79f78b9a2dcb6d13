"""Whatever is in a study file, reading it ends in a study or in problems that have a place in the file.

Tests language/study_reader.py.
"""

from __future__ import annotations

import re

from builders import STUDY_FILE
from fuzzed_studies import WHOLE, mutated_studies, plausible_studies, random_studies
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

from tunectl.core.errors import StudyError
from tunectl.core.records import FactorySignature
from tunectl.language.consumed_names import check_consumption
from tunectl.language.identity import Differences, differences
from tunectl.language.review import review
from tunectl.language.study_reader import parse_study
from tunectl.space.listed_points import check_count
from tunectl.space.search_space import search_space
from tunectl.space.trial_plan import plan_trials

_FEW = 80
_MOST_PLANNED = 200


def _line_lengths(text):
    # The line ends of YAML 1.1, which PyYAML counts by.
    return [len(line) for line in re.split("\r\n|[\r\n\x85\u2028\u2029]", text)]


def read_whole(text):
    """All that `check` and `plan` do with a text: only StudyError comes out, every problem is in the file."""
    try:
        spec = parse_study(text, STUDY_FILE)
        problems = check_consumption(spec, FactorySignature(("num_layers", "activation", "use_decay", "a", "b", "c")))
        space = search_space(spec)
        check_count(spec, len(space.settings))
        settings_ = tuple(setting.values for setting in space.settings)
        problems += review(spec, settings_, (spec.search.trials or 1,) * len(settings_))
        if (spec.search.trials or 1) * len(settings_) <= _MOST_PLANNED:
            trials = plan_trials(spec)
            assert [trial.trial for trial in trials] == list(range(len(trials)))
            assert all(set(trial.hyperparameters) <= set(spec.names) for trial in trials)
        assert differences(spec, spec) == Differences()
    except StudyError as error:
        problems = list(error.problems)
        assert problems
    lengths = _line_lengths(text)
    for problem in problems:
        assert str(problem).encode("utf-8", "strict")
        assert len(str(problem).splitlines()) == 1
        assert 1 <= problem.line <= len(lengths), problem
        assert 1 <= problem.column <= lengths[problem.line - 1] + 1, problem
        assert problem.message


def test_the_study_that_is_mutated_is_right():
    assert len(parse_study(WHOLE, STUDY_FILE).names) > 3


@examples(_FEW)
@given(mutated_studies())
def test_a_mutated_study_is_read_or_refused_at_a_place(text):
    read_whole(text)


@examples(_FEW)
@given(plausible_studies())
def test_a_study_of_right_entries_is_planned_or_refused_at_a_place(text):
    read_whole(text)


@examples(_FEW)
@given(random_studies)
def test_a_random_study_is_read_or_refused_at_a_place(text):
    read_whole(text)


@examples(_FEW)
@given(st.text(max_size=60) | st.text("{}[]:,-?&*!|>'\"%@` \n\tabc01#", max_size=60))
def test_any_text_is_read_or_refused_at_a_place(text):
    read_whole(text)
