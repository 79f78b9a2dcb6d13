"""`tunectl curvature`: measure the curvature of the loss, and the learning rates that it allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunectl.cli.shared_options import AsJson, Quiet, RetryFailed, Slots, Study
from tunectl.cli.sweeps import HIGHEST, LOWEST, At, SharedOptions, ValuesFrom, folder_option, run_sweep


def curvature(
    study: Study,
    *,
    low: Annotated[
        float | None,
        typer.Option("--low", metavar="RATE", help=f"The lowest learning rate.  {LOWEST}", show_default=False),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option("--high", metavar="RATE", help=f"The highest learning rate.  {HIGHEST}", show_default=False),
    ] = None,
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
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="The number of seeds at initialisation.")] = 5,
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
    folder: Annotated[Path | None, folder_option("curvature")] = None,
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Measure curvature, and the learning rates that it allows.

    In each setting of the study: at initialisation under several seeds, then over a grid of learning rates, without a
    warmup and with one.
    """
    from tunectl.procedures.curvature_options import CurvatureOptions

    shared = SharedOptions(values_from, at, folder, slots, retry_failed, as_json, quiet)
    options = CurvatureOptions(low, high, points, steps, warmup, seeds, step)
    return run_sweep(study, options, shared)
