"""`tunectl warmup-sweep`: which warmup opens higher learning rates, and is it worth it?"""

from __future__ import annotations

from typing import Annotated

import typer

from tunectl.cli import procedure


@procedure.command
def warmup_sweep(
    *,
    before: procedure.Before = None,
    unstable_lr: Annotated[
        float | None, typer.Option("--unstable-lr", help="The rate at which it is unstable.", show_default=False)
    ] = None,
    factor: Annotated[float, typer.Option("--factor", help="How far beyond that rate to go.")] = 10.0,
) -> procedure.Asked:
    """Find the shortest warmup that opens higher learning rates, and compare."""
    from tunectl.procedures.warmup_search import WarmupSweepOptions

    return procedure.Asked(WarmupSweepOptions(unstable_lr, factor), before)
