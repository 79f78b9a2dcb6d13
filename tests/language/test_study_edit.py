"""Values put into a study's text: the rest stays as it is, character by character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunectl.core.errors import StudyError
from tunectl.language.document import parse_document
from tunectl.language.study_edit import EditingError, in_flow, with_item, with_value

TEXT = """\
# what this is for
workload: a:b   # the factory
training: {max_train_steps: 10, eval_every: 5} # short
hyperparameters:
  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log} # the rate
  momentum:
    role: nuisance   # heavy ball
    range:
      - 0.5
      - 0.9   # the end
    # about momentum
  batch_size: 64  # bare
  epsilon:
    - {when: {optimizer: a}, range: [1, 2]}
    - {when: {optimizer: b}, range: [3, 4]}
# the last line
"""


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


@pytest.mark.parametrize(
    ("path", "value", "gone", "there"),
    [
        (
            ("hyperparameters", "learning_rate", "range"),
            [1e-05, 0.1],
            ["  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log} # the rate"],
            ["  learning_rate: {role: nuisance, range: [1e-05, 0.1], scale: log} # the rate"],
        ),
        (
            ("hyperparameters", "momentum", "range"),
            [0.1, 0.99],
            ["      - 0.5", "      - 0.9   # the end"],
            ["      [0.1, 0.99]   # the end"],
        ),
        (("hyperparameters", "batch_size", "value"), 128, ["  batch_size: 64  # bare"], ["  batch_size: 128  # bare"]),
        (("hyperparameters", "momentum", "scale"), "log", [], ["    scale: log"]),
        (
            ("training", "seed"),
            3,
            ["training: {max_train_steps: 10, eval_every: 5} # short"],
            ["training: {max_train_steps: 10, eval_every: 5, seed: 3} # short"],
        ),
        (("search", "trials"), 40, [], ["search: {trials: 40}"]),
        (("study",), "again-round2", [], ["study: again-round2"]),
        (
            ("hyperparameters", "epsilon", 1, "range"),
            [3, 9],
            ["    - {when: {optimizer: b}, range: [3, 4]}"],
            ["    - {when: {optimizer: b}, range: [3, 9]}"],
        ),
        (
            ("hyperparameters", "learning_rate"),
            {"role": "fixed", "value": 0.1},
            ["  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log} # the rate"],
            ["  learning_rate: {role: fixed, value: 0.1} # the rate"],
        ),
    ],
)
def test_a_value_changes_its_own_line_alone(path, value, gone, there):
    assert changed_lines(TEXT, with_value(TEXT, path, value)) == (gone, there)


def test_a_study_without_a_name_gets_it_above_its_first_key():
    assert with_value(TEXT, ("study",), "named").splitlines()[:3] == [
        "# what this is for",
        "study: named",
        "workload: a:b   # the factory",
    ]


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a: &both [1, 2]\nb: *both\n", ("b",), [1, 3]),
        ("a: &both [1, 2]\nb: *both\n", ("a",), [1, 3]),
        ("a: 64\n", ("a", "range"), [1, 2]),
        ("a: [1, 2]\n", ("a", "b"), 1),
        ("a: [1, 2]\n", ("a", 7), 1),
        ("", ("a",), 1),
    ],
)
def test_what_would_change_another_value_is_refused(text, path, value):
    with pytest.raises(EditingError):
        with_value(text, path, value)


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_line_ends_and_a_missing_last_one_are_kept(ending):
    text = f"a: 1{ending}b: 2"
    assert with_value(text, ("a",), 5) == f"a: 5{ending}b: 2"
    assert parse_document(with_value(text, ("c",), 5), "").content == {"a": 1, "b": 2, "c": 5}


scalars = st.one_of(
    st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)
)


@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)))
def test_whatever_is_written_in_flow_style_reads_back_as_itself(value):
    text = f"a: {in_flow(value)}\n"
    assert parse_document(text, "").content == {"a": value}


ITEM = {"study": "runs/x", "because": "it's: better", "values": {"rate": 1e-05, "on": True}}


@pytest.mark.parametrize(
    "text",
    [
        "goal: x  # why\n# the end\n",
        "goal: x\nlist: []  # none yet\nrounds: [a]\n",
        "goal: x\nlist:\n",
        "goal: x\nlist: null # none\nrounds: [a]\n",
        "goal: |\n  two\n  lines\n\n# the end\n",
        "list:\n- {a: 1}  # first\n# between\ngoal: y",
        "list:\n  - a: 3\n    because: >\n      long\n      text\n\n# between\ngoal: z\n",
        "list: [{a: 1}, b]  # all\n",
        "list: [\n  1,\n  2,\n]\ngoal: z\n",
        "goal: x\r\nlist:\r\n  - 1\r\n",
        "---\ngoal: x\n",
    ],
)
@pytest.mark.parametrize("item", [ITEM, "runs/y"])
def test_an_item_is_added_at_the_end_of_a_list_and_every_comment_is_kept(text, item):
    edited = with_item(text, "list", item)
    before = parse_document(text, "").content
    assert parse_document(edited, "").content == {**before, "list": [*(before.get("list") or []), item]}
    for line in text.splitlines():
        comment = line[line.index("#") :] if "#" in line else ""
        assert comment in edited
    assert ("\r\n" in edited) == ("\r\n" in text)
    twice = with_item(edited, "list", "last")
    assert parse_document(twice, "").content["list"][-2:] == [item, "last"]


@pytest.mark.parametrize(
    "text", ["list: word\n", "{goal: x}\n", "a: &l [1]\nlist: *l\n", "- 1\n", "list: {a: 1}\n", "", "list: [1\n"]
)
def test_an_item_is_not_added_where_other_lines_would_change(text):
    with pytest.raises((EditingError, StudyError)):
        with_item(text, "list", ITEM)
