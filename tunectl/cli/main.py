"""The `tunectl` command: its subcommands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from tunectl import __version__
from tunectl.cli import (
    batch_size,
    check,
    clip_sweep,
    compare,
    export,
    import_study,
    init,
    logs,
    lr_sweep,
    ls,
    next_round,
    plan,
    range_test,
    report,
    retrain,
    run,
    status,
    warmup_sweep,
)
from tunectl.cli.console import note
from tunectl.core.errors import EXIT_BAD_STUDY, EXIT_FOLDER, EXIT_INTERRUPTED, FolderError, TunectlError
from tunectl.core.path_errors import system_reason
from tunectl.core.shortages import with_advice

app = typer.Typer(
    name="tunectl",
    help="Hyperparameter studies as the Deep Learning Tuning Playbook says they should be run.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
app.command("run")(run.run)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.command("init")(init.init)
app.command("status")(status.status)
app.command("logs")(logs.logs)
app.command("report")(report.report)
app.command("retrain")(retrain.retrain)
app.command("compare")(compare.compare)
app.command("next")(next_round.next_round)
app.command("ls")(ls.ls)
app.command("export")(export.export)
app.command("import")(import_study.import_study)
app.command("lr-sweep")(lr_sweep.lr_sweep)
app.command("warmup-sweep")(warmup_sweep.warmup_sweep)
app.command("clip-sweep")(clip_sweep.clip_sweep)
app.command("range-test")(range_test.range_test)
app.command("batch-size")(batch_size.batch_size)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tunectl {__version__}")
        raise typer.Exit


@app.callback()
def tunectl(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


_OF_THE_MACHINE = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EAGAIN, errno.EINTR}
    | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}
)
"""What a call of the system says of the disk, the machine or its owner: no fault of ours, wherever it came about."""


def _open_closed_streams() -> None:
    """Give streams that were closed (`>&-`) somewhere to write to: libraries write without asking."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (as long as the process lives)


def _is_in_a_folder() -> bool:
    """Whether the current folder is there: it may have been deleted, or its file system taken away."""
    try:
        os.getcwd()  # noqa: PTH109  (Path.cwd would do the same)
    except OSError:
        return False
    return True


def main() -> None:
    """Entry point of the `tunectl` script."""
    _open_closed_streams()
    try:
        code = app(standalone_mode=False)
    except TunectlError as error:
        note(with_advice(error))
        code = error.exit_code
    except FileNotFoundError:
        if _is_in_a_folder():
            raise
        note("the current folder is not there any more: change to one that is (cd)")
        code = EXIT_BAD_STUDY
    except BrokenPipeError:
        # Only click writes past the console: whoever read the help has gone. Python must not complain at exit.
        sys.stdout = None
        code = 0
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        note(with_advice(FolderError(f"{error.filename or 'a file'}: {system_reason(error)}")))
        code = EXIT_FOLDER
    except typer.Abort:
        code = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        note("interrupted")
        code = EXIT_INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        note(f"tunectl: {error.format_message()}")  # click's own usage errors
        code = EXIT_BAD_STUDY
    sys.exit(code or 0)
