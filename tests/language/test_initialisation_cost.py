"""The expected cost of initialisations, against products written out by hand."""

from __future__ import annotations

from builders import study

from tunectl.language.initialisation_cost import InitialisationCost, initialisation_costs

BOTH = "{role: scientific, values: [none, metainit, gradinit]}"
SECTIONS = {"training": "{max_train_steps: 1000, eval_every: 10}", "search": "{trials: 5}"}


def test_a_study_without_one_has_no_cost() -> None:
    assert initialisation_costs(study()) == ()
    assert initialisation_costs(study({"initialisation": "none"})) == ()
    own = study({"optimizer": None}, workload="{function: ./a.py:f}", training="{max_train_steps: 9}")
    assert initialisation_costs(own) == ()


def test_each_procedure_costs_its_iterations_on_64_examples() -> None:
    # 1000 updates of 32 to 128 examples, iterations of 10 and 5 gradients of 64 examples.
    spec = study({"initialisation": BOTH, "batch_size": "{role: nuisance, values: [32, 128]}"}, **SECTIONS)
    assert initialisation_costs(spec) == (
        InitialisationCost("metainit", 500, (500 * 640 / 128_000, 500 * 640 / 32_000)),
        InitialisationCost("gradinit", 780, (780 * 320 / 128_000, 780 * 320 / 32_000)),
    )


def test_the_steps_of_a_study_are_those_of_each_procedure() -> None:
    steps = "[{value: 50, when: {initialisation: metainit}}, {value: 70, when: {initialisation: gradinit}}]"
    spec = study({"initialisation": BOTH, "initialisation_steps": steps}, **SECTIONS)
    assert [(each.method, each.steps) for each in initialisation_costs(spec)] == [("metainit", 50), ("gradinit", 70)]
