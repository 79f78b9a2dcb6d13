"""`tunectl help`: pages about more than one command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

AGENTS = """\
tunectl for programs and agents

The loop

  tunectl check study.yaml --json          problems (code, file, line, column, path, message, suggestion) and the cost;
                                           exit code 2 where the study cannot be run
  tunectl check study.yaml --probe --json  also builds the workload, tries one batch, and times some steps
  tunectl run study.yaml --events          trains; one event a line, the last one is run_ended with the findings
  tunectl status DIR --json                how far it is, from another process
  tunectl status DIR --events --since N    the events after number N
  tunectl report DIR --json                findings and settings; writes the page and the plots
  tunectl next DIR --dry-run --json        the changes that the findings recommend, and the text of the next study
  tunectl next DIR                         writes it; check and run it, and begin again
  tunectl retrain DIR --repeats 5          the best trial again with other seeds: how much is luck
  tunectl compare OLD NEW --json           adopt, do not adopt, or not enough evidence

What is printed

  stdout has the result alone: one JSON object with --json, one JSON object a line with --events. Messages, warnings and
  progress go to stderr. Numbers that are not finite are the texts "nan", "inf" and "-inf".
  Exit codes: 0 done; 1 done, but some trials failed; 2 the study or the command is wrong, and nothing was created;
  3 the study folder is in use or belongs to another study; 130 interrupted, run the same command again.
  An event has format (1), number, time and event: training_started, trial_started, trial_retried, trial_paused,
  trial_ended, progress, message, run_ended. New keys and new events may come without another format: pass over what
  you do not know.
  tunectl schema prints the JSON Schema of a study file.

What makes results right

  - Ask one question in a study: what is asked about is scientific, all that may interact with it is nuisance, and each
    setting gets the same number of trials. Give each optimizer its own range of learning rates (`when`).
  - Explore with the sampler halton before you search with bayesian. Widen a range that the best trials crowd
    (search-boundary) before you read a result.
  - A difference between settings counts when compare says adopt. One better trial is no evidence: retrain.
  - Infeasible trials are results. Do not remove them, and do not repeat them with another seed until they pass.
  - A trial that was stopped for good is cancelled, one of stop_early is stopped: neither is a result.
  - A failed trial is a fault of the code or the machine: correct that, then run with --retry-failed.

What not to do

  - Do not edit, move or delete files in a study folder while it runs, and never plan.jsonl, study.db or trials/.
  - Do not change a study after its first run, but for trials (upwards), resources, goal, notes and keep_checkpoints:
    give another study another name.
  - Do not choose by `test`: train-final looks at it once, after everything was chosen.
  - Do not stop a search as soon as one trial is good, and do not report the best of many trials as what to expect.
  - Do not kill a run: Ctrl-C (or SIGTERM) once saves the running trials, and the same command goes on.
"""

PAGES: Mapping[str, str] = {"agents": AGENTS}
"""The pages by their names."""


def complete_page(beginning: str) -> list[str]:
    """The pages whose names begin so, for the shell."""
    return [name for name in PAGES if name.startswith(beginning)]


def show_help(
    page: Annotated[
        str | None,
        typer.Argument(
            metavar="PAGE",
            help="The page: agents.  [default: list the pages]",
            show_default=False,
            autocompletion=complete_page,
        ),
    ] = None,
) -> None:
    """Print a page about more than one command."""
    from tunectl.cli.console import say
    from tunectl.core.errors import UsageError
    from tunectl.core.proposed_commands import tunectl_command
    from tunectl.core.wording import nearest

    if page is None:
        rows = [(tunectl_command("help", name), text.splitlines()[0]) for name, text in PAGES.items()]
        rows.append(("tunectl COMMAND --help", "the options of a command"))
        width = max(len(command) for command, _ in rows)
        for command, about in rows:
            say(f"{command:{width}}   {about}")
        return
    if page not in PAGES:
        raise UsageError(
            f"help {page}: there is no such page{nearest(page, PAGES)}; of a command: tunectl COMMAND --help"
        )
    say(PAGES[page].rstrip("\n"))
