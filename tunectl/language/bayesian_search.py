"""Checks `search: {sampler: bayesian, after: DIR}`: one setting, whose hyperparameters are active in every trial."""

from __future__ import annotations

from tunectl.language.document import Document
from tunectl.space.conditions import Conditions
from tunectl.space.hyperparameters import Hyperparameter
from tunectl.space.search_space import SearchSection

AFTER = ("search", "after")

MOST_TRIALS = 1_000
"""The time of a model's fit grows with the cube of the number of trials."""


def check_after(document: Document, search: SearchSection) -> None:
    """Note a problem where `after` is missing under the sampler bayesian, or is there without it."""
    if search.sampler == "bayesian" and not search.after:
        document.report(
            AFTER,
            "the key is missing; write the folder of the study that explored this space, such as runs/exploration: "
            "its trials are the data from which points are proposed",
            at_key=True,
        )
    if search.sampler == "bayesian" and (search.trials or 0) > MOST_TRIALS:
        message = f"expected at most {MOST_TRIALS:,} trials with sampler: bayesian, got {search.trials:,}"
        document.report(("search", "trials"), message)
    if search.sampler != "bayesian" and search.after:
        document.report(
            AFTER, f"only sampler: bayesian begins from an earlier study, and this one is {search.sampler}", at_key=True
        )


def check_flat(document: Document, conditions: Conditions) -> None:
    """Note a problem for each hyperparameter that the model of one flat space cannot have.

    Those are scientific values, which make several settings, and a hyperparameter that is active in some trials only.
    Raises TooManyCombinationsError.
    """
    items = [item for alternatives in conditions.by_name.values() for item in alternatives]
    for item in items:
        if item.makes_settings:
            message = (
                f"sampler: bayesian searches one setting; write the value of {item.name} that it has there, such as "
                f"{item.name}: {item.sampled_domain.grid()[0]}"
            )
            document.report(item.path, message)
        elif item.has_coordinate and item.when and _is_sometimes_active(conditions, item):
            names = " and ".join(item.when)
            message = (
                f"sampler: bayesian models trials that all have the same hyperparameters, and {item.key} is active in "
                f"some only; give {names} one value, or {item.name}"
            )
            document.report(item.path, message)
    if not any(item.varies for item in items):
        document.report(
            ("search", "sampler"), "sampler: bayesian proposes values, and no hyperparameter has a range or values"
        )


def _is_sometimes_active(conditions: Conditions, item: Hyperparameter) -> bool:
    states = {combination.active.get(item.name) is item for combination in conditions.combinations([item.name])}
    return len(states) > 1
