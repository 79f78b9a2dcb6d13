"""Runs that are started from Python, by the same rules as `tunectl run`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tunectl.api.plain_values import plain
from tunectl.api.runner_process import run_to_its_end
from tunectl.api.study import Study, StudyPath, open_study
from tunectl.core import parent_death, regular_files
from tunectl.core.errors import UsageError
from tunectl.core.files import write_if_changed
from tunectl.core.path_errors import path_error, path_errors
from tunectl.execution.backends import BACKENDS

_MARK = "# Written by tunectl.run from a dict; the next call with a study of this name writes it anew.\n"


def run(
    study: Mapping[str, Any] | StudyPath,
    *,
    folder: StudyPath | None = None,
    slots: int | None = None,
    order: Literal["plan", "reversed"] = "plan",
    retry_failed: bool = False,
    no_wait: bool = False,
    progress: bool = False,
    backend: str | None = None,
) -> Study:
    """Train the trials of a study, or those that are left, and give its study folder.

    `study` is the path of a study file, or what is in one as a dict: then it is first written to `<study>.yaml` in the
    current folder, so that errors have a line, and the commands have a file. The other arguments are the options of
    `tunectl run`; `folder` is its `--dir`. Where workers train (backend external, slurm or ray), it waits for them, and
    an interrupt leaves the trials to them. Warnings and failed trials are printed to stderr, with `progress` also a
    line for each trial that ends.

    A runner of its own trains, also if this is called by a notebook or from a thread, and ends with this process. An
    interrupt lets the running trials save, and is raised as KeyboardInterrupt then; a second one ends them at once. The
    same call goes on. Trials that fail raise nothing: they are rows of `trials()`.

    Raises tunectl.TunectlError, with the text that the command prints, where it ends with the exit code 2 or 3, and
    where the run was stopped by something else than an interrupt of this process.
    """
    if parent_death.MARK in os.environ:
        # Without end: the runner would import the file that called it, which calls again.
        raise UsageError(
            "tunectl.run was called by a process of a run: in a file that is also the workload or the program, put the "
            'call below `if __name__ == "__main__":`'
        )
    if order not in ("plan", "reversed"):
        raise UsageError(f"order: expected 'plan' or 'reversed', got {order!r}")
    if slots is not None and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 1):
        raise UsageError(f"slots: expected a whole number from 1 on, got {slots!r}")
    if backend is not None and backend not in list(BACKENDS):
        raise UsageError(f"backend: expected {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    file = _written(study) if isinstance(study, Mapping) else Path(study)
    asked: dict[str, Any] = {
        "study": os.fspath(file),
        "folder": os.fspath(folder) if folder is not None else None,
        "slots": slots,
        "order": order,
        "retry_failed": bool(retry_failed),
        "no_wait": bool(no_wait),
        "backend": backend,
    }
    asked |= {"command": _command(asked), "caller": os.getpid()}
    return open_study(run_to_its_end(asked, progress=progress))


def _command(asked: Mapping[str, Any]) -> list[str]:
    """The command that does the same, for provenance.json."""
    words = ["tunectl", "run", asked["study"]]
    words += ["--dir", asked["folder"]] if asked["folder"] is not None else []
    words += ["--slots", str(asked["slots"])] if asked["slots"] is not None else []
    words += ["--order", asked["order"]] if asked["order"] != "plan" else []
    words += ["--retry-failed"] if asked["retry_failed"] else []
    words += ["--backend", asked["backend"]] if asked["backend"] is not None else []
    return [*words, "--no-wait"] if asked["no_wait"] else words


def _written(study: Mapping[str, Any]) -> Path:
    """The file of a study that was given as a dict, in the current folder."""
    # yaml is imported only here: most studies are files.
    from tunectl.language.document_text import document_text
    from tunectl.store.study_folder import study_path

    content = plain(study)
    name = content.get("study")
    if not isinstance(name, str):
        raise UsageError(f"a study that is a dict needs its name: expected a text under 'study', got {name!r}")
    path = study_path(Path(), f"{name}.yaml")
    try:
        found = regular_files.text(path, errors="replace")
    except FileNotFoundError:
        found = _MARK
    except OSError as error:
        raise path_error(path, "read", error) from error
    if not found.startswith(_MARK):
        raise UsageError(
            f"{path}: is there already, and tunectl.run did not write it; run it by its path, or give the study "
            "another name"
        )
    text = _MARK + document_text(content)
    with path_errors(path, "written"):
        write_if_changed(path, text.encode("utf-8", "surrogatepass"))
    return path
