"""The files that a workload writes at evaluations: `trials/N/files/step-00000100/`, one folder for each step.

A kill at any moment is harmless. A folder gets its name when it is complete, before the measurement of its step is
written. A trial that goes on from `resume.pt` removes the folders of later steps and writes them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunectl.core import real_folders
from tunectl.core.files import flush_file, flush_folder
from tunectl.core.folders import TrialFolder, step_of_files
from tunectl.core.records import TrialRequest
from tunectl.training.evaluated_trial import EvaluatedTrial
from tunectl.training.evaluation import Evaluator, evaluating
from tunectl.training.seeds import Purpose, sequence
from tunectl.training.split_metrics import unchanged

_WHAT = "on_evaluation(trial)"


class EvaluationFiles:
    """Calls the workload's `on_evaluation`, and keeps what it writes."""

    def __init__(self, request: TrialRequest, evaluator: Evaluator, folder: TrialFolder) -> None:
        self._request, self._evaluator, self._folder = request, evaluator, folder

    @classmethod
    def of(cls, request: TrialRequest, evaluator: Evaluator, folder: TrialFolder) -> EvaluationFiles | None:
        """Those of a trial; None where its workload has no `on_evaluation`."""
        return None if evaluator.workload.on_evaluation is None else cls(request, evaluator, folder)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Call it with the model after `step` updates, which has the weights that were evaluated.

        Mode and generators are as before afterwards. Raises WorkloadError where it changes the model; its exceptions
        pass.
        """
        evaluator, folder = self._evaluator, self._folder
        workload, seed, device = evaluator.workload, evaluator.seed, evaluator.device
        assert workload.on_evaluation is not None
        place, target = folder.unfinished_files(step), folder.files_of(step)
        real_folders.remove_all(place, folder.study)
        real_folders.made(place, folder.study, inside=folder.path)
        trial = EvaluatedTrial(
            id=self._request.trial,
            seed=seed,
            step=step,
            model=workload.model,
            data=evaluator.splits,
            device=device,
            metrics=dict(metrics),
            folder=place,
        )
        with (
            evaluating(workload.model, sequence(seed, Purpose.EVALUATION), device),
            unchanged(workload.model, _WHAT),
        ):
            workload.on_evaluation(trial)
        _flush(place)
        real_folders.remove_all(target, folder.study)
        if any(place.iterdir()):
            real_folders.move(place, target, folder.study)
        else:
            real_folders.remove_all(place, folder.study)


def remove_later_files(folder: TrialFolder, step: int) -> None:
    """Remove the files of later evaluations than that of this step, and those that are not complete."""
    try:
        names = [path.name for path in folder.files.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        found = step_of_files(name.removeprefix("."))
        if found is not None and (found > step or name.startswith(".")):
            real_folders.remove_all(folder.files / name, folder.study)


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            flush_file(path)
    flush_folder(folder)
