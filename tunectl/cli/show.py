"""`tunectl show`: all about one trial, its command line, and a study of one trial that trains it again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_table, wrapped
from tunectl.cli.printed_answer import say_sentence
from tunectl.cli.shared_options import AsJson
from tunectl.core.errors import UsageError

if TYPE_CHECKING:
    from tunectl.commands.show import ShownTrial

_MOST_ROWS = 12
_MOST_COLUMNS = 4


def show(
    place: Annotated[
        Path,
        typer.Argument(metavar="DIR[/TRIAL]", help="A study folder; without a trial its best one.", show_default=False),
    ],
    trial: Annotated[
        int | None, typer.Argument(metavar="TRIAL", help="The number of the trial.", min=0, show_default=False)
    ] = None,
    command: Annotated[
        bool, typer.Option("--command", help="Print the line for a shell that trains it by hand.")
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option("--freeze", metavar="FILE", help="Write a study that trains it again.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a trial: its values, curve, files and times.

    Nothing is trained.
    """
    from tunectl.store.study_folder import study_and_trial

    folder, named = study_and_trial(place)
    if named is not None and trial is not None:
        raise UsageError(f"{place} {trial}: expected one trial, got {named} and {trial}")
    if command and to is not None:
        raise UsageError("--command and --freeze: expected one of them, got both")
    number = named if trial is None else trial
    if command:
        _say_command(folder, number, as_json=as_json)
    elif to is not None:
        _freeze(folder, number, to, as_json=as_json)
    else:
        from tunectl.commands.show import shown_trial

        found = shown_trial(folder, number, note)
        if as_json:
            say_json(found.to_json())
        else:
            _print(found)


def _say_command(folder: Path, trial: int | None, *, as_json: bool) -> None:
    from tunectl.commands.show import hand_command

    lines, content = hand_command(folder, trial, note)
    if as_json:
        say_json(content)
    else:
        say("\n".join(lines))


def _freeze(folder: Path, trial: int | None, to: Path, *, as_json: bool) -> None:
    from tunectl.commands.show import freeze
    from tunectl.core.proposed_commands import tunectl_command

    number, frozen = freeze(folder, trial, to, note)
    if as_json:
        differences = list(frozen.differences)
        say_json({"trial": number, "study": frozen.name, "file": str(to), "differences": differences})
        return
    for line in frozen.differences:
        note(wrapped(f"trial {number}: {line}", sys.stderr))
    say(tunectl_command("run", to))


def _print(found: ShownTrial) -> None:
    from tunectl.core.proposed_commands import tunectl_command

    item, number = found.outcome, found.outcome.plan.trial
    if found.answer is not None:
        say_sentence(found.answer)
        say()
    say(wrapped(_headline(found), sys.stdout))
    if item.message:
        say(wrapped(item.message, sys.stdout))
    say()
    rows = [[value.name, value.value, " ".join(filter(None, [value.role, value.origin]))] for value in found.values]
    say_table(["hyperparameter", "value", "role"], [[*row[:1], _exact(row[1]), row[2]] for row in rows])
    say()
    _say_curve(found)
    for line in _facts(found):
        say(wrapped(line, sys.stdout))
    for line in _places(found):  # for copying, so they are not wrapped
        say(line)
    say()
    for words in (
        ("show", found.folder, number, "--command"),
        ("show", found.folder, number, "--freeze", f"{found.spec.name}-trial-{number}.yaml"),
    ):
        say(f"    {tunectl_command(*words)}")


def _exact(value: object) -> str:
    from tunectl.core.wording import as_text

    return as_text(value)


def _headline(found: ShownTrial) -> str:
    from tunectl.core.records import CANCELLED, is_stopped_for_good
    from tunectl.core.wording import short_number

    item, objective = found.outcome, found.spec.objective
    head = f"trial {item.plan.trial} of {found.spec.name}: {item.state}{f' ({item.reason})' if item.reason else ''}"
    if item.state == CANCELLED and not is_stopped_for_good(item.state, item.reason):
        head = f"trial {item.plan.trial} of {found.spec.name}: interrupted (the next run continues it)"
    if found.stage:
        head += f", {found.stage}"
    if found.retrain_of is not None:
        head += f", a retrain of trial {found.retrain_of}"
    if item.best_value is not None and item.best_step is not None:
        head += f"; {objective.title} {short_number(item.best_value)}"
        head += f" at step {item.best_step:,}" if objective.steps_to is None else " steps"
    if found.rank is not None:
        head += f", rank {found.rank:,} of {found.ranked:,}"
    return head


def _say_curve(found: ShownTrial) -> None:
    """The evaluations: evenly chosen ones where there are many, always the best and the last one."""
    metrics = list(found.curve)[:_MOST_COLUMNS]
    steps = sorted({step for name in metrics for step in found.curve[name]})
    if not steps:
        return
    last, best = len(steps) - 1, found.outcome.best_step
    places = (
        range(len(steps)) if len(steps) <= _MOST_ROWS else [n * last // (_MOST_ROWS - 1) for n in range(_MOST_ROWS)]
    )
    chosen = sorted({*(steps[place] for place in places), *([best] if best in steps else [])})
    header = ["step", *metrics, ""]
    rows = [
        [step, *(found.curve[name].get(step) for name in metrics), "best" if step == best else " "] for step in chosen
    ]
    say_table(header, rows)
    say()


def _facts(found: ShownTrial) -> list[str]:
    from tunectl.core.wording import counted, short_number

    item = found.outcome
    times = [("training", item.train_seconds), ("evaluation", item.eval_seconds), ("start", item.startup_seconds)]
    timed = [f"{name} {seconds:,.1f} s" for name, seconds in times if seconds is not None]
    lines = [f"seed: {item.plan.seed}"]
    if timed:
        where = f", on {item.device}" if item.device else ""
        tries = f", {counted(item.attempts, 'attempt')}" if item.attempts > 1 else ""
        lines.append(f"time: {', '.join(timed)}{where}{tries}")
    again = found.retrains
    if again is not None:
        mean = "" if again.mean is None else f", mean {short_number(again.mean)}"
        spread = again.standard_deviation
        mean += "" if spread is None else f", standard deviation {short_number(spread, 2)}"
        lines.append(f"retrains: {', '.join(str(one.plan.trial) for one in again.retrains)}{mean}")
    lines += [
        ": ".join(filter(None, [f"attempt {attempt.attempt}", attempt.reason, attempt.message]))
        for attempt in found.unfinished
    ]
    lines += [f"note: {line}" for line in found.notes]
    return lines


def _places(found: ShownTrial) -> list[str]:
    """Where its best checkpoint and its files are."""
    from tunectl.core.wording import counted
    from tunectl.session.disk_room import in_words

    lines = []
    if found.outcome.best_checkpoint:
        lines.append(f"best checkpoint: {found.folder / found.outcome.best_checkpoint}")
    elif found.removed_checkpoint:
        lines.append(f"best checkpoint: removed; it was {found.folder / found.removed_checkpoint}")
    if found.files:
        total = sum(size for _, size in found.files)
        lines.append(f"files: {found.home.path} ({counted(len(found.files), 'file')}, {in_words(total)})")
    return lines
