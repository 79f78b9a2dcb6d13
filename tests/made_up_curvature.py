"""Study folders whose trials measured curvature, without training: simulated trials through the files of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from made_up_folders import made_up_folder

from tunectl.analysis.results.runs import Run
from tunectl.core import jsontext
from tunectl.core.folders import StudyFolder
from tunectl.core.measurement_kinds import CURVATURE
from tunectl.core.records import TrialResult
from tunectl.language.study_reader import parse_study
from tunectl.session.outcome_index import refresh_index
from tunectl.store.index import Index
from tunectl.store.plan_file import read_plan
from tunectl.store.trial_files import read_trial

Line = tuple[int, Mapping[str, float]]
"""A measurement of curvature: its step, and its values by the names of the kind's metrics."""


def lines_of(run: Run) -> list[Line]:
    """The measurements of a simulated trial, with a loss, a gradient norm and a critical rate at the same steps."""
    names = [name for name in run.curves if name.startswith("curvature/")]
    steps = run.curves[names[0]][0].astype(int).tolist()
    found: list[Line] = []
    for place, step in enumerate(steps):
        values = {name.partition("/")[2]: float(run.curves[name][1][place]) for name in names}
        loss = run.updates.loss[min(step, len(run.updates.loss) - 1)]
        values |= {"loss": float(loss), "gradient_norm": float(np.sqrt(abs(loss))), "products": 12.0, "seconds": 0.1}
        values |= {"critical_learning_rate": 2 / values["lambda_1"], "critical_limit": 0.0, "examples": 256.0}
        found.append((step, values))
    return found


def curvature_folder(
    place: Path, text: str, lines: Mapping[int, Sequence[Line]], runs: Mapping[int, Run] | None = None
) -> StudyFolder:
    """A finished study of this text whose trials have these lines; those of `runs` also end as the runs did."""
    runs = runs or {}
    folder = made_up_folder(place, text, lambda plan: 0.1 + plan.trial / 100)
    for trial, of_trial in lines.items():
        home = folder.trial(trial)
        items = [*read_trial(home).measurements]
        items += [CURVATURE.measurement(step, values, float(step)) for step, values in of_trial]
        items.sort(key=lambda item: item.step)
        home.measurements.write_text("".join(jsontext.encode(item.to_json()) + "\n" for item in items))
        if (run := runs.get(trial)) is not None:
            _end_as(folder, trial, run)
    trials, spec = read_plan(folder.plan), parse_study(text, place.parent / "study_file.yaml")
    with Index.open_for_writing(folder.index) as index:
        refresh_index(folder, trials, spec.objective, index, lambda _line: None)
    return folder


def _end_as(folder: StudyFolder, trial: int, run: Run) -> None:
    """Write the updates of a simulated trial, and its result where it diverged."""
    home, updates = folder.trial(trial), run.updates
    names = ("loss", "gradient_norm", "learning_rate", "clipped")
    block = {"first": 0, **{name: getattr(updates, name).tolist() for name in names}}
    home.steps.write_text(jsontext.encode(block) + "\n")
    if run.state == "infeasible":
        result = TrialResult(
            trial, "infeasible", run.reason, infeasible_step=run.infeasible_step, final_step=run.infeasible_step
        )
        home.result.write_text(jsontext.encode(result.to_json()))
