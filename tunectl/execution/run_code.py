"""Whether a worker's host has the code with which a run was started: else its trials would be others, unseen, or would
all fail one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tunectl.core.errors import UsageError
from tunectl.core.own_code_request import Program, which
from tunectl.store.provenance import file_sha256, installed_versions
from tunectl.store.run_state import WorkerNeeds


def check_same_code(needs: WorkerNeeds, say: Callable[[str], None]) -> None:
    """Raise UsageError, which names all that differs, where trials that are trained here would be others.

    That is another version of tunectl, or of torch where tunectl trains, and another file of the user's code. Another
    version of a further library is a warning, and so is another place of a command's program. What is not known on both
    hosts is not compared, but a command's program and files must be here: no loading shows that they are not.
    """
    here = installed_versions()
    versions = {name: (version, own) for name, version in needs.versions.items() if version and (own := here.get(name))}
    different = {name: both for name, both in versions.items() if _release(both[0]) != _release(both[1])}
    needed = ("tunectl",) if needs.own_code else ("tunectl", "torch")
    wrong = [
        f"{name} {own} is installed here, and the run has {run}"
        for name, (run, own) in different.items()
        if name in needed
    ]
    for name, (run, own) in different.items():
        if name not in needed:
            say(f"warning: {name} {own} is installed here, and the run has {run}: results may differ")
    changed = [file for file, known in needs.files.items() if (own := file_sha256(Path(file))) and own != known]
    wrong += [f"{file} is another file here, or was changed since the run was started" for file in changed]
    wrong += _missing_of_program(needs, say)
    if wrong:
        remedy = "; then call the command of the run again" if changed else ""
        raise UsageError(
            "this host has other code than the run that offers the trials, so they would not be the same: "
            f"{'; '.join(wrong)}. Let the hosts have the same{remedy}"
        )


def with_program(needs: WorkerNeeds, program: Program | None) -> WorkerNeeds:
    """The needs of a run whose trials start this program, if any; one that the study's own PATH has is not known."""
    if program is None:
        return needs
    first, folder = program.arguments[0], program.folder
    if not isinstance(first, str) or "{" in first or "PATH" in program.environment:
        return replace(needs, program_folder=folder)
    found = which(first, Path(folder)) or ""
    return replace(needs, program=first if found else "", program_folder=folder, program_path=found)


def _missing_of_program(needs: WorkerNeeds, say: Callable[[str], None]) -> list[str]:
    if not needs.program_folder:
        return []
    folder = Path(needs.program_folder)
    if not os.path.isdir(folder):  # noqa: PTH112  (it does not raise)
        return [f"there is no folder {folder} here"]
    missing = [f"there is no file {file} here" for file in needs.files if not os.path.isfile(file)]  # noqa: PTH113
    found = which(needs.program, folder) if needs.program else ""
    if found is None:
        missing.append(f"there is no program {needs.program!r} here, neither on the PATH nor in {folder}")
    elif found != needs.program_path:
        say(f"warning: {needs.program} is {found} here, and the run has {needs.program_path}: results may differ")
    return missing


def _release(version: str) -> str:
    """A version without the name of its build (2.9.1+cpu), which differs between hosts with and without GPUs."""
    return version.partition("+")[0]
