"""`tunectl clip-sweep`: at which norm should gradients be clipped, if at all?"""

from __future__ import annotations

from tunectl.cli import procedure


def clip_sweep(
    study: procedure.Study,
    before: procedure.Before = None,
    values_from: procedure.ValuesFrom = None,
    at: procedure.At = None,
    folder: procedure.Folder = None,
    slots: procedure.Slots = None,
    retry_failed: procedure.RetryFailed = False,
    as_json: procedure.AsJson = False,
    quiet: procedure.Quiet = False,
) -> int:
    """Find a clipping threshold, and the learning rate that goes with it."""
    from tunectl.procedures.clip_sweep import CLIP_SWEEP

    return procedure.run(
        CLIP_SWEEP,
        study,
        {},
        before=before,
        values_from=values_from,
        at=at,
        folder=folder,
        slots=slots,
        retry_failed=retry_failed,
        as_json=as_json,
        quiet=quiet,
    )
