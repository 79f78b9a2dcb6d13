"""`tunectl compare`: whether to adopt a new setting or study."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, say_table, shown, wrapped
from tunectl.cli.shared_options import AsJson
from tunectl.cli.shell_completion import complete_place

if TYPE_CHECKING:
    from tunectl.commands.compare import StudyComparison

_COST_HEADER = ("", "seconds_per_step", "best_step", "seconds_to_best", "examples_to_best", "device")
_HEADER = ("", "setting", "trial", "search_value", "retrains", "mean", "retrain_deviation", "study_deviation")


def compare(
    old: Annotated[
        str,
        typer.Argument(
            metavar="OLD",
            help="What is in use now: DIR, DIR:SETTING or DIR/TRIAL.",
            show_default=False,
            autocompletion=complete_place,
        ),
    ],
    new: Annotated[
        str | None,
        typer.Argument(
            metavar="NEW",
            help="What may replace it.  [default: the other setting of DIR]",
            show_default=False,
            autocompletion=complete_place,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a new setting or study with the one in use now.

    The values are those of retrains with new seeds. The answer is to adopt it, not to adopt it, or that there is not
    enough evidence yet.
    """
    from tunectl.commands.compare import compare_studies

    report = compare_studies(old, new, note)
    if as_json:
        say_json(report.to_json())
    else:
        _print(report)


def _rows(report: StudyComparison) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for role, side in (("in use", report.old), ("new", report.new)):
        candidate = side.candidate
        values = [report.objective.value(cost) for cost in candidate.costs]
        mean = sum(values) / len(values) if values and not candidate.not_reached else None
        deviations = (candidate.retrain_deviation, candidate.study_deviation)
        rows.append((role, candidate.name, side.trial, candidate.search_value, len(values), mean, *deviations))
    return rows


def _cost_rows(report: StudyComparison) -> list[tuple[object, ...]]:
    return [
        (
            role,
            cost.seconds_per_step,
            cost.steps_to_best,
            cost.seconds_to_best,
            cost.examples_to_best,
            cost.where,
        )
        for role, cost in (("in use", report.old.cost), ("new", report.new.cost))
    ]


def _print(report: StudyComparison) -> None:
    from tunectl.analysis.results.seed_variation import PASS_THE_SEED

    objective, found = report.objective, report.comparison
    title = f"{objective.title}, {objective.direction if objective.steps_to is None else 'fewer is better'}"
    say_table(_HEADER, _rows(report), title=title)
    say()
    say_table(_COST_HEADER, _cost_rows(report), title="cost of one training, until its best step")
    say()
    for line in report.notes:
        say(wrapped(f"note: {line}", sys.stdout))
    say(wrapped(f"{found.verdict}: {found.reason}", sys.stdout))
    if found.improvement is not None and found.interval is not None:
        low, high = found.interval
        better = "better" if found.improvement >= 0 else "worse"
        mean = f"the mean of the new one is {better} by {shown(abs(found.improvement))}"
        say(wrapped(f"{mean} (90% interval of the improvement {shown(low)} to {shown(high)})", sys.stdout))
    if found.seeds_change_nothing:
        say(f"more retrains would not help: {PASS_THE_SEED}, then run `tunectl retrain` in a new study folder")
    elif found.verdict == "not enough evidence":
        _print_what_helps(report)


def _print_what_helps(report: StudyComparison) -> None:
    from tunectl.analysis.comparison.comparison import FIRST_RETRAINS

    found, sides = report.comparison, (report.old, report.new)
    if report.retrains_decide and report.searches is not None and not report.searches.is_enough:
        more = f"about {report.searches.more} searches" if report.searches.more else "more searches"
        say(f"{more} of each would be enough to confirm a difference of that size")
        for side in sides:
            say(f"  {side.search_command}")
        return
    if report.retrains_decide:
        say("more retrains would not help, only a larger validation set")
        return
    too_small = report.validation is not None and report.validation.better > 0 and not report.validation.is_enough
    if found.more is not None and not too_small:
        say(f"about {found.more} retrains of each would be enough to confirm a difference of that size")
    lacking = [side for side in sides if side.candidate.lacks_retrains]
    for command in dict.fromkeys(side.retrain_command for side in lacking or sides):
        say(f"  {command} --repeats {FIRST_RETRAINS if too_small else found.more or FIRST_RETRAINS}")
