"""The sweeps and other procedures: their trials are run or continued, written to tables, and concluded from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tunectl.analysis.results.outcomes import reselected
from tunectl.analysis.results.runs import Run, curves_of, joined, printed_updates
from tunectl.commands.procedure_report import ProcedureResult, report_procedure
from tunectl.core import jsontext, record_checksums, typed_fields
from tunectl.core.errors import StudyError, UsageError
from tunectl.core.folders import TrialFolder
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.execution.backends import DEFAULT
from tunectl.execution.backends.backend import Backend
from tunectl.execution.slots import Slot
from tunectl.execution.stop_signals import counted_stop_signals
from tunectl.language.study_spec import StudySpec
from tunectl.procedures.known_procedures import procedure_of
from tunectl.procedures.procedure import AnySweep, Conclusion, Options, Procedure, Results, SweepSpec
from tunectl.procedures.repeated_seeds import without_evidence
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.conclusions import conclusions_beside
from tunectl.session.disk_room import check_room_to_begin
from tunectl.session.open_study import OpenStudy, open_study, with_trials
from tunectl.session.outcome_index import has_ended
from tunectl.session.probed_study import ProbedWorkload, probe_workload
from tunectl.session.procedure_request import ProcedureRequest, check_arguments, checked_sweep
from tunectl.session.run_progress import Watcher
from tunectl.session.swept_formulas import unused_formulas
from tunectl.session.training_trials import RunOptions, disk_need, study_places, train_trials, training_slots
from tunectl.session.unread_metrics import warn_of_unread_metrics
from tunectl.space.trial_plan import trial_seed
from tunectl.store.step_files import read_updates
from tunectl.store.study_folder import check_place, study_path
from tunectl.store.trial_files import read_trial


def run_procedure(
    study: Path, request: ProcedureRequest[Options], options: RunOptions, watcher: Watcher, backend: Backend
) -> ProcedureResult:
    """Train the trials that are left of the procedure with these options, on a backend that was started, and conclude.

    Raises StudyError, WorkloadError and UsageError (exit code 2) before anything is created, and FolderError (3) where
    the folder is in use, belongs to another study or another request, or cannot be written.
    """
    procedure = procedure_of(request.options)
    checked = check_study(study, Path.cwd())
    sweep = checked_sweep(procedure, checked, request)
    place = options.folder or study_path(Path("runs"), f"{checked.spec.name}.{procedure.name}")
    slots = _slots(procedure, checked.spec, options, backend, place)
    asked = record_checksums.sealed(jsontext.encode(_asked(procedure, sweep))) + b"\n"
    with counted_stop_signals() as stops, ExitStack() as stack:
        probed: ProbedWorkload | None = None
        places = study_places(checked.spec, slots, options, watcher.message, backend)
        probe = partial(probe_workload, backend, checked, places=places)

        def planner(planned: Sequence[PlannedTrial]) -> list[PlannedTrial]:
            # Later phases are planned when the results of the earlier ones are known.
            return [] if planned else planned_trials(checked.spec, sweep, procedure, {}, ())

        if not check_place(place):
            _say_cost(procedure, sweep, watcher)
            _say_judge(procedure, checked.spec, watcher)
            first = planner([])
            check_arguments(procedure, checked.spec, first)
            probed = probe(first, slots, stops)
            check_room_to_begin(place, disk_need(checked.spec, first, probed, slots))
        opened = stack.enter_context(open_study(checked.spec, place, watcher, planner, asked, stop_requested=stops))
        results: Results = {}
        while True:
            left = opened.left(retry_failed=options.retry_failed)
            if left:
                probed = probed or probe(left, slots, stops)
                _say_phase(procedure, left, watcher)
                train_trials(opened, left, checked, probed, slots, options, watcher, stops)
                opened = with_trials(opened, [])
            if stops() or any(not has_ended(item) or item.state == "failed" for item in opened.outcomes):
                return report_procedure(procedure.name, opened, None, watcher, interrupted=stops() > 0)
            results = read_results(opened, results)
            if not (added := planned_trials(checked.spec, sweep, procedure, results, opened.trials)):
                break
            opened = with_trials(opened, added)
        warn_of_unread_metrics(opened.folder, opened.outcomes, watcher.message)
        conclusion = _conclude(procedure, checked, sweep, place, results)
        return report_procedure(procedure.name, opened, conclusion, watcher, interrupted=False)


def _slots(
    procedure: Procedure[Options], spec: StudySpec, options: RunOptions, backend: Backend, place: Path
) -> tuple[Slot, ...]:
    """The slots of a procedure: one, here, where it times its trials. Raises StudyError where they are elsewhere."""
    if procedure.one_at_a_time and backend.name != DEFAULT:
        message = f"expected {DEFAULT} for {procedure.name}, which times trials on one machine, got {backend.name}"
        if options.backend is not None:
            raise UsageError(f"--backend: {message}")
        raise StudyError([spec.problem(("resources", "backend"), message)])
    return training_slots(spec, options, backend, place=place)[: 1 if procedure.one_at_a_time else None]


def _conclude(
    procedure: Procedure[Options], checked: CheckedStudy, sweep: SweepSpec[Options], place: Path, results: Results
) -> Conclusion:
    known = replace(sweep, beside=conclusions_beside(checked.spec, place, sweep.values))
    return without_evidence(procedure.conclude(known, results), results)


def _say_cost(procedure: Procedure[Options], sweep: SweepSpec[Options], watcher: Watcher) -> None:
    usual = procedure.trainings(sweep)
    if usual is not None:
        longest = procedure.longest(sweep)
        steps = longest or getattr(sweep.options, "steps", None) or sweep.max_train_steps
        length = f"at most {steps:,}" if longest else f"{steps:,}"
        count = f"{usual[0]} to {usual[1]}" if usual[0] != usual[1] else f"{usual[0]}"
        watcher.message(f"{procedure.name}: takes about {count} trainings of {length} steps in all")


def _say_judge(procedure: Procedure[Options], spec: StudySpec, watcher: Watcher) -> None:
    if procedure.by_metric and spec.objective.steps_to is not None:
        watcher.message(
            f"{procedure.name}: judges by the best {spec.objective.metric}, not by the {spec.objective.title}"
        )
    for formula in unused_formulas(spec, procedure.swept):
        watcher.message(f"{procedure.name}: sets this hyperparameter by itself, without its formula: {formula}")


def _say_phase(procedure: Procedure[Any], left: Sequence[PlannedTrial], watcher: Watcher) -> None:
    phases = dict.fromkeys(procedure.phases[trial.setting] for trial in left)
    noun = "trial" if len(left) == 1 else "trials"
    watcher.message(f"{procedure.name}: {', '.join(phases)} ({len(left)} {noun})")


def _asked(procedure: Procedure[Any], sweep: AnySweep) -> dict[str, Any]:
    """The content of procedure.json, by which a folder belongs to one request."""
    asked = {
        "procedure": procedure.name,
        "options": sweep.options.to_json(),
        "values": dict(sweep.values),
        "from": dict(sweep.before) or None,
    }
    several = len(sweep.settings) > 1
    return asked | ({"settings": [dict(setting.values) for setting in sweep.settings]} if several else {})


def planned_trials(
    spec: StudySpec,
    sweep: SweepSpec[Options],
    procedure: Procedure[Options],
    results: Results,
    planned: Sequence[PlannedTrial],
) -> list[PlannedTrial]:
    """The trials that the procedure wants now and that are not planned yet; those of one repeat have the same seed."""
    known = {trial.place for trial in planned}
    added: list[PlannedTrial] = []
    for wish in procedure.next_trials(sweep, results):
        identity = (wish.phase, wish.point, wish.repeat)
        if identity in known:
            continue
        known.add(identity)
        changes, training = wish.changes, wish.training
        if spec.own_code:
            # Own code has no schedule of tunectl, and decides itself how long it trains.
            changes, training = {name: value for name, value in changes.items() if name in spec.names}, {}
        if wish.curvature is not None:
            needed = {} if wish.curvature_needed else {"curvature_needed": 0}
            training = {**training, "curvature": typed_fields.untyped(wish.curvature), **needed}
        values = {**sweep.values, **changes}
        added.append(
            PlannedTrial(
                len(planned) + len(added),
                *identity,
                coordinates=(),
                hyperparameters={name: value for name, value in values.items() if value is not None},
                seed=trial_seed(spec.training.seed, wish.repeat),
                trial_kind=wish.trial_kind,
                training=dict(training),
            )
        )
    return added


def read_results(study: OpenStudy, known: Results) -> Results:
    """The results of all trials by their (phase, point, repeat); those in `known` are not read again."""
    found = dict(known)
    for item in study.outcomes:
        if item.plan.place not in found:
            found[item.plan.place] = _run(study.folder.trial(item.plan.trial), item, study.spec)
    return found


def _run(folder: TrialFolder, item: TrialOutcome, spec: StudySpec) -> Run:
    files = read_trial(folder)
    if spec.objective.steps_to is not None:
        item = reselected(item, files.measurements, spec.objective.by_metric)
    return Run(
        plan=item.plan,
        state=item.state,
        reason=item.reason,
        infeasible_step=item.infeasible_step,
        best_value=item.best_value,
        best_step=item.best_step,
        baseline_loss=files.result.baseline_loss if files.result else None,
        train_seconds=files.result.train_seconds if files.result else None,
        final_step=files.result.final_step if files.result else None,
        train_examples=files.result.train_examples if files.result else None,
        curves=curves_of(files.measurements),
        updates=printed_updates(files.measurements) if spec.own_code else joined(read_updates(folder)),
    )
