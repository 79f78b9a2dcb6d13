"""Finds the optimizers and schedules that a study names by `module:Name`, without importing them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from tunectl.core.errors import Problem, WorkloadError
from tunectl.core.records import CodeKind, FactorySignature, WorkloadReference
from tunectl.core.user_code import FoundCode
from tunectl.language.code_checks import NamedCode, named_code
from tunectl.language.declared_study import DeclaredStudy
from tunectl.workloads.workload_reference import parse_reference, read_signature

_KINDS: dict[str, CodeKind] = {"optimizer": "optimizer", "schedule": "schedule"}


def find_code(study: DeclaredStudy, file: Path, current_folder: Path, problems: list[Problem]) -> dict[str, FoundCode]:
    """The code of a study by its text; appends to `problems` where it does not exist, or cannot be called."""
    found: dict[str, FoundCode] = {}
    for named in named_code(study.hyperparameters):
        if named.text in found:
            if found[named.text].reference.workload_kind != named.field:
                problems.append(study.problem(named.path, f"{named.text} is an optimizer and a schedule at once"))
            continue
        try:
            reference = parse_reference(named.text, file, current_folder, _KINDS[named.field])
            found[named.text] = FoundCode(reference, read_signature(reference))
        except (ValueError, WorkloadError) as error:
            problems.append(study.problem(named.path, f"{error}{_remedy(named)}"))
    return found


def _remedy(named: NamedCode) -> str:
    """What helps where a library does not have the name: a later version, with the one that is installed."""
    top = named.text.partition(".")[0].partition(":")[0]
    try:
        version = importlib.metadata.version(top)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
    return f" ({top} {version} is installed; another version may have it)"


def files_of(code: Sequence[FoundCode]) -> list[str]:
    """The files in which the code is, as far as they are known, each once."""
    return list(dict.fromkeys(item.signature.file for item in code if item.signature.file))


def unseen(code: Sequence[FoundCode]) -> list[tuple[WorkloadReference, FactorySignature]]:
    """The code whose parameters its source does not show."""
    return [(item.reference, item.signature) for item in code if item.signature.open]
