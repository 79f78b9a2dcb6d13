"""`tunectl batch-size`: how large a batch still makes training faster, and what else holds it up?"""

from __future__ import annotations

from typing import Annotated

import typer

from tunectl.cli import procedure

Low = Annotated[
    int | None, typer.Option("--low", min=1, help="The first batch size.  [the study's]", show_default=False)
]
High = Annotated[
    int | None, typer.Option("--high", min=1, help="The largest one.  [all training examples]", show_default=False)
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="At most so many updates of each.  [20000]", show_default=False)
]
MemoryLimit = Annotated[
    float | None,
    typer.Option("--memory-limit", metavar="GIB", help="What a trial may take.  [what is free]", show_default=False),
]


@procedure.command
def batch_size(
    *, low: Low = None, high: High = None, steps: Steps = None, memory_limit: MemoryLimit = None
) -> procedure.Asked:
    """Double the batch until it no longer pays, or memory runs out."""
    from tunectl.procedures.batch_size import BatchSizeOptions

    return procedure.Asked(BatchSizeOptions(low, high, steps, memory_limit))
