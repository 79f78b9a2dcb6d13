"""`tunectl lr-sweep`: which learning rate is best, and where does training become unstable?"""

from __future__ import annotations

from typing import Annotated

import typer

from tunectl.cli import procedure


@procedure.command
def lr_sweep(
    *,
    low: Annotated[float | None, typer.Option("--low", help="The lowest rate.", show_default=False)] = None,
    high: Annotated[float | None, typer.Option("--high", help="The highest rate.", show_default=False)] = None,
    points: Annotated[
        int | None,
        typer.Option("--points", help="The number of rates, 2 or 3 trainings each.", show_default=False),
    ] = None,
    constant: Annotated[
        bool, typer.Option("--constant/--schedule", help="A constant rate.  [no]", show_default=False)
    ] = False,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Instead of max_train_steps.", show_default=False)
    ] = None,
    follow_up: Annotated[bool, typer.Option(help="Train above it, too.  [yes]", show_default=False)] = True,
    find_max_train_steps: Annotated[
        bool, typer.Option("--find-max-train-steps", help="And how soon is the data fitted?")
    ] = False,
    fit: Annotated[
        str | None,
        typer.Option("--fit", metavar="METRIC=VALUE", help="What is a perfect fit?", show_default=False),
    ] = None,
    off: Annotated[
        list[str] | None,
        typer.Option("--off", metavar="NAME=VALUE", help="Where is regularisation off?", show_default=False),
    ] = None,
) -> procedure.Asked:
    """Find the best learning rate, and where training becomes unstable."""
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
    return procedure.Asked(options)
