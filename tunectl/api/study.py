"""A study folder for users of Python: data frames, plain objects, plots and models; it is only read."""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

from tunectl.api.frames import frame, frame_of
from tunectl.api.plain_values import plain
from tunectl.api.results import Answer, Finding, Trial
from tunectl.core.errors import UsageError
from tunectl.core.wording import as_text
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.space.domains import sameness

if TYPE_CHECKING:
    import pandas

    from tunectl.analysis.results.outcomes import SettingSummary
    from tunectl.api.plots import Plot
    from tunectl.core.objective import Objective
    from tunectl.core.records import Scalar, TrialOutcome
    from tunectl.training.final_model import LoadedModel

_MOST_NAMED = 20

StudyPath = str | os.PathLike[str]


def open_study(folder: StudyPath) -> Study:
    """The study in a folder, such as `runs/optimizer-comparison`, also while it runs; the folder is only read.

    Raises tunectl.TunectlError, with the text that a command prints, where there is no study, or it cannot be read.
    """
    return Study(Path(folder))


class Study:
    """A study folder. Each method reads it anew, so that it shows the present state of a study that runs.

    What is damaged in the folder is a Python warning with the text that the commands print. Every method raises
    tunectl.TunectlError where the folder cannot be read (any more), or the question has no answer.
    """

    def __init__(self, folder: Path) -> None:
        # Not the current folder's any more when that changes, as notebooks do.
        self._folder = folder.absolute()
        with self._now() as study:
            self._name, self._goal, self._objective = study.spec.name, study.spec.goal, study.spec.objective

    def __repr__(self) -> str:
        return f"tunectl.open_study({str(self._folder)!r})"

    @property
    def folder(self) -> Path:
        """The study folder."""
        return self._folder

    @property
    def name(self) -> str:
        """The name of the study."""
        return self._name

    @property
    def goal(self) -> str:
        """The question that the study answers, "" where its file has none."""
        return self._goal

    @property
    def objective(self) -> Objective:
        """What trials are judged by: `metric`, `direction`, `checkpoint` and `steps_to`."""
        return self._objective

    @property
    def is_running(self) -> bool:
        """Whether a runner is at work in the folder now."""
        with self._now() as study:
            return study.runner_alive

    def trials(self) -> pandas.DataFrame:
        """One row for each planned trial, whatever its state: the columns of `tables/trials.parquet`."""
        from tunectl.session.written_tables import trials_of

        with self._now() as study:
            return frame(trials_of(study.spec, study.outcomes))

    def settings(self) -> pandas.DataFrame:
        """One row for each setting, with its best trial: the columns of `tables/settings.parquet`."""
        from tunectl.session.written_tables import settings_of

        with self._now() as study:
            return frame(settings_of(study.spec, study.outcomes)[1])

    def measurements(self) -> pandas.DataFrame:
        """One row for each measurement of each trial, also of those that run now: as `tables/measurements.parquet`."""
        from tunectl.report.trial_tables import measurements_parquet
        from tunectl.session.written_tables import measurement_blocks, whole_index

        with self._now() as study:
            metrics, blocks = measurement_blocks(study.folder, study.outcomes, whole_index(study))
            return frame_of(measurements_parquet(blocks, metrics))

    def steps(self, trial: SupportsIndex) -> pandas.DataFrame:
        """One row for each update of a trial: `update` (from 0 on), `loss` of its batch, `gradient_norm` before
        clipping (L2, all parameters), `learning_rate`, and whether the gradient was `clipped` or the update `skipped`.

        Without a row before the trial has trained. Raises UsageError for the trial of a program or function, which does
        its own updates.
        """
        from tunectl.api.update_series import update_frame

        with self._now() as study:
            return update_frame(study, self._outcome(study, trial))

    def findings(self) -> tuple[Finding, ...]:
        """What is wrong or worth knowing, the warnings first: as `tunectl report` finds it."""
        from tunectl.session.present_report import present_findings

        with self._now() as study:
            return tuple(Finding.of(found) for found in present_findings(study))

    def answer(self) -> Answer:
        """The answer to the study's question in one sentence, with its certainty and the best trial.

        It is that of `tunectl show`. Raises UsageError in the folder of a procedure, which has a `conclusion()`.
        """
        from tunectl.session.present_report import present_answer

        with self._now() as study:
            if study.folder.procedure.exists():
                raise UsageError(f"{self._folder}: is a procedure's: conclusion() has its verdict")
            found = present_answer(study)
            best = None if found.best is None else Trial.of(study.folder, study.outcomes[found.best.trial])
            return Answer.of(found, best)

    def conclusion(self) -> Mapping[str, Any] | None:
        """What a procedure concluded (`conclusion.json` in its folder); None before its end, and for a study."""
        from tunectl.session.conclusions import conclusion_in

        with self._now() as study:
            return conclusion_in(study.folder)

    def trial(self, number: SupportsIndex) -> Trial:
        """A trial by its number."""
        with self._now() as study:
            return Trial.of(study.folder, self._outcome(study, number))

    def best(self, setting: SupportsIndex | Mapping[str, Scalar] | None = None) -> Trial:
        """The best completed trial: of the whole study, or of a setting.

        `setting` is a number, or values of scientific hyperparameters (`{"optimizer": "adam"}`): then the best of all
        settings with these values. Infeasible trials and retrains are never the best. Of a study with stages it is the
        best of the stage that is judged, the last complete one. Raises UsageError where there is no such setting, and
        where no trial of it has completed yet.
        """
        with self._now() as study:
            return Trial.of(study.folder, self._best(study, setting))

    def plot(self, name: str) -> Plot:
        """A plot of the page: of a hyperparameter that varies (`"learning_rate"`), of a metric during training
        (`"valid/loss"`), or by one of the names that `plots()` gives.

        A hyperparameter that has several ranges, by conditions, has one below the other. Raises UsageError where there
        is no such plot.
        """
        from tunectl.api.plots import Plot
        from tunectl.report.single_plot import single_plot
        from tunectl.session.present_report import figures_named

        with self._now() as study:
            return Plot(name, single_plot(figures_named(study, name)))

    def plots(self) -> tuple[str, ...]:
        """The names of all plots of the page, in its order; they are those of the files in `plots/`."""
        from tunectl.session.present_report import all_figures

        with self._now() as study:
            return tuple(figure.name for figure in all_figures(study))

    def load(self, trial: SupportsIndex | None = None, device: str = "cpu") -> LoadedModel:
        """The model of a trial with the weights of its best checkpoint, and the workload that built it; None: the best.

        `model` is in evaluation mode, with the weights as they were evaluated; `workload` has the data, and
        `evaluate("valid")` the metrics of a split. The code of the workload is run. Raises UsageError where the trial
        has no kept checkpoint, or is one of a program or function, whose model only its own code can build;
        WorkloadError where the workload does not fit the checkpoint any more.
        """
        from tunectl.api.loading import loaded_trial

        with self._now() as study:
            outcome = self._outcome(study, trial) if trial is not None else self._best(study, None)
            return loaded_trial(study, outcome, device)

    def _best(self, study: StudySnapshot, setting: SupportsIndex | Mapping[str, Scalar] | None) -> TrialOutcome:
        from tunectl.analysis.results.outcomes import best_outcome
        from tunectl.analysis.results.stages import of_judged_stage
        from tunectl.session.written_tables import settings_of

        judged, of_which = of_judged_stage(list(study.outcomes)), ""
        if setting is not None:
            wanted = _matching(settings_of(study.spec, study.outcomes)[0], setting)
            judged = [item for item in judged if item.plan.setting in wanted]
            of_which = f"setting {setting!r}: "
        found = best_outcome(judged, study.spec.objective)
        if found is None:
            raise UsageError(f"{self._folder}: {of_which}{study.spec.objective.never_given}")
        return found

    @contextlib.contextmanager
    def _now(self) -> Iterator[StudySnapshot]:
        with study_snapshot(self._folder, _warn) as study:
            yield study

    def _outcome(self, study: StudySnapshot, number: SupportsIndex) -> TrialOutcome:
        place = _whole(number)
        if place is None or not 0 <= place < len(study.outcomes):
            known = f"a trial from 0 to {len(study.outcomes) - 1}" if study.outcomes else "a study with planned trials"
            raise UsageError(f"{self._folder}: expected {known}, got {number!r}")
        return study.outcomes[place]


def _whole(number: object) -> int | None:
    """A whole number, also one of NumPy; None where it is something else."""
    if isinstance(number, bool):
        return None
    with contextlib.suppress(TypeError):
        return operator.index(cast("SupportsIndex", number))
    return None


def _matching(settings: Sequence[SettingSummary], wanted: object) -> set[int]:
    """The settings with a number, or with values of scientific hyperparameters; raises UsageError without any."""
    if isinstance(wanted, Mapping):
        values = {name: sameness(value) for name, value in cast("Mapping[str, Scalar]", plain(wanted)).items()}
        found = {
            item.setting
            for item in settings
            if all(name in item.scientific and sameness(item.scientific[name]) == values[name] for name in values)
        }
    else:
        number = _whole(wanted)
        found = {item.setting for item in settings if item.setting == number}
    if not found:
        known = "; ".join(f"{item.setting}: {_in_words(item.scientific)}" for item in settings[:_MOST_NAMED])
        more = f"; and {len(settings) - _MOST_NAMED} more" if len(settings) > _MOST_NAMED else ""
        raise UsageError(f"there is no setting {wanted!r}; the settings are: {known or 'none'}{more}")
    return found


def _in_words(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name}={as_text(value)}" for name, value in values.items()) or "the only one"


def _warn(line: str) -> None:
    # The caller of the method of Study, whatever is between.
    warnings.warn(line.removeprefix("warning: "), UserWarning, stacklevel=_frames_of_ours())


def _frames_of_ours() -> int:
    """The number of frames from here to the first one that is not tunectl's."""
    depth, at = 1, sys._getframe(1)
    while at.f_back is not None and str(at.f_globals.get("__name__", "")).split(".")[0] in ("tunectl", "contextlib"):
        depth, at = depth + 1, at.f_back
    return depth
