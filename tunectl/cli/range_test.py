"""`tunectl range-test`: which learning rates are worth a sweep, from one short run?"""

from __future__ import annotations

from typing import Annotated

import typer

from tunectl.cli import procedure


def range_test(
    study: procedure.Study,
    low: Annotated[float | None, typer.Option("--low", help="The first rate.  [1e-7]", show_default=False)] = None,
    high: Annotated[float | None, typer.Option("--high", help="The last rate.  [10]", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Updates.  [500]", show_default=False)] = None,
    values_from: procedure.ValuesFrom = None,
    at: procedure.At = None,
    folder: procedure.Folder = None,
    slots: procedure.Slots = None,
    retry_failed: procedure.RetryFailed = False,
    as_json: procedure.AsJson = False,
    quiet: procedure.Quiet = False,
) -> int:
    """Let the learning rate rise in one run, and see where the loss falls."""
    from tunectl.procedures.range_test import RANGE_TEST

    return procedure.run(
        RANGE_TEST,
        study,
        {"low": low, "high": high, "steps": steps},
        values_from=values_from,
        at=at,
        folder=folder,
        slots=slots,
        retry_failed=retry_failed,
        as_json=as_json,
        quiet=quiet,
    )
