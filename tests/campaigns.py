"""Campaigns of made-up studies: rounds with a search and retrains of its best trial, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from builders import NUISANCE_RATE, study_text
from made_up_folders import made_up_folder, write_trial

from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial
from tunectl.language.study_reader import parse_study
from tunectl.session.promoted_trials import promoted
from tunectl.space.trial_plan import plan_trials
from tunectl.store.plan_file import append_plan, read_plan

OTHER_SEEDS = {"search": "{trials: 4, seed: 1}", "training": "{max_train_steps: 2000, eval_every: 100, seed: 2}"}
"""The sections of a study in another search of it."""

STAGES = "promote: [{keep: 1, max_train_steps: 4000}]"


def promote_best(folder: StudyFolder, value: float, retrains: Sequence[float] = ()) -> int:
    """Train trial 2 of a round with STAGES at length, with this value and these retrains; its new id."""
    spec, plans = parse_study(folder.study.read_text(), folder.path.parent / "study.yaml"), read_plan(folder.plan)
    long = promoted(spec, plans[2], len(plans))
    again = [
        replace(long, trial=long.trial + repeat, repeat=repeat, trial_kind="retrain")
        for repeat in range(1, len(retrains) + 1)
    ]
    append_plan(folder.plan, [long, *again])
    for trial, own in zip([long, *again], [value, *retrains], strict=True):
        write_trial(folder, trial, spec.objective.metric, own)
    return long.trial


def round_of(
    home: Path,
    name: str,
    best: float,
    retrains: Sequence[float | None] = (),
    sections: Mapping[str, str] | None = None,
) -> StudyFolder:
    """The study `name` of four trials in `runs/<name>` below `home`, with its file in `home`.

    Trial 2 is the best one, with this value and these retrains; None is a retrain without a value.
    """
    text = study_text({"learning_rate": NUISANCE_RATE}, **{"study": name, "search": "{trials: 4}", **(sections or {})})
    plans = plan_trials(parse_study(text, Path("study.yaml")))
    chosen = plans[2]
    again: Mapping[int, float | None] = {len(plans) + number: value for number, value in enumerate(retrains)}
    more = tuple(
        PlannedTrial(trial, chosen.setting, chosen.point, repeat, (), chosen.hyperparameters, 99, "retrain")
        for repeat, trial in enumerate(again, start=1)
    )

    def value(plan: PlannedTrial) -> float | None:
        return again[plan.trial] if plan.trial in again else best if plan.trial == 2 else best + 0.1 + plan.trial / 100

    return made_up_folder(home / "runs" / name, text, value, more=more, file=home / f"{name}.yaml")
