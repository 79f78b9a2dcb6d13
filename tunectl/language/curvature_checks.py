"""`training: curvature:` beside the rest of a study: what is wrong with it, and warnings about what it leaves out.

Its keys and their bounds are in sections.py.
"""

from __future__ import annotations

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import PathKey, Problem
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.objective import Objective
from tunectl.core.records import WorkloadKind
from tunectl.core.user_code import is_code
from tunectl.core.wording import counted, listed
from tunectl.language.document import Document
from tunectl.language.optimizer_traits import is_adaptive, is_optimizer
from tunectl.language.review_context import Context
from tunectl.language.review_training import longest_trial

_SECTION: PathKey = ("training", "curvature")
_MOST_NAMED = 3


def check_curvature(
    document: Document, settings: CurvatureSettings, objective: Objective, workload_kind: WorkloadKind
) -> None:
    """Note in the document what is wrong with a section whose values are right, one by one."""
    if workload_kind == "command":
        document.report(
            _SECTION,
            "a command trains in a process of its own, whose model and loss tunectl cannot use; leave curvature out, "
            "or train in a function, which may call trial.curvature",
            at_key=True,
        )
        return
    if settings.every is not None and settings.at:
        document.report((*_SECTION, "at"), "expected either every or at, got both; leave one of them out", at_key=True)
    elif settings.every is None and not settings.at and workload_kind == "workload":
        message = "expected the key every or at; write every: 100 (updates) or at: [0, 10, 100]"
        document.report(_SECTION, message, at_key=True)
    if settings.max_products <= settings.eigenvalues:
        document.report(
            (*_SECTION, "max_products"),
            f"expected more than eigenvalues ({settings.eigenvalues}), since each takes at least one product, got "
            f"{settings.max_products}",
        )
    if objective.metric.startswith(CURVATURE.column("")):  # without a section, a function may use the name
        document.report(
            ("objective", "metric"),
            f"expected a metric that is not called {CURVATURE.column('…')}, which training.curvature measures, got "
            f"'{objective.metric}'",
        )


def never_measured(context: Context) -> list[Problem]:
    """A warning where the curvature is to be measured after more updates than a trial has."""
    settings, longest = context.spec.training.curvature, longest_trial(context.spec)
    if settings is None or context.spec.own_code:
        return []
    late = [step for step in settings.at if step > longest]
    if late:
        more = [f"{len(late) - _MOST_NAMED:,} more"] if len(late) > _MOST_NAMED else []
        named = listed([*(f"{step:,}" for step in late[:_MOST_NAMED]), *more])
        message = f"a trial has at most {counted(longest, 'update')}: nothing is measured after {named}"
        return [context.spec.problem((*_SECTION, "at"), message)]
    if settings.every is not None and settings.every > longest:
        message = (
            f"a trial has at most {counted(longest, 'update')}: the curvature is measured at its start alone; write a "
            f"smaller every, such as {max(1, longest // 20):,}"
        )
        return [context.spec.problem((*_SECTION, "every"), message)]
    return []


def measures_without_effect(context: Context) -> list[Problem]:
    """Warnings about what is written under curvature and can measure nothing."""
    spec, settings = context.spec, context.spec.training.curvature
    if settings is None:
        return []
    found = []
    chosen = {value for item in spec.alternatives("optimizer") for value in item.domain.listed or ()}
    place: PathKey = (*_SECTION, "measures")
    # By default, preconditioned is among the measures for those studies where it can be measured.
    if place in spec.places and "preconditioned" in settings.measures and not spec.own_code:
        names = sorted(str(value) for value in chosen)
        if not any(is_optimizer(value) and is_adaptive(value) for value in chosen):
            known = f"{listed(names)} {'does' if len(names) == 1 else 'do'} not"
            said = f"of {listed(names)} that is not known" if any(map(is_code, chosen)) else known
            message = (
                "preconditioned needs an optimizer that scales each coordinate by its gradients, such as adam or "
                f"rmsprop, and {said}: it will be left out"
            )
            found.append(spec.problem(place, message))
    code = sorted(str(value) for value in chosen if is_code(value))
    if place in spec.places and "critical_learning_rate" in settings.measures and code:
        message = f"the critical learning rate of {listed(code)} is not known: it will be left out there"
        found.append(spec.problem(place, message))
    if settings.eigenvalues > 1 and "lambda_1" not in settings.measures:
        message = "eigenvalues has no effect without lambda_1 among the measures"
        found.append(spec.problem((*_SECTION, "eigenvalues"), message))
    return found
