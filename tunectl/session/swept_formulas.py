"""What becomes of a study's formulas in a procedure, which sets some hyperparameters by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tunectl.core.errors import UsageError
from tunectl.core.records import FactorySignature, Scalar
from tunectl.language.configuration import FIELDS
from tunectl.language.placeholders import FILE, names_in, placeholders
from tunectl.language.study_spec import StudySpec
from tunectl.procedures.procedure import Procedure


def unused_formulas(spec: StudySpec, swept: Collection[str]) -> list[str]:
    """The formulas of what a procedure sets by itself, each as `learning_rate = …`: they are not used then."""
    return [f"{item.key} = {item.formula.text}" for item in spec.hyperparameters if item.formula and item.name in swept]


def left_out(
    spec: StudySpec, swept: Collection[str], signature: FactorySignature | None, named: Mapping[str, Scalar]
) -> frozenset[str]:
    """The hyperparameters that only formulas of swept ones use, so that trials have no place for them.

    `named` are the values that the user gives; raises UsageError for one of such a hyperparameter.
    """
    parents = {parent for item in spec.hyperparameters for parent in item.when}
    needed = {
        name for item in spec.hyperparameters if item.formula and item.name not in swept for name in item.formula.names
    }
    operands = {name for item in spec.hyperparameters if item.formula for name in item.formula.names}
    found = operands - parents - needed - set(swept) - _read(spec, signature)
    for name in found & named.keys():
        of = ", ".join(item.name for item in spec.hyperparameters if item.formula and name in item.formula.names)
        raise UsageError(f"--at {name}: only the formula of {of} uses it, and {of} is set without it; leave it out")
    return frozenset(found)


def _read(spec: StudySpec, signature: FactorySignature | None) -> set[str]:
    """The hyperparameters that the user's code names, or the training configuration reads.

    Code that takes any keyword would get the others too, but has no use for what another value is computed from.
    """
    if spec.program is not None:
        texts = spec.program.environment.values()
        read = {*placeholders(spec.program.arguments), *(name for text in texts for name in names_in(text))}
        return set(spec.names) if FILE in read else read
    return {*(signature.parameters if signature is not None else ()), *(() if spec.own_code else FIELDS)}


def refuse_formulas(procedure: Procedure[Any], spec: StudySpec) -> None:
    """Raise UsageError where a procedure that tunes all that a study samples would have to compute a formula."""
    if not procedure.tunes_all:
        return
    for item in spec.hyperparameters:
        if item.formula is not None and (item.varies or item.name in procedure.swept):
            raise UsageError(
                f"{procedure.name}: tunes what the study samples, and {spec.label} computes {item.key} by a formula "
                f"({item.formula.text}): write a range in place of the formula in a copy of the study"
            )
