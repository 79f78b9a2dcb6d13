"""A study as Weights & Biases keeps it offline: a group of runs, one a trial, that `wandb sync` uploads later."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunectl.exchange.exported_study import ExportedStudy, ExportedTrial
from tunectl.exchange.optional_libraries import environment, needed

_QUIET = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
_LONGEST_TAG = 64
_LONGEST_GROUP = 128


def write_wandb(study: ExportedStudy, folder: Path) -> int:
    """Write offline runs below an empty folder; the number of trials in them. Raises UsageError without wandb.

    Nothing is sent anywhere. A trial's run keeps its id in every export of the study folder. It starts when the trial
    did, and its points have the times at which they were measured; what W&B does not let one say is when the run ended,
    so that the duration it shows by itself is that of the export: `train_seconds` and `eval_seconds` are the trial's.
    """
    with environment(_QUIET), needed("wandb"):
        import wandb

        try:
            for trial in study.launched:
                _write_run(study, trial, folder)
        finally:
            wandb.teardown()
    return len(study.launched)


def _write_run(study: ExportedStudy, trial: ExportedTrial, folder: Path) -> None:
    import wandb

    facts, outcome = trial.facts(), trial.outcome
    tags = [outcome.state, *([outcome.reason[:_LONGEST_TAG]] if outcome.reason else [])]
    tags += [f"stage {trial.plan.stage}"] if study.spec.search.promote else []
    run = wandb.init(
        dir=folder,
        project=study.spec.name,
        group=study.spec.name[:_LONGEST_GROUP],
        job_type=trial.plan.trial_kind,
        id=_run_id(study, trial),
        name=trial.name,
        notes=study.spec.goal or None,
        tags=tags,
        config={**trial.plan.hyperparameters, "tunectl": {**study.facts(), **facts}},
        reinit="create_new",
        settings=_settings(trial),
    )
    elapsed = trial.free_name("elapsed_seconds")
    for item in trial.curve():
        values = {**item.metrics, elapsed: item.elapsed_seconds, "_timestamp": trial.time_of(item)}
        run.log(values, step=item.step)
    run.summary.update({**trial.reached(), **facts})
    run.finish(exit_code=1 if outcome.state == "failed" else 0)


def _settings(trial: ExportedTrial) -> Any:
    """Offline, and nothing of this machine or of this process in it: it did not train."""
    import wandb

    return wandb.Settings(
        mode="offline",
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        x_start_time=trial.started,
    )


def _run_id(study: ExportedStudy, trial: ExportedTrial) -> str:
    return f"{hashlib.sha256(study.folder.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}-{trial.plan.trial:05d}"


def view_command(place: Path) -> Sequence[str]:
    """The command that uploads it."""
    return ("wandb", "sync", "--sync-all", str(place / "wandb"))
