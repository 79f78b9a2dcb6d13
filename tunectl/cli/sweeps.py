"""The five sweeps: `lr-sweep`, `warmup-sweep`, `clip-sweep`, `range-test` and `batch-size`."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunectl.cli.console import note, say, say_json, say_paths, say_table, wrapped
from tunectl.cli.failed_trials import note_failures
from tunectl.cli.progress_display import watcher
from tunectl.cli.shared_options import AsJson, BackendName, NoWait, Quiet, RetryFailed, Slots, Study
from tunectl.cli.shell_completion import complete_place
from tunectl.core.records import HAS_RESULT
from tunectl.core.wording import counted

if TYPE_CHECKING:
    from tunectl.commands.procedure_report import ProcedureResult
    from tunectl.procedures.procedure import ProcedureOptions

ValuesFrom = Annotated[
    Path | None,
    typer.Option(
        "--values-from",
        metavar="DIR/TRIAL",
        help="Use the values of this completed trial.",
        show_default=False,
        autocompletion=complete_place,
    ),
]
At = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="NAME=VALUE",
        help="The value of a hyperparameter that varies in the study; can be repeated.",
        show_default=False,
    ),
]
Before = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="DIR", help="The folder of an earlier sweep, to build on its result.", show_default=False
    ),
]
LOWEST = "[default: the study's lowest, or 1/100 of its value]"
HIGHEST = "[default: the study's highest, or 100 times its value]"
LowestRate = Annotated[
    float | None,
    typer.Option("--low", metavar="RATE", help=f"The lowest learning rate.  {LOWEST}", show_default=False),
]
HighestRate = Annotated[
    float | None,
    typer.Option("--high", metavar="RATE", help=f"The highest learning rate.  {HIGHEST}", show_default=False),
]


def folder_option(sweep: str) -> Any:
    """The option `--dir` of a sweep, which names the folder that it uses by default."""
    text = f"The study folder.  [default: runs/<study>.{sweep}]"
    return typer.Option("--dir", metavar="DIR", help=text, show_default=False)


@dataclass(frozen=True, slots=True)
class SharedOptions:
    """The options that all sweeps have: which values the study gets, and where and how its trials run."""

    values_from: Path | None
    at: list[str] | None
    folder: Path | None
    slots: int | None
    retry_failed: bool
    no_wait: bool
    as_json: bool
    quiet: bool
    backend: str | None = None


def lr_sweep(
    study: Study,
    *,
    low: LowestRate = None,
    high: HighestRate = None,
    points: Annotated[
        int | None,
        typer.Option(
            "--points",
            metavar="N",
            help="The number of learning rates, each trained 2 or 3 times.  [default: 3 per decade]",
            show_default=False,
        ),
    ] = None,
    constant: Annotated[
        bool,
        typer.Option(
            "--constant/--schedule",
            help="Train at constant rates, or with the study's schedule.  [default: --schedule]",
            show_default=False,
        ),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", metavar="N", min=1, help="Train this many steps instead of max_train_steps.", show_default=False
        ),
    ] = None,
    follow_up: Annotated[
        bool,
        typer.Option(
            help="Then also train near the unstable rate, the best rates with new seeds, rates above the best one, and "
            "the early steps; --no-follow-up trains the grid alone.  [default: --follow-up]",
            show_default=False,
        ),
    ] = True,
    find_max_train_steps: Annotated[
        bool,
        typer.Option(
            "--find-max-train-steps", help="Also find the steps after which the training set is fitted perfectly."
        ),
    ] = False,
    fit: Annotated[
        str | None,
        typer.Option(
            "--fit",
            metavar="METRIC=VALUE",
            help="With --find-max-train-steps: what counts as a perfect fit, such as train/loss=0.01.",
            show_default=False,
        ),
    ] = None,
    off: Annotated[
        list[str] | None,
        typer.Option(
            "--off",
            metavar="NAME=VALUE",
            help="With --find-max-train-steps: the value that turns a regulariser off; can be repeated.",
            show_default=False,
        ),
    ] = None,
    values_from: ValuesFrom = None,
    at: At = None,
    folder: Annotated[Path | None, folder_option("lr-sweep")] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Find the best learning rate, and the unstable ones."""
    from tunectl.procedures.lr_options import LrSweepOptions, fit_of
    from tunectl.session.base_configuration import values_at

    metric, threshold = fit_of(fit)
    options = LrSweepOptions(
        low=low,
        high=high,
        points=points,
        constant=constant,
        steps=steps,
        follow_up=follow_up,
        find_max_train_steps=find_max_train_steps,
        fit_metric=metric,
        fit_threshold=threshold,
        off=values_at(off or [], "--off"),
    )
    shared = SharedOptions(values_from, at, folder, slots, retry_failed, no_wait, as_json, quiet, backend_name)
    return run_sweep(study, options, shared)


def warmup_sweep(
    study: Study,
    *,
    before: Before = None,
    unstable_lr: Annotated[
        float | None,
        typer.Option(
            "--unstable-lr",
            metavar="RATE",
            help="The learning rate at which training is unstable.  [default: as found by lr-sweep]",
            show_default=False,
        ),
    ] = None,
    factor: Annotated[
        float, typer.Option("--factor", metavar="FACTOR", help="How many times that rate a warmup should allow.")
    ] = 10.0,
    values_from: ValuesFrom = None,
    at: At = None,
    folder: Annotated[Path | None, folder_option("warmup-sweep")] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Find the shortest warmup that allows higher learning rates.

    Then compare the result with and without the warmup.
    """
    from tunectl.procedures.warmup_search import WarmupSweepOptions

    shared = SharedOptions(values_from, at, folder, slots, retry_failed, no_wait, as_json, quiet, backend_name)
    return run_sweep(study, WarmupSweepOptions(unstable_lr, factor), shared, before)


def clip_sweep(
    study: Study,
    *,
    before: Before = None,
    values_from: ValuesFrom = None,
    at: At = None,
    folder: Annotated[Path | None, folder_option("clip-sweep")] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Find a gradient clipping threshold and its learning rate."""
    from tunectl.procedures.clip_sweep import ClipSweepOptions

    shared = SharedOptions(values_from, at, folder, slots, retry_failed, no_wait, as_json, quiet, backend_name)
    return run_sweep(study, ClipSweepOptions(), shared, before)


def range_test(
    study: Study,
    *,
    low: Annotated[
        float | None,
        typer.Option("--low", metavar="RATE", help="The first learning rate.  [default: 1e-7]", show_default=False),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option("--high", metavar="RATE", help="The last learning rate.  [default: 10]", show_default=False),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", help="The number of steps.  [default: 500]", show_default=False),
    ] = None,
    values_from: ValuesFrom = None,
    at: At = None,
    folder: Annotated[Path | None, folder_option("range-test")] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Raise the learning rate during one trial to find its range."""
    from tunectl.procedures.range_test import RangeTestOptions

    shared = SharedOptions(values_from, at, folder, slots, retry_failed, no_wait, as_json, quiet, backend_name)
    return run_sweep(study, RangeTestOptions(low, high, steps), shared)


def batch_size(
    study: Study,
    *,
    low: Annotated[
        int | None,
        typer.Option(
            "--low", metavar="N", min=1, help="The first batch size.  [default: the study's]", show_default=False
        ),
    ] = None,
    high: Annotated[
        int | None,
        typer.Option(
            "--high",
            metavar="N",
            min=1,
            help="The largest batch size.  [default: all training examples]",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            min=1,
            help="The most steps for each size.  [default: 20000]",
            show_default=False,
        ),
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            "--memory-limit",
            metavar="GIB",
            help="The memory that a trial may use.  [default: all free memory]",
            show_default=False,
        ),
    ] = None,
    values_from: ValuesFrom = None,
    at: At = None,
    folder: Annotated[Path | None, folder_option("batch-size")] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Double the batch size until training gets no faster.

    Ends earlier where memory runs out.
    """
    from tunectl.procedures.batch_size import BatchSizeOptions

    shared = SharedOptions(values_from, at, folder, slots, retry_failed, no_wait, as_json, quiet, backend_name)
    return run_sweep(study, BatchSizeOptions(low, high, steps, memory_limit), shared)


def run_sweep(study: Path, options: ProcedureOptions, shared: SharedOptions, before: Path | None = None) -> int:
    """Run the procedure that has these options, and print its conclusion; the exit code."""
    from tunectl.session.backend_start import started_backend

    with started_backend(study, shared.backend) as backend:
        # The rest is imported while the backend loads.
        from tunectl.commands.sweep import run_procedure
        from tunectl.session.base_configuration import values_at, values_of_trial
        from tunectl.session.procedure_request import ProcedureRequest
        from tunectl.session.training_trials import RunOptions

        values = values_of_trial(shared.values_from, note) if shared.values_from is not None else {}
        request = ProcedureRequest(options, values_at(shared.at or []), before, values)
        where = RunOptions(
            folder=shared.folder,
            slots=shared.slots,
            retry_failed=shared.retry_failed,
            waits=not shared.no_wait,
            command=tuple(sys.argv),
            backend=shared.backend,
        )
        with watcher(quiet=shared.quiet) as watching:
            report = run_procedure(study, request, where, watching, backend)
    return say_report(report, watching.failed, as_json=shared.as_json)


def say_report(report: ProcedureResult, printed: Collection[int], *, as_json: bool) -> int:
    """Print the end of a procedure, with the failed trials but those `printed` before; the exit code."""
    if as_json:
        say_json(report.to_json())
    else:
        _print(report, printed)
    return report.exit_code


def _print(report: ProcedureResult, printed: Collection[int]) -> None:
    """Print the conclusion, or why there is none; the failures of the `printed` trials are not printed again."""
    note_failures(report.failed, report.folder, printed)
    conclusion = report.conclusion
    if conclusion is None:
        left = sum(item.state not in HAS_RESULT for item in report.outcomes)
        why = "interrupted" if report.interrupted else "no conclusion"
        again = "run the same command to resume" if report.interrupted else "run again with --retry-failed"
        note(f"{report.procedure}: {why} with {counted(left, 'trial')} left; {again}")
        return
    if conclusion.rows:
        say_table(conclusion.header, conclusion.rows)
        say()
    say(wrapped(conclusion.verdict, sys.stdout, indent=""))
    if conclusion.advice:
        say()
        say(conclusion.advice)
    say()
    pages = [path for path in report.paths if path.suffix == ".html"]
    say_paths([path for path in report.paths if path not in pages])
    say_paths(pages)
