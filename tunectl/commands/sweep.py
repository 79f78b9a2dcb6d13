"""A procedure at work: its trials run, go on where they were stopped, and are tabled like any study's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

from tunectl.analysis.results.runs import Run, curves_of, joined, told_updates
from tunectl.core import jsontext, record_checksums, regular_files
from tunectl.core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED, UsageError
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.path_errors import path_error, path_errors
from tunectl.core.records import FactorySignature, PlannedTrial, Scalar, TrialOutcome
from tunectl.core.table_columns import Column
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.execution.backends.backend import Backend
from tunectl.execution.stop_signals import counted_stop_signals
from tunectl.language.configuration import FIELDS
from tunectl.language.placeholders import names_in
from tunectl.language.study_spec import StudySpec
from tunectl.procedures.known_procedures import procedure_of
from tunectl.procedures.procedure import AnySweep, Conclusion, Options, Options_co, Procedure, Results, SweepSpec
from tunectl.procedures.repeated_seeds import without_evidence
from tunectl.report.table import Table
from tunectl.report.trial_tables import write_table
from tunectl.session.base_configuration import settle
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.conclusions import conclusions_beside
from tunectl.session.disk_room import check_room_to_begin
from tunectl.session.open_study import OpenStudy, grown, opened
from tunectl.session.outcome_index import has_ended
from tunectl.session.probed_study import Ready, make_ready, study_slots
from tunectl.session.run_progress import Watcher
from tunectl.session.training_trials import RunOptions, disk_need, train_trials
from tunectl.session.unread_metrics import omissions
from tunectl.space.domains import Domain
from tunectl.space.hyperparameters import active
from tunectl.space.trial_plan import trial_seed
from tunectl.store.step_files import read_updates
from tunectl.store.study_folder import check_place, study_path
from tunectl.store.trial_files import read_trial
from tunectl.store.writing_lock import writing_lock


@dataclass(frozen=True)
class ProcedureRequest(Generic[Options_co]):
    """What a procedure is asked: its own options, and the values that settle the study.

    `before` is the folder of the procedure that this one goes on from.
    """

    options: Options_co
    values: Mapping[str, Scalar]
    before: Path | None = None


@dataclass(frozen=True, slots=True)
class ProcedureReport:
    """How a call of a procedure ended. `conclusion` None: it was interrupted, or trials failed. `damage` says what of
    the folder was damaged.
    """

    procedure: str
    folder: StudyFolder
    outcomes: tuple[TrialOutcome, ...]
    conclusion: Conclusion | None
    paths: tuple[Path, ...]
    interrupted: bool
    damage: tuple[str, ...] = ()

    @property
    def failed(self) -> list[TrialOutcome]:
        """The trials without which there is no conclusion."""
        return [item for item in self.outcomes if item.state == "failed"]

    @property
    def exit_code(self) -> int:
        """0 done, 1 trials failed, 130 interrupted."""
        if self.conclusion is not None:
            return EXIT_DONE
        return EXIT_INTERRUPTED if self.interrupted else EXIT_SOME_FAILED

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object: the conclusion, and where it is kept."""
        answers = dict(self.conclusion.answers) if self.conclusion else {}
        verdict = self.conclusion.verdict if self.conclusion else None
        return {
            "procedure": self.procedure,
            "folder": str(self.folder.path),
            **answers,
            "verdict": verdict,
            "advice": self.conclusion.advice if self.conclusion else None,
            "trials": len(self.outcomes),
            "failed": [item.plan.trial for item in self.failed],
            "files": [str(path) for path in self.paths],
            "damage": list(self.damage),
            "exit_code": self.exit_code,
        }


def run_procedure(
    study: Path,
    request: ProcedureRequest[Options],
    options: RunOptions,
    watcher: Watcher,
    backend: Backend,
) -> ProcedureReport:
    """Run what is left of a procedure, that of the request's options, on a backend that was started, and conclude.

    Raises StudyError, WorkloadError and UsageError (exit code 2) before anything is created, and FolderError (3) where
    the folder is in use, belongs to another study or another request, or cannot be written.
    """
    procedure = procedure_of(request.options)
    checked = check_study(study, Path.cwd())
    sweep = _checked_sweep(procedure, checked, request)
    slots = study_slots(checked.spec, options.slots, backend)[: 1 if procedure.one_at_a_time else None]
    name = f"{checked.spec.name}.{procedure.name}"
    place = options.folder if options.folder is not None else study_path(Path("runs"), name)
    asked = record_checksums.sealed(jsontext.encode(_asked(procedure, sweep))) + b"\n"
    with counted_stop_signals() as stops, ExitStack() as stack:
        ready: Ready | None = None

        def made_ready(trials: Sequence[PlannedTrial]) -> Ready:
            return make_ready(backend, checked, trials, slots[0], stops)

        def planner(planned: Sequence[PlannedTrial]) -> list[PlannedTrial]:
            # Later phases are planned when the results of the earlier ones are known.
            return [] if planned else planned_trials(checked.spec, sweep, procedure, {}, ())

        if not check_place(place):
            _say_cost(procedure, sweep, watcher)
            first = planner([])
            _check_places(procedure, checked.spec, first)
            ready = made_ready(first)
            check_room_to_begin(place, disk_need(checked.spec, first, ready, slots))
        at_work = stack.enter_context(opened(checked.spec, place, watcher, planner, asked))
        results: Results = {}
        while True:
            left = at_work.left(retry_failed=options.retry_failed)
            if left:
                ready = ready or made_ready(left)
                _say_phase(procedure, left, watcher)
                train_trials(at_work, left, checked, ready, slots, options, watcher, stops)
                at_work = grown(at_work, [])
            if stops() or any(not has_ended(item) or item.state == "failed" for item in at_work.outcomes):
                return _report(procedure, checked, at_work, None, watcher, interrupted=stops() > 0)
            results = read_results(at_work, results)
            added = planned_trials(checked.spec, sweep, procedure, results, at_work.trials)
            if not added:
                _say_omissions(at_work, watcher)
                known = replace(sweep, beside=conclusions_beside(checked.spec, place, sweep.values))
                conclusion = without_evidence(procedure.conclude(known, results), results)
                return _report(procedure, checked, at_work, conclusion, watcher, interrupted=False)
            at_work = grown(at_work, added)


def _say_omissions(study: OpenStudy, watcher: Watcher) -> None:
    for omission in omissions(study.folder, study.outcomes):
        watcher.message(f"warning: {omission}")


def _checked_sweep(
    procedure: Procedure[Options], checked: CheckedStudy, request: ProcedureRequest[Options]
) -> SweepSpec[Options]:
    """What the procedure works on; raises UsageError where it cannot."""
    if checked.spec.own_code:
        _check_own_code(procedure, checked.spec)
    sweep = sweep_spec(procedure, checked.spec, request, checked.signature)
    wrong = procedure.problems(sweep)
    if wrong:
        raise UsageError("\n".join(f"{procedure.name}: {line}" for line in wrong))
    return sweep


def _say_cost(procedure: Procedure[Options], sweep: SweepSpec[Options], watcher: Watcher) -> None:
    usual = procedure.trainings(sweep)
    if usual is not None:
        steps = getattr(sweep.options, "steps", None) or sweep.max_train_steps
        watcher.message(f"{procedure.name}: takes about {usual[0]} to {usual[1]} trainings of {steps:,} steps in all")


def _say_phase(procedure: Procedure[Any], left: Sequence[PlannedTrial], watcher: Watcher) -> None:
    phases = dict.fromkeys(procedure.phases[trial.setting] for trial in left)
    noun = "trial" if len(left) == 1 else "trials"
    watcher.message(f"{procedure.name}: {', '.join(phases)} ({len(left)} {noun})")


def sweep_spec(
    procedure: Procedure[Options],
    spec: StudySpec,
    request: ProcedureRequest[Options],
    signature: FactorySignature | None = None,
) -> SweepSpec[Options]:
    """What the procedure works on; raises UsageError where the study is not settled, or takes not what `before` found.

    `signature` is the factory's, None where it is not known.
    """
    before = _conclusion_of(request.before) if request.before is not None else {}
    recipe = before["recipe"] if isinstance(before.get("recipe"), dict) else {}
    _check_recipe(procedure, spec, recipe, signature)
    values = settle(spec, procedure.swept | (recipe.keys() & set(spec.names)), request.values, procedure.name)
    rate = active(spec.alternatives("learning_rate"), values)
    return SweepSpec(
        values=values,
        objective=spec.objective,
        max_train_steps=spec.training.max_train_steps,
        eval_every=spec.training.eval_every,
        off={item.name: item.off for item in spec.hyperparameters if item.off is not None and item.name in values},
        learning_rates=_ends(rate.domain) if rate is not None and "learning_rate" not in values else None,
        init_scale=_init_scale(spec, values, signature),
        options=request.options,
        before=before,
        own_code=spec.own_code,
        train_examples=spec.training.train_examples,
    )


def _check_recipe(
    procedure: Procedure[Any], spec: StudySpec, recipe: Mapping[str, Any], signature: FactorySignature | None
) -> None:
    """Refuse a recipe of which this study would take only a part. Raises UsageError."""
    taken = {*spec.names, *(() if spec.own_code else FIELDS), *(signature.parameters if signature is not None else ())}
    untaken = [name for name in recipe if name not in taken]
    if untaken:
        raise UsageError(
            f"{procedure.name}: --from: its recipe sets {', '.join(untaken)}, and {spec.label} has no such name"
        )


def _init_scale(spec: StudySpec, values: Mapping[str, Scalar], signature: FactorySignature | None) -> float | None:
    """The scale of the initial weights: the study's, or the default of the factory's keyword."""
    known = values.get("init_scale")
    if known is None and "init_scale" not in spec.names and signature is not None and not spec.own_code:
        known = signature.defaults.get("init_scale")
    return float(known) if isinstance(known, (int, float)) and not isinstance(known, bool) and known > 0 else None


def _ends(domain: Domain) -> tuple[float, float] | None:
    """The lowest and the highest of what varies over numbers."""
    numbers = domain.numbers
    return (min(numbers), max(numbers)) if domain.is_ordered or len(set(numbers)) > 1 else None


def _check_own_code(procedure: Procedure[Any], spec: StudySpec) -> None:
    """Refuse a study of own code that lacks what the procedure needs. Raises UsageError that names all of it."""
    needs = procedure.own_code
    if needs is None:
        raise UsageError(
            f"{procedure.name}: works in tunectl's own training loop alone, and {spec.label} trains by a {spec.kind}"
        )
    missing = [f"a hyperparameter {name}" for name in needs.hyperparameters if name not in spec.names]
    known = _metrics_told(spec)
    if known is not None:
        missing += [f"a metric {name}" for name in needs.metrics if name not in known]
    if missing:
        raise UsageError(
            f"{procedure.name}: {spec.label} has not what this needs: {', '.join(missing)}; declare it, and let the "
            f"{spec.kind} take or tell it"
        )


def _check_places(procedure: Procedure[Any], spec: StudySpec, trials: Sequence[PlannedTrial]) -> None:
    """Refuse a command that needs a value which the procedure's first trials do without. Raises UsageError."""
    for argument in spec.program.arguments if spec.program is not None else ():
        for name in names_in(argument) if isinstance(argument, str) else ():
            if name in spec.names and any(name not in trial.hyperparameters for trial in trials):
                raise UsageError(
                    f"{procedure.name}: runs trials without {name}, and the command of {spec.label} always takes it: "
                    f'put it, with its option, into a list of its own, which is left out there: ["{argument}"]'
                )


def _metrics_told(spec: StudySpec) -> set[str] | None:
    """The metrics that expressions name, None where others may be told."""
    sources = spec.program.sources if spec.program is not None else ()
    if not sources or any(item.kind != "regex" for item in sources):
        return None
    return {name for item in sources for name in item.named()}


def _conclusion_of(place: Path) -> dict[str, Any]:
    path = StudyFolder(place).conclusion
    try:
        return sealed_object(regular_files.content(path))
    except FileNotFoundError:
        raise UsageError(
            f"--from {place}: there is no {path.name}; give the folder of a procedure that has ended"
        ) from None
    except (OSError, DamagedError) as error:
        raise path_error(path, "read", error) from error


def _asked(procedure: Procedure[Any], sweep: AnySweep) -> dict[str, Any]:
    """What procedure.json keeps: a folder belongs to one request."""
    return {
        "procedure": procedure.name,
        "options": sweep.options.to_json(),
        "values": dict(sweep.values),
        "from": dict(sweep.before) or None,
    }


def planned_trials(
    spec: StudySpec,
    sweep: SweepSpec[Options],
    procedure: Procedure[Options],
    results: Results,
    planned: Sequence[PlannedTrial],
) -> list[PlannedTrial]:
    """The trials that the procedure wants now and that are not planned yet; equal repeats share their seed."""
    known = {(trial.setting, trial.point, trial.repeat) for trial in planned}
    added: list[PlannedTrial] = []
    for wish in procedure.next_trials(sweep, results):
        identity = (wish.phase, wish.point, wish.repeat)
        if identity in known:
            continue
        known.add(identity)
        changes, training = wish.changes, wish.training
        if spec.own_code:
            # It has no schedule of ours to change, and trains as long as it does.
            changes, training = {name: value for name, value in changes.items() if name in spec.names}, {}
        values = {**sweep.values, **changes}
        added.append(
            PlannedTrial(
                len(planned) + len(added),
                *identity,
                coordinates=(),
                hyperparameters={name: value for name, value in values.items() if value is not None},
                seed=trial_seed(spec.training.seed, wish.repeat),
                kind=wish.trial_kind,
                training=dict(training),
            )
        )
    return added


def read_results(study: OpenStudy, known: Results) -> Results:
    """What every trial has left, by (phase, point, repeat); those that are `known` are not read again."""
    found = dict(known)
    for item in study.outcomes:
        key = (item.plan.setting, item.plan.point, item.plan.repeat)
        if key not in found:
            found[key] = _run(study.folder.trial(item.plan.trial), item, own_code=study.spec.own_code)
    return found


def _run(folder: TrialFolder, item: TrialOutcome, *, own_code: bool) -> Run:
    files = read_trial(folder)
    return Run(
        plan=item.plan,
        state=item.state,
        reason=item.reason,
        infeasible_step=item.infeasible_step,
        best_value=item.best_value,
        best_step=item.best_step,
        baseline_loss=files.result.baseline_loss if files.result else None,
        curves=curves_of(files.measurements),
        updates=told_updates(files.measurements) if own_code else joined(read_updates(folder)),
    )


def _report(
    procedure: Procedure[Any],
    checked: CheckedStudy,
    study: OpenStudy,
    conclusion: Conclusion | None,
    watcher: Watcher,
    *,
    interrupted: bool,
) -> ProcedureReport:
    # pyarrow takes a while to load: only when there is something to write.
    from tunectl.report.plots import write_figures
    from tunectl.session.written_tables import write_tables

    with writing_lock(study.folder, watcher.message):
        tables = write_tables(study.folder, checked.spec, study.outcomes, study.index)
        paths = list(tables.paths)
        if conclusion is not None:
            drawn = write_figures(study.folder.plots, conclusion.figures)
            if drawn.warning:
                watcher.message(f"warning: {drawn.warning}")
            paths += [
                *write_table(study.folder, procedure.name, _table(conclusion)),
                *drawn.paths,
                _write_conclusion(study.folder, conclusion),
            ]
    outcomes, damage = tuple(study.outcomes), study.damage.lines
    return ProcedureReport(procedure.name, study.folder, outcomes, conclusion, tuple(paths), interrupted, damage)


def _table(conclusion: Conclusion) -> Table:
    return Table(tuple(Column(name, "scalar") for name in conclusion.header), [tuple(row) for row in conclusion.rows])


def _write_conclusion(folder: StudyFolder, conclusion: Conclusion) -> Path:
    content = record_checksums.sealed(jsontext.encode({**conclusion.answers, "verdict": conclusion.verdict})) + b"\n"
    with path_errors(folder.conclusion, "written"):
        write_if_changed(folder.conclusion, content)
    return folder.conclusion
