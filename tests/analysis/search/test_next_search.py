"""The next round: the changes on which findings agree, and their conflicts."""

from __future__ import annotations

from builders import study

from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.search.next_search import agreed_changes

SPEC = study(
    {
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
        "momentum": "{role: nuisance, range: [0.8, 0.99], scale: one_minus_log}",
    },
    search="{trials: 8}",
)
RATE = ("hyperparameters", "learning_rate", "range")
STEPS = ("training", "max_train_steps")


def finding(name: str, *changes: Change) -> Finding:
    return Finding(name, "warning", "something is so", "do something", changes=changes)


def test_an_undisputed_change_is_made_with_its_reason():
    changes, conflicts = agreed_changes(SPEC, [finding("search-boundary", Change(RATE, [1e-5, 1], "the best crowd"))])
    assert conflicts == []
    assert [(item.change.path, item.change.value, item.findings) for item in changes] == [
        (RATE, [1e-5, 1], ("search-boundary",))
    ]


def test_of_two_widened_ranges_the_widest_ends_count_and_of_trials_the_larger_number():
    low, high = Change(RATE, [1e-5, 1], "low end"), Change(RATE, [1e-3, 10], "high end")
    few, many = (Change(("search", "trials"), count, "too few") for count in (16, 32))
    changes, conflicts = agreed_changes(SPEC, [finding("one", low, few), finding("two", high, many)])
    assert conflicts == []
    assert [item.change.value for item in changes] == [[1e-5, 10], 32]
    assert changes[0].change.reason == "low end; high end"


def test_a_range_narrowed_by_one_finding_and_widened_by_another_is_a_conflict():
    wide, narrow = Change(RATE, [1e-5, 1], "widen"), Change(RATE, [1e-3, 0.1], "narrow")
    changes, (conflict,) = agreed_changes(SPEC, [finding("one", wide), finding("two", narrow)])
    assert changes == []
    assert str(conflict) == (
        "hyperparameters.learning_rate.range: the findings do not agree: one proposes [1e-05, 1]; "
        "two proposes [0.001, 0.1]; decide by hand"
    )


def test_more_steps_and_fewer_steps_are_a_conflict_and_the_rest_is_still_changed():
    more, fewer = Change(STEPS, 4000, "still falling"), Change(STEPS, 1000, "done early")
    changes, conflicts = agreed_changes(
        SPEC, [finding("still-improving", more), finding("saturated-early", fewer, Change(RATE, [1e-5, 1], "crowd"))]
    )
    assert [item.change.path for item in changes] == [RATE]
    assert [conflict.path for conflict in conflicts] == [STEPS]


def test_a_hyperparameter_that_one_finding_fixes_and_another_widens_is_a_conflict():
    fixed = Change(RATE[:2], {"role": "fixed", "value": 0.1}, "it does not matter")
    changes, (conflict,) = agreed_changes(
        SPEC, [finding("insensitive", fixed), finding("search-boundary", Change(RATE, [1e-5, 1], "the best crowd"))]
    )
    assert changes == []
    assert [name for name, _ in conflict.wanted] == ["insensitive", "search-boundary"]


def test_findings_that_propose_the_same_are_one_change():
    change = Change(STEPS, 4000, "still falling")
    changes, conflicts = agreed_changes(SPEC, [finding("a", change), finding("b", change)])
    assert (len(changes), conflicts) == (1, [])
    assert changes[0].findings == ("a", "b")
    assert changes[0].change.reason == "still falling"


def test_of_two_narrowed_ranges_what_both_keep_is_kept_and_what_excludes_each_other_is_a_conflict():
    ends = [Change(RATE, value, "worse elsewhere") for value in ([1e-3, 0.1], [1e-2, 1], [0.5, 1])]
    ((change,), conflicts) = agreed_changes(SPEC, [finding("one", ends[0]), finding("two", ends[1])])
    assert (change.change.value, conflicts) == ([1e-2, 0.1], [])
    changes, (conflict,) = agreed_changes(SPEC, [finding("one", ends[0]), finding("two", ends[2])])
    assert (changes, conflict.path) == ([], RATE)


DROPOUT = Change(("hyperparameters", "dropout"), {"role": "nuisance", "range": [0.0, 0.5]}, "they overfit")


def test_where_dropout_comes_training_becomes_longer_by_whole_evaluations():
    changes, _ = agreed_changes(SPEC, [finding("overfitting", DROPOUT)])
    assert [(item.change.path, item.findings) for item in changes] == [
        (DROPOUT.path, ("overfitting",)),
        (STEPS, ("overfitting",)),
    ]
    steps, every = SPEC.training.max_train_steps, SPEC.training.eval_every
    assert changes[1].change.value % every == 0
    assert 1.5 * steps <= changes[1].change.value < 1.5 * steps + every


def test_neither_weight_decay_nor_a_fixed_dropout_makes_training_longer_and_a_finding_about_steps_decides():
    decay = Change(("hyperparameters", "weight_decay"), {"role": "nuisance", "range": [1e-6, 1e-2]}, "they overfit")
    fixed = Change(("hyperparameters", "dropout"), {"role": "fixed", "value": 0}, "it does not help")
    for change in (decay, fixed):
        assert [item.change.path for item in agreed_changes(SPEC, [finding("one", change)])[0]] == [change.path]
    changes, _ = agreed_changes(SPEC, [finding("one", DROPOUT), finding("two", Change(STEPS, 500, "done early"))])
    assert [item.change.value for item in changes] == [DROPOUT.value, 500]


def test_what_is_made_only_with_another_change_is_not_made_where_that_one_has_a_conflict():
    rate, name = ("hyperparameters", "learning_rate"), ("hyperparameters", "effective_rate")
    pair = (
        Change(name, {"role": "nuisance", "range": [0.1, 1]}, "searched", only_with=rate),
        Change(rate, {"formula": "effective_rate * (1 - momentum)"}, "computed", only_with=name),
    )
    changes, conflicts = agreed_changes(SPEC, [finding("stability-edge", *pair)])
    assert [item.change.path for item in changes] == [name, rate]
    assert conflicts == []
    wider = Change(RATE, [1e-5, 1], "low end")
    changes, (conflict,) = agreed_changes(SPEC, [finding("stability-edge", *pair), finding("search-boundary", wider)])
    assert changes == []
    assert "stability-edge proposes {formula: " in str(conflict)


DECAY = ("hyperparameters", "weight_decay")


def test_a_range_that_others_move_begins_above_0_where_its_scale_becomes_logarithmic():
    spec = study({"weight_decay": "{role: nuisance, range: [0, 0.01]}"}, search="{trials: 8}")
    ends = (*DECAY, "range")
    scale = finding(
        "linear-scale",
        Change((*DECAY, "scale"), "log", "order of magnitude", only_with=ends),
        Change(ends, [1e-6, 0.01], "above 0", only_with=(*DECAY, "scale")),
    )
    for moved, value in ([0.0, 0.02], [2e-6, 0.02]), ([0.0, 0.005], [5e-7, 0.005]), ([0.002, 0.005], [0.002, 0.005]):
        changes, conflicts = agreed_changes(spec, [scale, finding("other", Change(ends, moved, "moved"))])
        assert conflicts == []
        assert {item.change.path: item.change.value for item in changes} == {(*DECAY, "scale"): "log", ends: value}


def test_a_scale_that_needs_another_range_stays_where_findings_do_not_agree_on_the_range():
    spec = study({"weight_decay": "{role: nuisance, range: [0, 0.01]}"}, search="{trials: 8}")
    ends = (*DECAY, "range")
    scale = finding("linear-scale", Change((*DECAY, "scale"), "log", "order of magnitude", only_with=ends))
    wide, narrow = Change(ends, [0, 0.02], "widen"), Change(ends, [0, 0.005], "narrow")
    changes, (conflict,) = agreed_changes(spec, [scale, finding("one", wide), finding("two", narrow)])
    assert (changes, conflict.path) == ([], ends)
