"""`tunectl check`: check a study file and the design of the study."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunectl.cli.console import note, say, say_json, wrapped
from tunectl.cli.shared_options import AsJson, NoWait, Study
from tunectl.core.errors import EXIT_DONE, Problem, StudyError, TunectlError, UsageError, WorkloadError
from tunectl.core.problem_codes import problem_code, suggestion
from tunectl.core.wording import percentage, short_number

if TYPE_CHECKING:
    from tunectl.language.curvature_cost import CurvatureCost
    from tunectl.language.review import Budget
    from tunectl.language.statistics_cost import StatisticsCost
    from tunectl.session.checked_study import CheckedStudy
    from tunectl.session.probed_study import ProbedStudy


_MANY_TIMES = 10


def check(
    study: Study,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also build the workload, run one batch, and look at the data.")
    ] = False,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> int:
    """Check a study file and its design without training."""
    if not as_json:
        _say_all(*_checked(study, probe=probe, waits=not no_wait))
        return EXIT_DONE
    try:
        checked, probed, _ = _checked(study, probe=probe, waits=not no_wait)
    except TunectlError as error:
        say_json({"study": None, "problems": _problems_of(error), "exit_code": error.exit_code})
        return error.exit_code
    say_json(_report(checked, probed))
    return EXIT_DONE


def _checked(study: Path, *, probe: bool, waits: bool) -> tuple[CheckedStudy, ProbedStudy | None, str]:
    """The study, what the probe found where it was asked for, and the line about the trials from which it starts."""
    from tunectl.session.further_trials import described_start

    probed: ProbedStudy | None = None
    if probe:
        from tunectl.execution.backends import DEFAULT
        from tunectl.session.backend_start import started_backend

        # On this machine, wherever the trials run.
        with started_backend(study, DEFAULT) as backend:
            # The rest is imported while the backend loads.
            from tunectl.session.probed_study import probe_study

            probed = probe_study(study, Path.cwd(), backend, note, waits=waits)
            checked = probed.checked
    else:
        from tunectl.session.checked_study import check_study

        checked = check_study(study, Path.cwd())
    return checked, probed, described_start(checked.spec)


def _problems_of(error: TunectlError) -> list[dict[str, object]]:
    """Why a study cannot be run, each problem with its place where it has one."""
    if isinstance(error, StudyError):
        return [_problem(item, problem_code(item.message)) for item in error.problems]
    code = "workload" if isinstance(error, WorkloadError) else "usage" if isinstance(error, UsageError) else "folder"
    return [_problem(Problem("", 0, 0, "", str(error)), code)]


def _problem(item: Problem, code: str) -> dict[str, object]:
    return {
        "code": code,
        "file": item.file or None,
        "line": item.line or None,
        "column": item.column or None,
        "path": item.path,
        "message": item.message,
        "suggestion": suggestion(item.message),
    }


def _say_all(checked: CheckedStudy, probed: ProbedStudy | None, start: str) -> None:
    from tunectl.session.host_notes import host_notes

    for warning in checked.warnings:
        note(f"warning: {warning}")
    for message in (*checked.messages, *host_notes(checked.spec)):
        note(message)
    if checked.unseen and probed is None:
        note(f"{checked.reference.text}: its arguments are checked by run or check --probe: {checked.unseen}")
    for line in [] if probed else checked.unseen_code:
        note(line)
    say(
        f"{checked.spec.label}: {checked.spec.name} is a study that can be run"
        + (_count(len(checked.warnings), "warning", ", with "))
    )
    say(cost(checked))
    if start:
        say(start)
    if probed is not None:
        for line in measured_cost(probed):
            say(line)
        if probed.data is not None:
            from tunectl.session.checked_data import as_lines

            for line in as_lines(probed.data):
                say(wrapped(line, sys.stdout))
    for line in _measurement_costs(checked):
        say(line)
    for expected in checked.initialisation_costs:
        say(
            f"initialisation: {_count(expected.steps, 'iteration')} of {expected.method} before step 0,\n"
            f"  expected to take {_time(expected.share)}"
        )


def cost(checked: CheckedStudy) -> str:
    """The cost of the study: trials and steps, and in a second line examples and evaluations where they are known."""
    budget, training = checked.budget, checked.spec.training
    even = budget.trials % budget.settings == 0
    each = _count(budget.trials // budget.settings, "trial") if even else "some trials"
    steps = (
        _count(budget.steps // budget.trials, "step")
        if budget.steps % budget.trials == 0
        else f"at least {training.max_train_steps:,} steps"
    )
    product = f"{_count(budget.settings, 'setting')} × {each} × {steps}"
    most = ", at most (stop_early)" if checked.spec.search.stop_early is not None else ""
    lines = f"cost: {product} = {_count(budget.trials, 'trial')}, {_count(budget.steps, 'step')} in all{most}"
    if budget.examples is not None and budget.evaluations is not None:
        sizes = checked.spec.alternatives("batch_size")
        vary = len(sizes) > 1 or any(item.varies for item in sizes)
        each = f"{'on average ' if vary else ''}{budget.examples / budget.steps:,.0f} a"
        lines += f"\n  {_count(budget.examples, 'example')} ({each} step), {_count(budget.evaluations, 'evaluation')}"
    return lines + "".join(f"\n{line}" for line in _cost_of_stages(checked))


def _cost_of_stages(checked: CheckedStudy) -> list[str]:
    """What the later stages cost at most, and all stages together; [] where there is one stage."""
    budget, lines = checked.budget, []
    for number, (stage, asked) in enumerate(zip(budget.later, checked.spec.search.promote, strict=True), start=1):
        lines.append(
            f"stage {number}: {asked.max_train_steps:,} steps, at most {_count(stage.trials, 'trial')}: the best "
            f"{asked.keep} of each setting, and up\n  to {asked.keep} that noise does not separate from them; "
            f"at most {_count(stage.steps, 'step')}"
        )
    if budget.later:
        whole = budget.in_all
        more = "" if whole.examples is None else f", {_count(whole.examples, 'example')}"
        lines.append(f"all stages: at most {_count(whole.trials, 'trial')}, {_count(whole.steps, 'step')}{more}")
    return lines


def measured_cost(probed: ProbedStudy) -> list[str]:
    """What the probe says of the cost: passes over the data, checkpoints on the disk, and time; a line for each."""
    from tunectl.session.disk_room import in_words
    from tunectl.session.progress_text import duration

    budget, time, lines = probed.checked.budget, probed.time, []
    if time is not None and time.train_examples and budget.examples:
        passes = budget.examples / budget.trials / time.train_examples
        lines.append(
            f"data: {_count(time.train_examples, 'training example')}, of which a trial uses each "
            f"{short_number(passes, 2)} times"
        )
    if probed.checkpoint_bytes:
        kept = probed.checked.spec.training.keep_checkpoints + 1
        in_all = in_words(budget.in_all.trials * kept * probed.checkpoint_bytes)
        size = in_words(probed.checkpoint_bytes)
        lines.append(f"disk: checkpoints of {size}, of which a trial keeps up to {kept}: up to {in_all} in all")
    if time is None:
        return lines
    if time.seconds is None:
        return [*lines, f"time: not known: no setting could be timed on {time.device}"]
    least, most = (short_number(1000 * seconds, 2) for seconds in time.step_seconds)
    span = least if least == most else f"{least} to {most}"
    of = f"{time.settings} of {_count(budget.settings, 'setting')}"
    estimate = "at most" if budget.later else "about"
    lines.append(
        f"time: {estimate} {duration(time.seconds)} of training on {time.device}, one trial at a time\n"
        f"  (a step takes {span} ms, timed in {of};\n"
        "  evaluations and other measurements are not counted)"
    )
    return lines


def _measurement_costs(checked: CheckedStudy) -> list[str]:
    """What else is measured and evaluated in a trial, and what that is expected to take; an entry for each."""
    training, lines = checked.spec.training, list[str]()
    if checked.curvature_cost is not None:
        lines.append(_curvature(checked.curvature_cost))
    if checked.statistics_cost is not None:
        lines.append(_statistics(checked.statistics_cost))
    for split, size in training.split_examples.items():
        lines.append(
            f"samples: {_count(size, 'example')} of {split} at each evaluation; the whole split up to"
            f" {_count(training.keep_checkpoints + 1, 'time')}\n  at the end of a trial"
        )
    if training.predictions is not None:
        lines.append(
            f"predictions: of {_count(training.predictions.count, 'example')} of {training.predictions.split} at each"
            " evaluation;\n  of the whole split once, where classes are counted"
        )
    return lines


def _curvature(found: CurvatureCost) -> str:
    return (
        f"curvature: {_count(found.measurements, 'measurement')} in a trial, expected to take {_time(found.share)}\n"
        "  (where time is proportional to the number of examples; less where models are small)"
    )


def _statistics(found: StatisticsCost) -> str:
    return (
        f"batch normalisation: {found.batches:,} training batch{'' if found.batches == 1 else 'es'} before each of"
        f" {_count(found.evaluations, 'evaluation')}\n  in a trial, expected to take"
        f" {_time((found.share, found.share))}"
    )


def _time(share: tuple[float, float]) -> str:
    """The least and the most share of the time of training, in words."""
    in_times = share[1] >= _MANY_TIMES
    least, most = (short_number(part, 2) if in_times else percentage(part) for part in share)
    return f"{'' if least == most else f'{least} to '}{most} {'times' if in_times else 'of'} the time of its training"


def _count(number: int, noun: str, before: str = "") -> str:
    if number == 0 and before:
        return ""
    return f"{before}{number:,} {noun}{'' if number == 1 else 's'}"


def _stage_json(budget: Budget) -> dict[str, int | None]:
    return {
        "trials": budget.trials,
        "steps": budget.steps,
        "examples": budget.examples,
        "evaluations": budget.evaluations,
    }


def _report(checked: CheckedStudy, probed: ProbedStudy | None) -> dict[str, object]:
    from tunectl.session.host_notes import host_notes

    return {
        "study": checked.spec.name,
        "problems": [],
        "warnings": [_problem(item, "design") for item in checked.warnings],
        "checked_at_run": None if probed or not checked.unseen else checked.unseen,
        "settings": checked.budget.settings,
        "trials": checked.budget.trials,
        "steps": checked.budget.steps,
        "examples": checked.budget.examples,
        "evaluations": checked.budget.evaluations,
        "later_stages_at_most": [_stage_json(item) for item in checked.budget.later],
        "all_stages_at_most": _stage_json(checked.budget.in_all),
        "checkpoint_bytes": probed.checkpoint_bytes if probed else None,
        "time": asdict(probed.time) if probed and probed.time else None,
        "data": probed.data.to_json() if probed and probed.data else None,
        "curvature": asdict(checked.curvature_cost) if checked.curvature_cost else None,
        "batch_norm_statistics": asdict(checked.statistics_cost) if checked.statistics_cost else None,
        "split_examples": dict(checked.spec.training.split_examples),
        "predictions": asdict(checked.spec.training.predictions) if checked.spec.training.predictions else None,
        "initialisation": [asdict(each) for each in checked.initialisation_costs],
        "messages": [*checked.messages, *host_notes(checked.spec)],
        "exit_code": EXIT_DONE,
    }
