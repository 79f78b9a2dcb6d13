"""The procedures that tunectl has, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunectl.procedures.batch_scaling import BATCH_SCALING
from tunectl.procedures.batch_size import BATCH_SIZE
from tunectl.procedures.clip_sweep import CLIP_SWEEP
from tunectl.procedures.curvature import CURVATURE_SWEEP
from tunectl.procedures.lr_sweep import LR_SWEEP
from tunectl.procedures.procedure import Options, Procedure
from tunectl.procedures.profile import PROFILE
from tunectl.procedures.range_test import RANGE_TEST
from tunectl.procedures.warmup_sweep import WARMUP_SWEEP

PROCEDURES: Mapping[str, Procedure[Any]] = {
    procedure.name: procedure
    for procedure in (
        LR_SWEEP,
        WARMUP_SWEEP,
        CLIP_SWEEP,
        RANGE_TEST,
        BATCH_SIZE,
        BATCH_SCALING,
        CURVATURE_SWEEP,
        PROFILE,
    )
}


def procedure_of(options: Options) -> Procedure[Options]:
    """The procedure whose options these are."""
    return next(procedure for procedure in PROCEDURES.values() if procedure.options is type(options))
