"""`tunectl curvature`: measure the curvature of the loss, and the learning rates that it allows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.progress_display import watcher
from tunectl.cli.shared_options import AsJson, BackendName, NoWait, Quiet, RetryFailed, Slots
from tunectl.cli.sweeps import (
    At,
    HighestRate,
    LowestRate,
    SharedOptions,
    ValuesFrom,
    folder_option,
    run_sweep,
    say_report,
)
from tunectl.core.errors import UsageError
from tunectl.core.folders import StudyFolder

MOST_TRIALS = 10_000
"""A range of more trials is a typing error."""


def curvature(
    study: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY|DIR", help="The study's YAML file, or a finished study's folder.", show_default=False
        ),
    ],
    *,
    trials: Annotated[
        str | None,
        typer.Option(
            "--trials",
            metavar="LIST",
            help="Of a folder: measure the kept checkpoints of these trials, such as 3,7 or 0-4.",
            show_default=False,
        ),
    ] = None,
    low: LowestRate = None,
    high: HighestRate = None,
    points: Annotated[
        int | None,
        typer.Option(
            "--points",
            metavar="N",
            help="The number of learning rates, each trained 4 to 6 times.  [default: 3 per decade]",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="N", help="Train this number of steps.  [default: max_train_steps]", show_default=False
        ),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(
            "--warmup",
            metavar="N",
            help="The length of the warmup.  [default: a tenth of the steps, at most 1000]",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", metavar="N", help="The number of seeds at initialisation.  [default: 5]", show_default=False
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            "--step",
            metavar="N",
            help="Compare eigenvalues with the bound after this number of steps.  [default: the end of the warmup]",
            show_default=False,
        ),
    ] = None,
    values_from: ValuesFrom = None,
    at: At = None,
    study_file: Annotated[
        Path | None,
        typer.Option(
            "--study", metavar="FILE", help="Of a folder: the study file, if it was moved.", show_default=False
        ),
    ] = None,
    folder: Annotated[Path | None, folder_option("curvature")] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Measure curvature, and the learning rates that it allows.

    In each setting of a study: at initialisation under several seeds, then over a grid of learning rates, without a
    warmup and with one. Or, of a finished study, at the kept checkpoints of some trials.
    """
    shared = SharedOptions(values_from, at, folder, slots, retry_failed, no_wait, as_json, quiet, backend_name)
    grid: dict[str, object] = {"--low": low, "--high": high, "--points": points, "--steps": steps}
    of_study = grid | {"--warmup": warmup, "--seeds": seeds, "--step": step, "--values-from": values_from, "--at": at}
    if study.is_dir():
        given = [option for option, value in of_study.items() if value is not None]
        if given:
            raise UsageError(f"{', '.join(given)}: only for a study file, and {study} is a folder; give --trials alone")
        return _of_folder(study, trials, study_file, shared)
    of_folder = [name for name, value in {"--trials": trials, "--study": study_file}.items() if value is not None]
    if of_folder:
        raise UsageError(f"{', '.join(of_folder)}: expected the folder of a finished study, got {study}")

    from tunectl.procedures.curvature_options import DEFAULT_SEEDS, CurvatureOptions

    options = CurvatureOptions(low, high, points, steps, warmup, DEFAULT_SEEDS if seeds is None else seeds, step)
    return run_sweep(study, options, shared)


def _of_folder(folder: Path, trials: str | None, study_file: Path | None, shared: SharedOptions) -> int:
    """Measure kept checkpoints of a study's folder, and print the conclusion; the exit code."""
    if trials is None:
        raise UsageError(
            f"--trials: expected the trials of {folder} whose checkpoints to measure, such as --trials 3,7"
        )
    wanted = _numbers(trials)

    from tunectl.session.backend_start import started_backend

    with started_backend(study_file or StudyFolder(folder).study, shared.backend) as backend:
        # The rest is imported while the backend loads.
        from tunectl.commands.checkpoint_curvature import measure_checkpoints
        from tunectl.session.training_trials import RunOptions

        options = RunOptions(
            folder=shared.folder,
            slots=shared.slots,
            retry_failed=shared.retry_failed,
            waits=not shared.no_wait,
            command=tuple(sys.argv),
            backend=shared.backend,
        )
        with watcher(quiet=shared.quiet) as watching:
            report = measure_checkpoints(
                folder, wanted, study_file=study_file, options=options, watcher=watching, backend=backend
            )
    return say_report(report, watching.failed, as_json=shared.as_json)


def _numbers(text: str) -> list[int]:
    """The numbers of a list such as `3,7` or `0-4`, each once; raises UsageError where it is none."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        ends = [first, last] if dash else [first, first]
        if not all(word.isdecimal() and word.isascii() for word in ends) or int(ends[0]) > int(ends[1]):
            raise UsageError(f"--trials {text}: expected the numbers of trials, such as 3,7 or 0-4")
        if int(ends[1]) - int(ends[0]) >= MOST_TRIALS:
            raise UsageError(f"--trials {text}: expected at most {MOST_TRIALS:,} trials")
        found += range(int(ends[0]), int(ends[1]) + 1)
    return list(dict.fromkeys(found))
