"""The `tunectl` command: all subcommands, and the place where errors become messages and exit codes."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from tunectl import __version__
from tunectl.cli import (
    batch_scaling,
    check,
    clean,
    compare,
    control,
    curvature,
    export,
    help_pages,
    history,
    import_study,
    init,
    launch,
    logs,
    ls,
    move,
    next_round,
    plan,
    profile,
    query,
    repeat_search,
    report,
    retrain,
    run,
    schema,
    show,
    status,
    sweeps,
    train_final,
    worker,
)
from tunectl.cli.console import note
from tunectl.core.errors import EXIT_BAD_STUDY, EXIT_INTERRUPTED
from tunectl.core.user_errors import user_error

app = typer.Typer(
    name="tunectl",
    help="Run hyperparameter studies as recommended by the Deep Learning Tuning Playbook.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
app.command("run")(run.run)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.command("init")(init.init)
app.command("worker")(worker.worker)
app.command("status")(status.status)
app.command("stop")(control.stop)
app.command("pause")(control.pause)
app.command("resume")(control.resume)
app.command("add")(control.add)
app.command("clean")(clean.clean)
app.command("rename")(move.rename)
app.command("mv")(move.mv)
app.command("logs")(logs.logs)
app.command("report")(report.report)
app.command("show")(show.show)
app.command("query")(query.query)
app.command("retrain")(retrain.retrain)
app.command("compare")(compare.compare)
app.command("next")(next_round.next_round)
app.command("repeat-search")(repeat_search.repeat_search)
app.command("launch")(launch.launch)
app.command("history")(history.history)
app.command("ls")(ls.ls)
app.command("help")(help_pages.show_help)
app.command("schema")(schema.schema)
app.command("export")(export.export)
app.command("import")(import_study.import_study)
app.command("lr-sweep")(sweeps.lr_sweep)
app.command("warmup-sweep")(sweeps.warmup_sweep)
app.command("clip-sweep")(sweeps.clip_sweep)
app.command("range-test")(sweeps.range_test)
app.command("batch-size")(sweeps.batch_size)
app.command("batch-scaling")(batch_scaling.batch_scaling)
app.command("profile")(profile.profile)
app.command("curvature")(curvature.curvature)
app.command("train-final")(train_final.train_final)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tunectl {__version__}")
        raise typer.Exit


@app.callback()
def tunectl(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _open_closed_streams() -> None:
    """Replace streams that were closed (`>&-`): libraries write to them without a check."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (open until the process ends)


def _called(words: Sequence[str]) -> typer.Typer:
    """The command that these words call, alone, or all where they call none: to build all takes 30 ms."""
    called = [command for command in app.registered_commands if command.name in words[:1]]
    if not called:
        return app
    alone = copy.copy(app)
    alone.registered_commands = called
    return alone


def main() -> None:
    """Entry point of the `tunectl` script."""
    _open_closed_streams()
    try:
        code = _called(sys.argv[1:])(standalone_mode=False)
    except BrokenPipeError:
        # Only click prints the help without our console: its reader is gone. Avoids a message of Python at exit.
        sys.stdout = None
        code = 0
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        note("interrupted")
        code = EXIT_INTERRUPTED
    except Exception as error:
        known = user_error(error)
        if known is not None:
            note(known.text)
            code = known.exit_code
        elif hasattr(error, "format_message"):
            note(f"tunectl: {error.format_message()}")  # click's own usage errors
            code = EXIT_BAD_STUDY
        else:
            raise
    sys.exit(code or 0)
