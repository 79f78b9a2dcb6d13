"""`curvature DIR`: the curvature at the kept checkpoints of a finished study, in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunectl.commands.procedure_report import ProcedureResult, report_procedure
from tunectl.commands.sweep import read_results
from tunectl.core import jsontext, record_checksums, typed_fields
from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import UsageError
from tunectl.core.records import HAS_RESULT, PlannedTrial, TrialOutcome
from tunectl.core.trial_checkpoints import TrialCheckpoints
from tunectl.execution.backends.backend import Backend
from tunectl.execution.stop_signals import counted_stop_signals
from tunectl.procedures.checkpoint_conclusion import MeasuredTrial, concluded
from tunectl.procedures.procedure import Conclusion
from tunectl.session.checked_study import check_study
from tunectl.session.open_study import OpenStudy, open_study, with_trials
from tunectl.session.original_study import original_study
from tunectl.session.outcome_index import has_ended
from tunectl.session.probed_study import probe_workload
from tunectl.session.run_progress import Watcher
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.session.study_checkpoints import FoundCheckpoints, study_checkpoints
from tunectl.session.study_code import changed_files
from tunectl.session.training_trials import RunOptions, study_places, train_trials, training_slots
from tunectl.store.study_folder import study_path

NAME = "curvature"


def measure_checkpoints(
    place: Path,
    trials: Sequence[int],
    *,
    study_file: Path | None,
    options: RunOptions,
    watcher: Watcher,
    backend: Backend,
) -> ProcedureResult:
    """Measure the curvature at all kept checkpoints of some trials of the study folder at `place`, or continue.

    Nothing in that folder changes. A later call may name other trials; what was measured is not measured again, unless
    its checkpoints have changed. Raises UsageError where no trial has a checkpoint to measure, StudyError and
    WorkloadError where the study's workload does not work any more, and FolderError where a folder cannot be used.
    """
    with study_snapshot(place, watcher.message) as finished:
        found = study_checkpoints(finished, trials)
        spec, settings = finished.spec, _settings(finished)
    for number, why in found.passed_over.items():
        watcher.message(f"trial {number} is passed over: {why}")
    if not found.kept:
        raise UsageError(f"{place}: none of these trials has a checkpoint that can be measured")
    checked = check_study(study_file or original_study(place), Path.cwd())
    for changed in changed_files(finished.folder, checked.signature.file, checked.spec.code.values()):
        watcher.message(
            f"warning: {changed} has changed since these trials were trained: what is measured now may "
            "be the curvature of another model"
        )
    out = options.folder if options.folder is not None else study_path(Path("runs"), f"{spec.name}.{NAME}")
    if out.resolve() == place.resolve():
        raise UsageError(f"--dir {out}: expected another folder than that of the finished study, which is not changed")
    slots = training_slots(checked.spec, options, backend, place=out)
    places = study_places(checked.spec, slots, options, watcher.message, backend)
    with (
        counted_stop_signals() as stops,
        open_study(spec, out, watcher, lambda _planned: [], _asked(place, settings), stop_requested=stops) as study,
    ):
        study = with_trials(study, _missing(study, found, settings))
        wanted = {trial.trial for trial in _latest(study.outcomes, found)}
        left = [trial for trial in study.left(retry_failed=options.retry_failed) if trial.trial in wanted]
        if left:
            probed = probe_workload(backend, checked, left, slots, stops, places=places)
            train_trials(study, left, checked, probed, slots, options, watcher, stops)
            study = with_trials(study, [])
        ended = [item for item in study.outcomes if item.plan.trial in wanted]
        incomplete = any(not has_ended(item) or item.state == "failed" for item in ended)
        conclusion = None if stops() or incomplete else _conclusion(study, found)
        return report_procedure(NAME, study, conclusion, watcher, interrupted=stops() > 0)


def _settings(finished: StudySnapshot) -> CurvatureSettings:
    """How the study measures curvature, with all that is measured by default; when does not count here."""
    known = finished.spec.training.curvature or CurvatureSettings()
    return replace(known, every=None, at=())


def _asked(place: Path, settings: CurvatureSettings) -> bytes:
    """The text of procedure.json: the trials are not in it, so that more of them can be measured later."""
    options = {"checkpoints_of": str(place.resolve()), "curvature": typed_fields.untyped(settings)}
    content: dict[str, Any] = {"procedure": f"{NAME} of checkpoints", "options": options, "values": {}, "from": None}
    return record_checksums.sealed(jsontext.encode(content)) + b"\n"


def _missing(study: OpenStudy, found: FoundCheckpoints, settings: CurvatureSettings) -> list[PlannedTrial]:
    """The trials that measure checkpoints that were not measured yet: (0, the measured trial, how often before)."""
    latest = {trial.point: trial for trial in study.trials}
    added: list[PlannedTrial] = []
    for number, (plan, kept) in found.kept.items():
        before = latest.get(number)
        if before is not None and _checkpoints(before) == kept:
            continue
        training = {"curvature": typed_fields.untyped(settings), "checkpoints": typed_fields.untyped(kept)}
        added.append(
            PlannedTrial(
                len(study.trials) + len(added),
                0,
                number,
                0 if before is None else before.repeat + 1,
                coordinates=(),
                hyperparameters=dict(plan.hyperparameters),
                seed=plan.seed,
                trial_kind="curvature",
                training=training,
            )
        )
    return added


def _checkpoints(trial: PlannedTrial) -> TrialCheckpoints:
    return typed_fields.typed(TrialCheckpoints, trial.training["checkpoints"])


def _latest(outcomes: Sequence[TrialOutcome], found: FoundCheckpoints) -> list[PlannedTrial]:
    """The trials that have measured, or will measure, the wanted checkpoints as they are now."""
    latest = {item.plan.point: item.plan for item in outcomes}
    return [latest[number] for number in found.kept]


def _conclusion(study: OpenStudy, found: FoundCheckpoints) -> Conclusion:
    """What all trials that were ever asked for say, and what was passed over."""
    results = read_results(study, {})
    latest = {item.plan.point: item for item in study.outcomes if item.state in HAS_RESULT}
    passed_over = {f"trial {number}": why for number, why in found.passed_over.items()}
    for number, item in sorted(latest.items()):
        if item.message:
            passed_over[f"trial {number}"] = item.message
    trials = [MeasuredTrial(number, results[latest[number].plan.place]) for number in sorted(latest)]
    return concluded(trials, passed_over)
