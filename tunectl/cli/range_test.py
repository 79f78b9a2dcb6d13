"""`tunectl range-test`: which learning rates are worth a sweep, from one short run?"""

from __future__ import annotations

from typing import Annotated

import typer

from tunectl.cli import procedure


@procedure.command
def range_test(
    *,
    low: Annotated[float | None, typer.Option("--low", help="The first rate.  [1e-7]", show_default=False)] = None,
    high: Annotated[float | None, typer.Option("--high", help="The last rate.  [10]", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Updates.  [500]", show_default=False)] = None,
) -> procedure.Asked:
    """Let the learning rate rise in one run, and see where the loss falls."""
    from tunectl.procedures.range_test import RangeTestOptions

    return procedure.Asked(RangeTestOptions(low, high, steps))
