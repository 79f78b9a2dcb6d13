"""Finds the optimizers and schedules that a study names by `module:Name`, without importing them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from tunectl.core.errors import Problem, WorkloadError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import CodeKind
from tunectl.core.user_code import FoundCode
from tunectl.language.code_checks import NamedCode, named_code
from tunectl.language.declared_study import DeclaredStudy
from tunectl.store.provenance import changed_code, workload_hash_changed
from tunectl.workloads.workload_reference import parse_reference, read_signature

_INSTALLED = frozenset({"site-packages", "dist-packages"})
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
    import importlib.metadata

    top = named.text.partition(".")[0].partition(":")[0]
    try:
        version = importlib.metadata.version(top)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
    return f" ({top} {version} is installed; another version may have it)"


def own_files(code: Collection[FoundCode]) -> list[Path]:
    """The files of the user in which the code is, each once; installed libraries are known by their versions."""
    files = dict.fromkeys(Path(item.signature.file) for item in code if item.signature.file)
    return [file for file in files if not _INSTALLED.intersection(file.parts)]


def changed_files(folder: StudyFolder, workload: str | None, code: Collection[FoundCode]) -> list[Path]:
    """The file of the workload, and those of its optimizers and schedules, that have changed since the last run."""
    file = Path(workload) if workload else None
    changed = [file] if file is not None and workload_hash_changed(folder, file) else []
    return list(dict.fromkeys([*changed, *changed_code(folder, own_files(code))]))


def unseen(code: Mapping[str, FoundCode]) -> list[str]:
    """A line for each piece of code whose parameters its source does not show."""
    return [
        f"{text}: its arguments are checked by run or check --probe: {item.signature.reason}"
        for text, item in code.items()
        if item.signature.open
    ]
