"""`tunectl repeat-search`: search a study again with another seed."""

from __future__ import annotations

from typing import Annotated

import typer

from tunectl.cli.console import note
from tunectl.cli.run import Order, run
from tunectl.cli.shared_options import AsJson, BackendName, NoWait, Quiet, RetryFailed, Slots, Study


def repeat_search(
    study: Study,
    search_seed: Annotated[
        int,
        typer.Option(
            "--search-seed", metavar="N", min=0, max=2**63 - 1, help="The seed of the other search.", show_default=False
        ),
    ],
    slots: Slots = None,
    order: Annotated[
        Order, typer.Option("--order", metavar="ORDER", help="The order in which trials start: plan or reversed.")
    ] = Order.plan,
    retry_failed: RetryFailed = False,
    no_wait: NoWait = False,
    backend_name: BackendName = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Search a study again with another seed, or resume.

    The study file of the other search is written beside STUDY. The results of the same study with other points show
    how much of a result is the luck of a search.
    """
    from tunectl.commands.repeat_search import write_repeated_search

    repeated = write_repeated_search(study, search_seed)
    note(f"{repeated}: the same study with search seed {search_seed}")
    return run(
        repeated,
        slots=slots,
        order=order,
        retry_failed=retry_failed,
        no_wait=no_wait,
        backend_name=backend_name,
        as_json=as_json,
        quiet=quiet,
    )
