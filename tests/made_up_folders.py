"""Study folders as a run leaves them, without training: values by formula, through the files that workers write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder
from tunectl.core.measurements import Measurement
from tunectl.core.records import PlannedTrial, TrialResult
from tunectl.language.study_reader import parse_study
from tunectl.session.outcome_index import refresh_index
from tunectl.space.trial_plan import plan_trials
from tunectl.store.index import Index
from tunectl.store.plan_file import append_plan
from tunectl.store.provenance import append_provenance, describe_run
from tunectl.store.study_folder import create

NOW = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
STEPS = (0, 50, 100)

Values = Callable[[PlannedTrial], float | None]
"""The best value of a trial; None for one that is infeasible."""


def made_up_folder(
    place: Path, text: str, values: Values, *, more: tuple[PlannedTrial, ...] = (), file: Path | None = None
) -> StudyFolder:
    """A finished study of this text at `place`; `more` are trials beyond its own plan.

    Each trial is evaluated at STEPS: its metric falls to the value at step 50 and is a tenth worse at step 100;
    train/loss is half of it.
    """
    file = file or place.parent / "study_file.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    spec = parse_study(text, file)
    folder = create(place, text)
    folder.lock.touch()
    trials = [*plan_trials(spec), *more]
    append_plan(folder.plan, trials)
    for trial in trials:
        write_trial(folder, trial, spec.objective.metric, values(trial))
    command = ("/usr/bin/tunectl", "run", file.name)
    append_provenance(folder, describe_run(command, workload_file=None, study_file=file, study_folder=place, now=NOW))
    with Index.open_for_writing(folder.index) as index:
        refresh_index(folder, trials, spec.objective, index, lambda _line: None)
    return folder


def write_trial(folder: StudyFolder, trial: PlannedTrial, metric: str, value: float | None) -> None:
    """What a worker leaves of a trial that ended."""
    home = folder.trial(trial.trial)
    (home.checkpoints).mkdir(parents=True)
    reached = 1.0 if value is None else value
    curve: Mapping[int, float] = dict(zip(STEPS, (1.0, reached, reached * 1.1), strict=True))
    lines = [
        Measurement(step, {metric: at, "train/loss": at / 2}, checkpoint=f"step-{step:08d}.pt" if step else None)
        for step, at in curve.items()
    ]
    home.measurements.write_text("".join(jsontext.encode(item.to_json()) + "\n" for item in lines))
    for step in STEPS[1:]:
        home.checkpoint(step).write_bytes(b"a checkpoint")
    home.log.write_text(f"trial {trial.trial} <said> so\n")
    if value is None:
        result = TrialResult(trial.trial, "infeasible", "nan_loss", infeasible_step=50, final_step=STEPS[-1])
    else:
        result = TrialResult(trial.trial, "completed", final_step=STEPS[-1])
    home.result.write_text(jsontext.encode(result.to_json()))
