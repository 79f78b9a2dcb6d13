"""`tunectl stop`, `pause`, `resume` and `add`: requests to a study, also while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json
from tunectl.cli.shared_options import AsJson, StudyFolderPath

if TYPE_CHECKING:
    from tunectl.commands.control import Answered

_Place = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The study folder, or a trial in it: DIR/TRIAL.", show_default=False)
]
_Trials = Annotated[
    list[int] | None,
    typer.Option(
        "--trial", metavar="N", min=0, help="This trial alone; may be given several times.", show_default=False
    ),
]


def stop(
    folder: _Place,
    trial: _Trials = None,
    now: Annotated[bool, typer.Option("--now", help="End the running trials at once, without saving.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop a run as Ctrl-C does, or single trials for good.

    The same `tunectl run` continues a run; later runs leave a stopped trial out, until `tunectl resume DIR/TRIAL`.
    """
    from tunectl.commands.control import stop_run, stop_trials
    from tunectl.core.errors import UsageError

    place, trials = _place(folder, trial)
    if trials and now:
        raise UsageError("--now: stops a whole run; a single trial always saves first")
    _print(stop_trials(place, trials, note) if trials else stop_run(place, note, now=now), as_json=as_json)


def pause(
    folder: StudyFolderPath,
    let_run: Annotated[bool, typer.Option("--let-run", help="Let the running trials run to their end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Pause a run: its trials save and end until it is resumed.

    Its GPUs and cores are free meanwhile. A pause lasts as long as its run.
    """
    from tunectl.commands.control import pause_run

    _print(pause_run(folder, note, lets_run=let_run), as_json=as_json)


def resume(folder: _Place, trial: _Trials = None, as_json: AsJson = False) -> None:
    """End the pause of a run, or run stopped trials after all."""
    from tunectl.commands.control import resume_run, resume_trials

    place, trials = _place(folder, trial)
    _print(resume_trials(place, trials, note) if trials else resume_run(place, note), as_json=as_json)


def add(
    folder: StudyFolderPath,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=1, help="How many more for each setting.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Add trials to a study, also while it runs.

    They are those that a larger `search.trials` gives. Where no run is at work, the next one trains them.
    """
    from tunectl.commands.control import add_to_study

    _print(add_to_study(folder, trials, note), as_json=as_json)


def _place(folder: Path, trials: list[int] | None) -> tuple[Path, list[int]]:
    """The study folder and the trials of DIR, DIR/TRIAL and --trial."""
    from tunectl.store.study_folder import study_and_trial

    place, trial = study_and_trial(folder)
    return place, [*([] if trial is None else [trial]), *(trials or [])]


def _print(answered: Answered, *, as_json: bool) -> None:
    if as_json:
        say_json(answered.to_json())
        return
    for line in answered.lines:
        say(line)
