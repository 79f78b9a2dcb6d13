"""Whether a worker's host has the code with which a run was started: else its trials would be others, unseen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunectl.core.errors import UsageError
from tunectl.store.provenance import file_sha256, installed_versions
from tunectl.store.run_state import WorkerNeeds


def check_same_code(needs: WorkerNeeds, say: Callable[[str], None]) -> None:
    """Raise UsageError, which names all that differs, where trials that are trained here would be others.

    That is another version of tunectl, or of torch where tunectl trains, and another file of the user's code. Another
    version of a further library is a warning. What is not known on both hosts is not compared.
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
    if wrong:
        remedy = "; then call the command of the run again" if changed else ""
        raise UsageError(
            "this host has other code than the run that offers the trials, so they would not be the same: "
            f"{'; '.join(wrong)}. Let the hosts have the same{remedy}"
        )


def _release(version: str) -> str:
    """A version without the name of its build (2.9.1+cpu), which differs between hosts with and without GPUs."""
    return version.partition("+")[0]
