"""`tunectl warmup-sweep`: which warmup opens higher learning rates, and is it worth it?"""

from __future__ import annotations

from typing import Annotated

import typer

from tunectl.cli import procedure


def warmup_sweep(
    study: procedure.Study,
    before: procedure.Before = None,
    unstable_lr: Annotated[
        float | None, typer.Option("--unstable-lr", help="The rate at which it is unstable.", show_default=False)
    ] = None,
    factor: Annotated[float, typer.Option("--factor", help="How far beyond that rate to go.")] = 10.0,
    values_from: procedure.ValuesFrom = None,
    at: procedure.At = None,
    folder: procedure.Folder = None,
    slots: procedure.Slots = None,
    retry_failed: procedure.RetryFailed = False,
    as_json: procedure.AsJson = False,
    quiet: procedure.Quiet = False,
) -> int:
    """Find the shortest warmup that opens higher learning rates, and compare."""
    from tunectl.procedures.warmup_sweep import WARMUP_SWEEP

    return procedure.run(
        WARMUP_SWEEP,
        study,
        {"unstable_lr": unstable_lr, "factor": factor},
        before=before,
        values_from=values_from,
        at=at,
        folder=folder,
        slots=slots,
        retry_failed=retry_failed,
        as_json=as_json,
        quiet=quiet,
    )
