"""`tunectl clip-sweep`: at which norm should gradients be clipped, if at all?"""

from __future__ import annotations

from tunectl.cli import procedure


@procedure.command
def clip_sweep(
    *,
    before: procedure.Before = None,
) -> procedure.Asked:
    """Find a clipping threshold, and the learning rate that goes with it."""
    from tunectl.procedures.clip_sweep import ClipSweepOptions

    return procedure.Asked(ClipSweepOptions(), before)
