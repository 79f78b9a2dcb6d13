"""Design warnings: for each a study that raises it and a similar study that does not.

Tests language/review.py and its parts: review_context.py, review_roles.py, review_budget.py, review_training.py,
review_optimizers.py, review_clipping.py, review_formulas.py.
"""

from __future__ import annotations

import time

import pytest
from builders import study
from each_case import each_case

from tunectl.language.review import review
from tunectl.language.review_budget import affordable_dimensions
from tunectl.space.search_space import search_space

RATE = "{role: nuisance, range: [1e-3, 1], scale: log}"
DEPTH = "{role: scientific, values: [1, 2]}"
OPTIMIZERS = "{role: scientific, values: [nesterov, adam]}"
LATE = {"training": "{max_train_steps: 2000, eval_every: 5000}"}
EACH_TUNED = {
    "optimizer": OPTIMIZERS,
    "learning_rate": "[{role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 3], scale: log}, "
    "{role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}]",
    "momentum": "{role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.999], scale: one_minus_log}",
    "beta1": "{role: nuisance, when: {optimizer: adam}, range: [0.8, 0.99], scale: one_minus_log}",
}


def warnings(hyperparameters, trials=20, counts=None, **sections):
    plain = {"goal": "Which is better after these steps?", "search": f"{{trials: {trials}}}"}
    spec = study({"learning_rate": RATE, **hyperparameters}, **{**plain, **sections})
    settings = tuple(setting.values for setting in search_space(spec).settings)
    found = review(spec, settings, counts or (trials,) * len(settings))
    assert found == sorted(found)
    return [f"{problem.path}: {problem.message}" for problem in found]


def nuisances(count):
    return {f"n{index}": "{role: nuisance, range: [0, 1]}" for index in range(count)}


def test_the_design_s_own_example_raises_no_warning():
    assert warnings({**EACH_TUNED, "num_layers": "{role: fixed, value: 2}", "batch_size": "64"}) == []


def test_the_plainest_studies_raise_no_warning():
    assert warnings({"learning_rate": "0.1"}, trials=1) == []
    assert warnings({"num_layers": DEPTH}) == []


# name, study that raises it, what it says, neighbour that does not; `trials` goes with both unless it is given apart
PAIRS = {
    "gradient accumulation": (
        {"accumulate_steps": "2"},
        "hyperparameters.accumulate_steps: gradient accumulation: it imitates a batch that does not fit",
        {"accumulate_steps": "1"},
    ),
    "gradient accumulation in some trials": (
        {"accumulate_steps": "{role: nuisance, range: [1, 4], type: int}"},
        "hyperparameters.accumulate_steps: gradient accumulation",
        {},
    ),
    "batch size as nuisance": (
        {"batch_size": "{role: nuisance, values: [32, 64]}"},
        "hyperparameters.batch_size: batch_size as nuisance: it changes the cost of a trial",
        {"batch_size": "{role: scientific, values: [32, 64]}"},
    ),
    "learning rate as scientific": (
        {"learning_rate": "{role: scientific, range: [1e-3, 1], scale: log}"},
        "hyperparameters.learning_rate: learning_rate as scientific",
        {},
    ),
    "a learning rate that is scientific in one alternative": (
        {"optimizer": "{role: nuisance, values: [sgd, adam]}", "learning_rate": "[{role: scientific, when: {optimizer: sgd}, range: [1e-3, 1], scale: log}, {role: nuisance, when: {optimizer: adam}, range: [1e-3, 1], scale: log}]"},
        "hyperparameters.learning_rate[0]: learning_rate as scientific",
        {"optimizer": "{role: nuisance, values: [sgd, adam]}", "learning_rate": "[{role: nuisance, when: {optimizer: sgd}, range: [1e-3, 1], scale: log}, {role: nuisance, when: {optimizer: adam}, range: [1e-3, 1], scale: log}]"},
    ),
    "an optimizer hyperparameter left out": (
        {**EACH_TUNED, "beta1": None},
        "hyperparameters.optimizer: beta1 is left out while the optimizer is scientific: 20 trials are enough to tune it for adam",
        EACH_TUNED,
    ),
    "an optimizer hyperparameter fixed": (
        {**EACH_TUNED, "momentum": "{value: 0.9, when: {optimizer: nesterov}}"},
        "hyperparameters.momentum: momentum is fixed while the optimizer is scientific: 20 trials are enough to tune it for nesterov",
        EACH_TUNED,
    ),
    "an optimizer hyperparameter fixed, the optimizer sampled": (
        {**EACH_TUNED, "optimizer": "{role: scientific, values: [nesterov, adam], sampled: true}", "beta1": "0.9"},
        "hyperparameters.beta1: beta1 is fixed while the optimizer is scientific",
        {**EACH_TUNED, "optimizer": "{role: scientific, values: [nesterov, adam], sampled: true}"},
    ),
    "an optimizer hyperparameter fixed, the optimizer not asked about": (
        {**EACH_TUNED, "momentum": None},
        "momentum is left out while the optimizer is scientific",
        {"optimizer": "nesterov", "num_layers": DEPTH},
    ),
    "optimizers chosen through a switch": (
        {"algo": "{role: scientific, values: [a, b]}", "optimizer": "[{value: nesterov, when: {algo: a}}, {value: adam, when: {algo: b}}]"},
        "hyperparameters.optimizer[0]: momentum and beta1 are left out while the settings compare optimizers: 20 trials are enough to tune momentum for nesterov, beta1 for adam",
        {"algo": "{role: scientific, values: [a, b]}", "optimizer": "nesterov"},
    ),
    "evaluations that come too late": (
        {},
        "training.eval_every: eval_every (5,000) is more than max_train_steps (2,000): only the last step would be evaluated",
        {"warmup_steps": "60000"},
    ),
    "more nuisance hyperparameters than trials": (
        nuisances(2),
        "search.trials: 3 nuisance hyperparameters on 20 trials",
        nuisances(1),
    ),
    "more in one of the settings": (
        {"num_layers": DEPTH, "a": "{role: nuisance, range: [0, 1], when: {num_layers: 2}}", "b": "{role: nuisance, range: [0, 1], when: {num_layers: 2}}"},
        "search.trials: 3 nuisance hyperparameters where num_layers is 2 on 20 trials",
        {"num_layers": DEPTH, "a": "{role: nuisance, range: [0, 1], when: {num_layers: 2}}", "b": "{role: nuisance, range: [0, 1], when: {num_layers: 1}}"},
    ),
    "learning rate on a linear scale": (
        {"learning_rate": "{role: nuisance, range: [1e-3, 1]}"},
        "hyperparameters.learning_rate: learning_rate on a linear scale",
        {"learning_rate": "{role: nuisance, values: [1e-3, 1e-2, 1e-1]}"},
    ),
    "weight decay on a linear scale": (
        {"weight_decay": "{role: nuisance, range: [1e-5, 1]}"},
        "hyperparameters.weight_decay: weight_decay on a linear scale",
        {"weight_decay": "{role: nuisance, range: [1e-5, 1], scale: log}"},
    ),
    "epsilon on a linear scale": (
        {"optimizer": "adam", "epsilon": "{role: nuisance, range: [1e-10, 1]}"},
        "hyperparameters.epsilon: epsilon on a linear scale",
        {"optimizer": "adam", "epsilon": "{role: nuisance, range: [1e-10, 1], scale: log}"},
    ),
    "a fixed learning rate": (
        {"num_layers": DEPTH, "learning_rate": "0.1", "x": "{role: nuisance, range: [0, 1]}"},
        "hyperparameters.learning_rate: learning_rate is fixed while num_layers is scientific",
        {"learning_rate": "0.1", "x": "{role: nuisance, range: [0, 1]}"},
    ),
    "a learning rate that is fixed in one setting": (
        {"num_layers": DEPTH, "learning_rate": "[{value: 0.1, when: {num_layers: 1}}, {role: nuisance, range: [1e-3, 1], scale: log, when: {num_layers: 2}}]"},
        "hyperparameters.learning_rate[0]: learning_rate is fixed while num_layers is scientific",
        {"num_layers": DEPTH, "learning_rate": "[{role: nuisance, range: [1e-3, 3], scale: log, when: {num_layers: 1}}, {role: nuisance, range: [1e-3, 1], scale: log, when: {num_layers: 2}}]"},
    ),
    "fixed regularisation and a model's size": (
        {"num_layers": DEPTH, "weight_decay": "1e-4"},
        "hyperparameters.weight_decay: weight_decay is fixed while num_layers is scientific",
        {"num_layers": DEPTH, "weight_decay": "0"},
    ),
    "fixed regularisation and the batch size": (
        {"batch_size": "{role: scientific, values: [32, 64]}", "dropout": "0.5"},
        "hyperparameters.dropout: dropout is fixed while batch_size is scientific",
        {"batch_size": "{role: scientific, values: [32, 64]}", "dropout": "{role: nuisance, range: [0.1, 0.5]}"},
    ),
    "fixed regularisation behind a switch": (
        {"width": "{role: scientific, values: [32, 64]}", "on": "{role: scientific, values: [false, true]}", "dropout": "[{value: 0.5, when: {on: true}}, {value: 0, when: {on: false}}]"},
        "hyperparameters.dropout[0]: dropout is fixed while width is scientific",
        {"activation": "{role: scientific, values: [relu, tanh]}", "on": "{role: scientific, values: [false, true]}", "dropout": "[{value: 0.5, when: {on: true}}, {value: 0, when: {on: false}}]"},
    ),
    "settings with unequal numbers of nuisance hyperparameters": (
        {"num_layers": DEPTH, "dropout": "{role: nuisance, range: [0.1, 0.5], when: {num_layers: 2}}"},
        "search.trials: settings with the same number of trials but different numbers of nuisance hyperparameters: 2 where num_layers is 2, 1 where num_layers is 1",
        {"num_layers": DEPTH, "dropout": "[{role: nuisance, range: [0.1, 0.5], when: {num_layers: 2}}, {role: nuisance, range: [0.1, 0.3], when: {num_layers: 1}}]"},
    ),
    "evaluation batches smaller than training batches": (
        {"batch_size": "512", "eval_batch_size": "256"},
        "hyperparameters.eval_batch_size: evaluation batches smaller than training batches (512)",
        {"batch_size": "512", "eval_batch_size": "512"},
    ),
    "evaluation batches smaller than the default training batch": (
        {"eval_batch_size": "32"},
        "evaluation batches smaller than training batches (64)",
        {"batch_size": "32", "eval_batch_size": "32"},
    ),
    "evaluation batches smaller than some training batches": (
        {"batch_size": "{role: scientific, values: [64, 512]}", "eval_batch_size": "256"},
        "evaluation batches smaller than training batches (512)",
        {"batch_size": "{role: scientific, values: [64, 512]}", "eval_batch_size": "[{value: 64, when: {batch_size: 64}}, {value: 512, when: {batch_size: 512}}]"},
    ),
    "trials that differ by their seed alone": (
        {"num_layers": DEPTH, "learning_rate": "0.1"},
        "search.trials: nothing is sampled, so the 20 trials of a setting differ only by their seed",
        {"num_layers": DEPTH},
    ),
    "one range of the learning rate for two optimizers": (
        {"optimizer": OPTIMIZERS},
        "hyperparameters.learning_rate: one range of learning_rate for nesterov and adam: the same value has another effect",
        EACH_TUNED,
    ),
    "one range of weight decay for two optimizers": (
        {**EACH_TUNED, "weight_decay": "{role: nuisance, range: [1e-5, 1e-1], scale: log}"},
        "hyperparameters.weight_decay: one range of weight_decay for nesterov and adam",
        {**EACH_TUNED, "weight_decay": "[{role: nuisance, when: {optimizer: nesterov}, range: [1e-5, 1e-2], scale: log}, {role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}]"},
    ),
    "one range for optimizers that are sampled": (
        {"optimizer": "{role: scientific, values: [sgd, adam, adamw], sampled: true}"},
        "one range of learning_rate for sgd and adam",
        {"optimizer": "{role: scientific, values: [momentum, nesterov], sampled: true}"},
    ),
    "one rate for the matrices of muon and for adamw": (
        {"optimizer": "muon", "muon_scale": "original"},
        "hyperparameters.muon_scale: with muon_scale: original one learning rate does not fit both parts of muon",
        {"optimizer": "muon", "muon_scale": "original", "adamw_learning_rate": "3e-4"},
    ),
    "clipping by two rules": (
        {"grad_clip": "{role: scientific, values: [adaptive, none]}", "grad_clip_norm": "1"},
        "hyperparameters.grad_clip_norm: grad_clip_norm beside grad_clip: adaptive: the gradient is clipped twice",
        {"grad_clip": "update", "grad_clip_norm": "1"},
    ),
    "the optimizer as nuisance": (
        {"optimizer": "{role: nuisance, values: [nesterov, adam]}"},
        "hyperparameters.optimizer: optimizer as nuisance: each choice needs other values of its own hyperparameters",
        {"optimizer": "{role: nuisance, values: [adam]}"},
    ),
    "an architecture as nuisance": (
        {"num_layers": "{role: nuisance, range: [1, 4], type: int}"},
        "hyperparameters.num_layers: num_layers as nuisance: it changes the cost of a trial and of using the model",
        {"num_layers": DEPTH},
    ),
    "beta1 as scientific": (
        {"optimizer": "adam", "beta1": "{role: scientific, values: [0.8, 0.9]}"},
        "hyperparameters.beta1: beta1 as scientific: its best value changes with nearly everything else",
        {"optimizer": "adam", "beta1": "{role: nuisance, range: [0.8, 0.99], scale: one_minus_log}"},
    ),
    "a schedule as scientific": (
        {"schedule": "{role: scientific, values: [linear, cosine]}"},
        "hyperparameters.schedule: schedule as scientific: its best value changes",
        {"schedule": "{role: nuisance, values: [linear, cosine]}"},
    ),
    "a strength of regularisation as scientific": (
        {"dropout_rate": "{role: scientific, values: [0.1, 0.3, 0.5]}"},
        "hyperparameters.dropout_rate: dropout_rate as scientific: whether to use a regularisation is a question",
        {"dropout_rate": "{role: scientific, values: [0, 0.5]}"},
    ),
    "a strength of regularisation as scientific, without a switch": (
        {"weight_decay": "{role: scientific, range: [1e-5, 1e-1], scale: log}"},
        "hyperparameters.weight_decay: weight_decay as scientific",
        {"decay": "{role: scientific, values: [false, true]}", "weight_decay": "[{value: 0, when: {decay: false}}, {role: scientific, range: [1e-5, 1e-1], scale: log, when: {decay: true}}]"},
    ),
    "momentum fixed while the batch size varies": (
        {"optimizer": "momentum", "momentum": "0.9", "batch_size": "{role: scientific, values: [32, 64]}"},
        "hyperparameters.momentum: momentum is fixed while batch_size varies: the best momentum and learning rate change",
        {"optimizer": "momentum", "momentum": "{role: nuisance, range: [0.8, 0.99], scale: one_minus_log}", "batch_size": "{role: scientific, values: [32, 64]}"},
    ),
    "momentum left out while the batch size varies": (
        {"optimizer": "nesterov", "batch_size": "{role: scientific, values: [32, 64]}"},
        "hyperparameters.batch_size: momentum is left out while batch_size varies",
        {"optimizer": "sgd", "batch_size": "{role: scientific, values: [32, 64]}"},
    ),
    "three questions at once": (
        {"num_layers": DEPTH, "width": "{role: scientific, values: [32, 64]}", "activation": "{role: scientific, values: [relu, tanh]}"},
        "hyperparameters: 3 scientific hyperparameters (num_layers, width, activation): each combination is a setting",
        {"num_layers": DEPTH, "width": "{role: scientific, values: [32, 64]}"},
    ),
    "a warmup of more than a tenth": (
        {"warmup_steps": "{role: nuisance, range: [10, 400], type: int}"},
        "hyperparameters.warmup_steps: warmup_steps up to 400 are 20% of max_train_steps: a warmup of more than a tenth, 200, is not worth trying",
        {"warmup_steps": "100"},
    ),
    "a warmup of more than a twentieth": (
        {"warmup_steps": "150"},
        "hyperparameters.warmup_steps: warmup_steps up to 150 are 8% of max_train_steps: if stable training needs a warmup of more than 5 %",
        {"warmup_steps": "100"},
    ),
}  # fmt: skip


@each_case("name", PAIRS)
def test_a_warning_is_raised(name):
    hyperparameters, message, _ = PAIRS[name]
    found = warnings(hyperparameters, **LATE if message.startswith("training") else {})
    assert any(message in line for line in found), found


@each_case("name", PAIRS)
def test_its_neighbour_raises_none_of_that_kind(name):
    _, message, hyperparameters = PAIRS[name]
    kind = message.split(": ", 1)[-1].split(" (")[0].split(" on 20 ")[0]
    kind = kind if not kind[0].isdigit() else "nuisance hyperparameters"
    found = warnings(hyperparameters, **LATE if message.startswith("training") else {})
    assert not any(kind in line for line in found), found


def test_a_quantity_that_wants_no_log_scale_may_be_linear():
    assert warnings({"dropout": "{role: nuisance, range: [0, 0.5]}"}) == []


def test_the_playbook_s_budgets_for_adam():
    # below 10 trials the learning rate only, 10 to 24 also beta1, 25 and more also epsilon, well above that beta2
    assert [affordable_dimensions(trials) for trials in (1, 9, 10, 24, 25, 49, 50, 99, 100, 200)] == [
        1, 1, 2, 2, 3, 3, 4, 4, 5, 6,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("trials", "missing"),
    [(9, []), (10, ["beta1"]), (24, ["beta1"]), (25, ["beta1", "epsilon"]), (50, ["beta1", "beta2", "epsilon"])],
)
def test_what_the_budget_lets_be_tuned_under_adam_is_asked_for(trials, missing):
    found = warnings({"optimizer": "{role: scientific, values: [adam, adamw]}"}, trials=trials)
    named = [
        line.split(": ")[1].split(" is ")[0].split(" are ")[0] for line in found if "optimizer is scientific" in line
    ]
    assert sorted(name for names in named for name in names.replace(" and ", ", ").split(", ")) == missing
    assert len(named) == bool(missing)  # one message for the one entry


def test_optimizers_that_are_sampled_share_the_trials():
    sampled = {"optimizer": "{role: scientific, values: [nesterov, adam], sampled: true}"}
    assert not any("optimizer is scientific" in line for line in warnings(sampled, trials=18))
    assert any(": 10 trials are enough to tune" in line for line in warnings(sampled, trials=20))


def test_a_setting_of_many_names_is_described_by_the_first_three_of_them():
    many = {f"s{index}": "{role: scientific, values: ['1', '2']}" for index in range(4)}
    found = warnings({**many, **nuisances(2)}, trials=1)
    assert any(
        "3 nuisance hyperparameters where s0 is '1', s1 is '1', s2 is '1', … on 1 trial: " in line for line in found
    )


def test_a_learning_rate_on_nine_trials_and_nothing_else_is_what_the_playbook_says():
    assert warnings({**EACH_TUNED, "momentum": None, "beta1": None}, trials=9) == []
    found = warnings(EACH_TUNED, trials=9)
    assert len(found) == 1
    assert (
        "2 nuisance hyperparameters where optimizer is nesterov on 9 trials: this number of trials covers about 1"
        in found[0]
    )


def test_those_that_are_never_active_side_by_side_are_one_dimension_but_two_of_them_may_be_two():
    forms = {"form": "{role: nuisance, values: [a, b]}"}
    apart = {
        **forms,
        "x": "[{role: nuisance, range: [0, 1], when: {form: a}}, {role: nuisance, range: [0, 2], when: {form: b}}]",
    }
    assert any("3 nuisance hyperparameters" in line for line in warnings(apart))
    # x excludes y and z, but y and z can be active together: learning rate, form and two more
    side = {
        **forms,
        "x": "{role: nuisance, range: [0, 1], when: {form: a}}",
        "y": "{role: nuisance, range: [0, 1], when: {form: b}}",
        "z": "{role: nuisance, range: [0, 1], when: {form: b}}",
    }
    assert any("4 nuisance hyperparameters" in line for line in warnings(side))


def test_a_switch_that_brings_a_scientific_range_leaves_the_settings_equal():
    decay = {
        "decay": "{role: scientific, values: [false, true]}",
        "weight_decay": "[{value: 0, when: {decay: false}}, {role: scientific, when: {decay: true}, range: [1e-5, 1], scale: log}]",
    }
    assert warnings(decay) == []


def test_settings_that_get_unequal_trials_may_have_unequal_numbers_of_nuisance_hyperparameters():
    uneven = {"num_layers": DEPTH, "dropout": "{role: nuisance, values: [0.1, 0.5], when: {num_layers: 2}}"}
    grid = {**uneven, "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log, points: 2}"}
    assert warnings(grid, counts=(5, 10), search="{sampler: grid}") == []


def test_a_study_of_many_settings_is_reviewed_without_looking_at_all_settings_for_each():
    many = {f"s{index}": "{role: scientific, values: [0, 1]}" for index in range(8)}
    many |= {f"n{index}": f"{{role: nuisance, range: [0, 1], when: {{s{index}: 1}}}}" for index in range(8)}
    before = time.process_time()
    assert any("9 nuisance hyperparameters" in line for line in warnings(many))
    assert time.process_time() - before < 10  # all for each would take minutes


def test_a_set_of_one_value_is_a_fixed_value_in_other_words():
    found = warnings({"learning_rate": "{role: nuisance, values: [0.1]}", "num_layers": DEPTH}, trials=2)
    assert any("learning_rate is fixed while num_layers is scientific" in warning for warning in found)
    assert any("nothing is sampled" in warning for warning in found)


def kinds(found: list[str], words: str) -> list[str]:
    return [line for line in found if words in line]


def test_a_question_wants_a_goal_and_a_plain_search_wants_none():
    (found,) = warnings({"num_layers": DEPTH}, goal=None)
    assert found.startswith("hyperparameters: no goal: num_layers is scientific")
    assert warnings({}, goal=None) == []
    assert kinds(warnings({"num_layers": DEPTH}, goal="''"), "no goal")


def test_batch_sizes_are_compared_by_steps_or_by_epochs_and_the_goal_says_which():
    sizes = {"batch_size": "{role: scientific, values: [32, 256]}"}
    (found,) = warnings(sizes, goal="Which batch is better?")
    assert found.startswith("hyperparameters.batch_size: batch sizes are compared after the same number of steps")
    assert "uses 8 times the data" in found
    assert warnings(sizes, goal="Which batch is better after 20 epochs?") == []


@pytest.mark.parametrize(("trials", "warned"), [(2, True), (4, True), (5, False), (20, False)])
def test_settings_that_share_too_few_trials_are_left_to_luck(trials: int, warned: bool):
    found = kinds(warnings({"num_layers": DEPTH}, trials=trials), "2 settings share")
    assert bool(found) == warned


def test_settings_without_anything_to_optimise_over_need_one_trial():
    assert kinds(warnings({"num_layers": DEPTH, "learning_rate": "0.1"}, trials=1), "settings share") == []


@pytest.mark.parametrize(("axes", "warned"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_grid_is_for_one_or_two_dimensions(axes: int, warned: bool):
    names = {f"n{index}": "{role: nuisance, values: [1, 2, 3]}" for index in range(axes)}
    rate = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log, points: 3}"}
    found = kinds(warnings({**names, **rate}, search="{sampler: grid}", counts=(3 ** (axes + 1),)), "a grid in")
    assert found == ([f"search.sampler: {found[0].split(': ', 1)[1]}"] if warned else [])
    assert not warned or f"a grid in {axes + 1} nuisance dimensions" in found[0]


def test_random_points_cover_sampled_scientific_values_by_chance():
    sampled = {"num_layers": "{role: scientific, values: [1, 2, 3], sampled: true}"}
    (found,) = warnings(sampled, search="{sampler: random, trials: 20}")
    assert found.startswith("hyperparameters.num_layers: random points cover the values of num_layers")
    assert warnings({"num_layers": DEPTH}, search="{sampler: random, trials: 20}") == []
    assert warnings(sampled) == []


def test_listed_points_that_cover_scientific_values_unevenly_are_counted():
    points = [{"num_layers": 1, "learning_rate": rate / 10} for rate in range(1, 8)]
    few = [{"num_layers": 2, "learning_rate": 0.1}, {"num_layers": 2, "learning_rate": 0.2}]
    rates = {"num_layers": DEPTH, "learning_rate": "{role: nuisance, range: [0.01, 1], scale: log}"}
    (found,) = kinds(warnings(rates, search=f"{{points: {points + few}}}", counts=(7, 2)), "unevenly")
    assert "7 have 1, 2 2" in found
    even = [*points, *({**point, "num_layers": 2} for point in points)]
    assert warnings(rates, search=f"{{points: {even}}}", counts=(7, 7)) == []


@pytest.mark.parametrize(
    ("eval_every", "said"),
    [
        (100, ""),
        (200, ""),
        (250, "gives 8 evaluations in max_train_steps (2,000): too few"),
        (2000, "is the length of a trial, max_train_steps (2,000): only its start and its end are evaluated"),
        (2001, "is more than max_train_steps (2,000): only the last step would be evaluated"),
    ],
)
def test_fewer_than_ten_evaluations_show_no_curve(eval_every: int, said: str):
    found = warnings({}, training=f"{{max_train_steps: 2000, eval_every: {eval_every}}}")
    assert (len(found), all(said in line for line in found)) == (bool(said), True), found


def test_a_trial_of_few_steps_that_evaluates_each_of_them_can_do_no_more():
    assert warnings({}, training="{max_train_steps: 5, eval_every: 1}") == []


def test_advice_on_the_batch_size_is_never_to_search_for_a_better_value():
    (found,) = kinds(warnings({"batch_size": "{role: nuisance, values: [32, 64]}"}), "batch_size as nuisance")
    assert "scientific" not in found
    assert "tunectl batch-size" in found


def test_no_design_is_warned_about_twice_at_one_place_with_one_reason():
    found = warnings({"optimizer": "{role: scientific, values: [momentum, adam]}", "momentum": "{value: 0.9, when: {optimizer: momentum}}", "batch_size": "{role: scientific, values: [32, 64]}"})  # fmt: skip
    assert len(found) == len(set(found))
    assert len(kinds(found, "momentum is fixed")) == 2  # for the optimizer and for the batch size, each with its reason


def test_adam_and_adamw_share_a_learning_rate_and_no_weight_decay():
    both = {"optimizer": "{role: scientific, values: [adam, adamw]}"}
    decay = {"weight_decay": "{role: nuisance, range: [1e-5, 1e-1], scale: log}"}
    assert kinds(warnings({**both, **decay}), "one range of") == kinds(warnings({**both, **decay}), "of weight_decay")
    assert kinds(warnings({**both, **decay}), "one range of weight_decay for adam and adamw")
    switch = {**both, "weight_decay": "{role: scientific, values: [0, 1e-4]}"}
    assert kinds(warnings(switch), "one range of") == []


@pytest.mark.parametrize("values", ["[false, true]", "[true, false]"])
def test_a_setting_with_something_to_tune_needs_trials_in_whatever_order_settings_are_listed(values: str):
    study_of = {
        "learning_rate": "0.1",
        "on": f"{{role: scientific, values: {values}}}",
        "dropout": "[{value: 0, when: {on: false}}, {role: nuisance, range: [0.1, 0.5], when: {on: true}}]",
    }
    assert kinds(warnings(study_of, trials=2), "2 settings share")


def test_a_batch_size_that_is_not_compared_has_one_warning_which_says_to_fix_it():
    found = warnings({"optimizer": "momentum", "momentum": "0.9", "batch_size": "{role: nuisance, values: [32, 64]}"})
    assert kinds(found, "momentum is fixed") == []
    assert kinds(found, "batch_size as nuisance")


def test_a_scientific_value_without_any_listed_point_is_named():
    points = [{"num_layers": 1, "learning_rate": rate / 10} for rate in range(1, 6)]
    rates = {"num_layers": DEPTH, "learning_rate": "{role: nuisance, range: [0.01, 1], scale: log}"}
    (found,) = kinds(warnings(rates, search=f"{{points: {points}}}", counts=(5, 0)), "unevenly")
    assert "5 have 1, 0 2" in found


def test_a_warning_about_settings_with_equally_few_trials_says_how_many_each_has():
    found = warnings({"optimizer": "{role: scientific, values: [sgd, nesterov]}"}, trials=3)
    assert any("2 settings share 6 trials, 3 each: too few" in line for line in found), found


def test_a_linear_range_to_which_a_learning_rate_is_in_proportion_wants_a_log_scale():
    derived = {"learning_rate": "{formula: base * batch_size / 256}", "batch_size": "64"}
    (found,) = warnings({**derived, "base": "{role: nuisance, range: [0.1, 10]}"})
    assert found.startswith("hyperparameters.base: base on a linear scale: learning_rate is in proportion to it")
    assert warnings({**derived, "base": "{role: nuisance, range: [0.1, 10], scale: log}"}) == []
    exponent = {"learning_rate": "{formula: exp(base)}", "base": "{role: nuisance, range: [1, 2]}"}
    assert warnings(exponent) == []


def test_a_computed_learning_rate_is_tuned_if_a_name_in_its_formula_is():
    derived = {"num_layers": DEPTH, "learning_rate": "{formula: 2 * base}"}
    tuned = "{role: nuisance, range: [0.01, 1], scale: log}"
    assert warnings({**derived, "base": tuned}) == []
    fixed = warnings({**derived, "base": "0.1"})
    assert any("learning_rate is fixed while num_layers is scientific" in found for found in fixed)


def test_a_batch_size_computed_from_a_nuisance_is_one():
    sizes = {"batch_size": "{formula: 2 ** power, type: int}", "power": "{role: nuisance, range: [4, 6], type: int}"}
    assert any("batch_size as nuisance" in found for found in warnings({**sizes, "optimizer": "sgd"}))


@pytest.mark.parametrize(
    ("hyperparameters", "devices", "message"),
    [
        ({"batch_size": "{role: scientific, values: [8, 64]}"}, 4, ""),
        ({"batch_size": "{role: scientific, values: [8, 64]}"}, 5, "a batch of 8 examples leaves one example to"),
        (
            {"batch_size": "3"},
            4,
            "a batch of 3 examples leaves no example to some of the 4 devices of a trial: they gain",
        ),
        ({"batch_size": "60", "accumulate_steps": "{role: fixed, value: 10}"}, 3, ""),
        (
            {"batch_size": "60", "accumulate_steps": "{role: fixed, value: 10}"},
            4,
            "a micro-batch of 6 examples leaves one",
        ),
        ({}, 64, "a batch of 64 examples leaves one example to"),
        ({"batch_size": "1"}, 1, ""),
    ],
)
def test_a_batch_that_leaves_one_example_or_none_to_a_device_is_warned_about(hyperparameters, devices, message):
    found = warnings(hyperparameters, resources=f"{{devices_per_trial: {devices}}}")
    found = [line for line in found if line.startswith("resources.devices_per_trial: ")]
    assert len(found) == bool(message)
    assert all(message in line for line in found), found
