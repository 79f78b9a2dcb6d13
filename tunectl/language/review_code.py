"""Warnings about optimizers of the study's own, of which less is known than of tunectl's."""

from __future__ import annotations

from tunectl.core.errors import Problem
from tunectl.core.wording import listed
from tunectl.language.code_arguments import STUDY_RATE, code_of, takers
from tunectl.language.code_checks import named_code
from tunectl.language.configuration import OF_OPTIMIZERS
from tunectl.language.review_context import Context, can_differ
from tunectl.language.review_optimizers import compared_optimizers


def unknown_optimizers(context: Context) -> list[Problem]:
    """Where a study compares optimizers, and one is its own: what of it has to be tuned is not known."""
    compared, code = compared_optimizers(context), context.spec.code
    problems, seen = list[Problem](), set[str]()
    for named in named_code(context.spec.hyperparameters):
        text = named.text
        if text not in compared or len(compared) < 2 or text in seen or text not in code_of(code, "optimizer"):
            continue
        seen.add(text)
        tuned = _tuned(context, text)
        by = f"it is tuned by {listed(tuned)}" if tuned else "nothing of it is tuned"
        message = (
            f"{text} is compared with {listed([other for other in compared if other != text])}, and which of its "
            f"hyperparameters have to be tuned is not known: {by}; a comparison is fair only when each optimizer is "
            "tuned as well as the other"
        )
        problems.append(context.spec.problem(named.path, message))
    return problems


def _tuned(context: Context, text: str) -> list[str]:
    """The names of what varies under an optimizer and goes to it."""
    names = [name for name in context.spec.names if _goes_to(context, text, name)]
    extra = {"optimizer": [text]}
    return [
        name
        for name in names
        if any(
            combination.values.get("optimizer") == text
            and name in combination.active
            and can_differ(combination.active[name])
            for combination in context.conditions.combinations(["optimizer", name], extra=extra)
        )
    ]


def _goes_to(context: Context, text: str, name: str) -> bool:
    if name == STUDY_RATE:
        return True
    if context.spec.code[text].signature.open:
        return name in OF_OPTIMIZERS
    return text in takers(context.spec.code, name).get("optimizer", ())
