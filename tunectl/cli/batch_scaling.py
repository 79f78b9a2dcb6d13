"""`tunectl batch-scaling`: how many steps a larger batch saves, with the learning rate tuned again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.shared_options import AsJson, BackendName, NoWait, Quiet, RetryFailed, Slots, Study
from tunectl.cli.sweeps import At, SharedOptions, ValuesFrom, folder_option, run_sweep


def batch_scaling(
    study: Study,
    *,
    steps_to: Annotated[
        float | None,
        typer.Option(
            "--steps-to",
            metavar="VALUE",
            help="The value of the objective's metric to reach.  [default: the study's objective.steps_to]",
            show_default=False,
        ),
    ] = None,
    low: Annotated[
        int | None,
        typer.Option(
            "--low", metavar="N", help="The smallest batch size.  [default: the study's smallest]", show_default=False
        ),
    ] = None,
    high: Annotated[
        int | None,
        typer.Option(
            "--high",
            metavar="N",
            help="The largest batch size.  [default: the study's largest, or all training examples]",
            show_default=False,
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            "--points",
            metavar="N",
            help="The number of learning rates at each batch size, or of points of all that the study samples.  "
            "[default: 3 rates per decade, or search.trials points]",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds", metavar="N", help="The number of seeds of the best ones.  [default: 3]", show_default=False
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            help="The most steps of a trial.  [default: at the smallest batch, the examples of max_train_steps]",
            show_default=False,
        ),
    ] = None,
    all_batches: Annotated[
        bool,
        typer.Option("--all-batches", help="Try all batch sizes, also where larger ones save no more steps."),
    ] = False,
    values_from: ValuesFrom = None,
    at: At = None,
    folder: Annotated[Path | None, folder_option("batch-scaling")] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Find how many training steps a larger batch saves.

    Over powers of two it tunes the learning rate, and all that the study samples, again for each batch size, and
    counts the steps to a target.
    """
    from tunectl.procedures.batch_scaling_options import DEFAULT_SEEDS, BatchScalingOptions

    count = DEFAULT_SEEDS if seeds is None else seeds
    options = BatchScalingOptions(low, high, points, count, steps, steps_to, all_batches)
    return run_sweep(
        study,
        options,
        SharedOptions(values_from, at, folder, slots, retry_failed, no_wait, as_json, quiet, backend_name),
    )
