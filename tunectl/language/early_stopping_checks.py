"""What is wrong with `search.stop_early`, and what is doubtful: trials that cannot be compared are never stopped."""

from __future__ import annotations

from tunectl.core.errors import PathKey, Problem
from tunectl.core.wording import listed, nearest
from tunectl.language.configuration import SHAPE_OF_SCHEDULE
from tunectl.language.document import Document
from tunectl.language.review_context import Context
from tunectl.language.sections import Sections
from tunectl.space.domains import Range

STOP_EARLY: PathKey = ("search", "stop_early")


def check_stop_early(document: Document, sections: Sections, *, own_code: bool) -> None:
    """Note in the document where trials cannot be stopped early by the rest of the study."""
    asked = sections.search.stop_early
    if asked is None:
        return
    if sections.objective.steps_to is not None:
        message = "expected no steps_to beside it: a trial that is worse now may reach the target first; leave one out"
        document.report(STOP_EARLY, message, at_key=True)
    if sections.search.sampler == "bayesian":
        message = "the sampler bayesian proposes points by the results of whole trials; leave stop_early out"
        document.report(STOP_EARLY, message, at_key=True)
    if own_code and asked.same is None:
        message = (
            "only trials with the same schedule are compared, and which hyperparameters of own code shape its schedule "
            "is not known; write same: [names of those], or same: [] where none does"
        )
        document.report(STOP_EARLY, message, at_key=True)
    for place, name in enumerate(asked.same or ()):
        if name not in sections.hyperparameters:
            message = f"expected a hyperparameter, got '{name}'{nearest(name, list(sections.hyperparameters))}"
            document.report((*STOP_EARLY, "same", place), message)


def review_stop_early(context: Context) -> list[Problem]:
    """A warning where a hyperparameter that varies leaves few trials, or none, to compare with one another."""
    spec = context.spec
    asked = spec.search.stop_early
    if asked is None:
        return []
    apart = {*(asked.same or ()), *(() if spec.own_code else SHAPE_OF_SCHEDULE)}
    varying = [
        name
        for name in spec.names
        if name in apart and any(item.varies and isinstance(item.domain, Range) for item in spec.alternatives(name))
    ]
    if not varying:
        return []
    verb = "differs" if len(varying) == 1 else "differ"
    message = (
        f"only trials with the same schedule are compared, and {listed(varying)} {verb} between trials, so that few or "
        "none are stopped; give it one value, or a few, or leave stop_early out"
    )
    return [spec.problem(STOP_EARLY, message, at_key=True)]
