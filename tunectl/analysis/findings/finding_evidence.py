"""What the findings about a study are based on: its spec, its objective, and every trial with its curves."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tunectl.analysis.results.runs import Floats, Run
from tunectl.core.earlier_trials import EarlierTrials
from tunectl.core.objective import Objective
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import HAS_RESULT, PlannedTrial, Scalar
from tunectl.core.wording import as_text
from tunectl.language.study_spec import StudySpec
from tunectl.space.hyperparameters import Hyperparameter, active
from tunectl.store.prediction_files import TrialPredictions
from tunectl.store.trial_pictures import StepFiles
from tunectl.store.written_files import SharedFolders, WrittenFile


@dataclass(frozen=True, eq=False)
class StudyEvidence:
    """The trials of one stage of a study at this moment, under one objective: the study's own, or another one.

    `runs` are all planned trials of the `stage` by id, also the unfinished and the failed ones; their best values are
    those under `objective`. `spec` has the length of the stage; `earlier_stages` has the evidence of the stages before
    it, the first one first. It takes long to read the series of every update, so only some runs have them
    (`updates_read` by id). `folder` is the study folder as commands name it. `written` are the files that trials of own
    code wrote in their working folder, `shared_folders` the folders there that several trials may have made. `earlier`
    are the trials of another study from which the points were proposed, None where they were not. `predictions` are
    those of the best trials, by id, where they were kept; `files` what some trials wrote at evaluations, the best
    trials first. `backend_option` is what commands need so that trials go on where the study was run last (see
    store.provenance).
    """

    spec: StudySpec
    objective: Objective
    runs: tuple[Run, ...]
    updates_read: frozenset[int] = frozenset()
    folder: str = ""
    written: Sequence[WrittenFile] = ()
    shared_folders: SharedFolders | None = None
    earlier: EarlierTrials | None = None
    stage: int = 0
    earlier_stages: Sequence[StudyEvidence] = ()
    predictions: Mapping[int, TrialPredictions] = field(default_factory=dict)
    files: Mapping[int, Sequence[StepFiles]] = field(default_factory=dict)
    backend_option: tuple[str, ...] = ()

    @cached_property
    def searched(self) -> tuple[Run, ...]:
        """The trials of the search whose result comes from their hyperparameters: completed and infeasible ones."""
        return tuple(run for run in self.runs if run.plan.trial_kind == "search" and run.state in HAS_RESULT)

    @cached_property
    def stopped_early(self) -> tuple[Run, ...]:
        """The trials of the search that `search.stop_early` stopped, whose results are not known."""
        return tuple(run for run in self.runs if run.plan.trial_kind == "search" and run.state == "stopped")

    @cached_property
    def ended_retrains(self) -> Mapping[tuple[int, int], Sequence[Run]]:
        """The ended retrains of each trial that was trained again, by (setting, point)."""
        found: dict[tuple[int, int], list[Run]] = {}
        for run in self.runs:
            if run.plan.trial_kind == "retrain" and run.state in HAS_RESULT:
                found.setdefault((run.plan.setting, run.plan.point), []).append(run)
        return found

    @property
    def of_search(self) -> StudyEvidence:
        """The evidence of the first stage, whose points cover the search space evenly; a later one has the best."""
        return self.earlier_stages[0] if self.earlier_stages else self

    def retrain_command(self, *words: str | int) -> str:
        """The command that trains the best trials of this stage again."""
        stage = ("--stage", self.stage) if self.spec.search.promote else ()
        return tunectl_command("retrain", self.folder, *words, *stage, *self.backend_option)

    @property
    def continuing_command(self) -> str:
        """The `run` that trains further trials of this study where its trials are; it names a folder that `run` would
        not choose here by itself.
        """
        usual = os.path.join("runs", self.spec.name)  # noqa: PTH118  (as relpath gives it)
        is_usual = not self.folder or os.path.relpath(self.folder) == usual
        return self.study_command("run", *(() if is_usual else ("--dir", str(self.folder))))

    def study_command(self, name: str, *words: str | int) -> str:
        """A command that trains trials of the study file: `run`, or a procedure."""
        return tunectl_command(name, self.spec.label, *words, *self.backend_option)

    @cached_property
    def evenly_sampled(self) -> StudyEvidence:
        """The evidence without the trials that a model proposed, for what is said by how trials cover the space.

        A model proposes points where it expects good results: so they crowd an end without being better there, few of
        them are infeasible, and the best of some of them is not that of as many points drawn from the whole space.
        """
        kept = [run for run in self.runs if not (run.plan.suggestion and run.plan.trial_kind == "search")]
        return self if len(kept) == len(self.runs) else replace(self, runs=tuple(kept))

    @cached_property
    def by_setting(self) -> Mapping[int, tuple[Run, ...]]:
        """`searched` by setting, in the order of the settings; empty for a setting without an ended trial."""
        found: dict[int, list[Run]] = {run.plan.setting: [] for run in self.runs}
        for run in self.searched:
            found[run.plan.setting].append(run)
        return {setting: tuple(found[setting]) for setting in sorted(found)}

    @cached_property
    def settings(self) -> Mapping[int, Mapping[str, Scalar]]:
        """The scientific values that make each setting, by its number."""
        return settings_of(self.spec, [run.plan for run in self.runs])

    @cached_property
    def axes(self) -> tuple[HyperparameterAxis, ...]:
        """One for each hyperparameter that varies by itself, in the order of the study."""
        found = []
        for item in self.spec.hyperparameters:
            if item.varies and item.formula is None:
                alternatives = self.spec.alternatives(item.name)
                values = [(run, run.plan.hyperparameters) for run in self.searched]
                runs = [run for run, own in values if item.name in own and active(alternatives, own) is item]
                found.append(_axis(item, runs))
        return tuple(found)

    def setting_name(self, setting: int) -> str:
        """A setting by its scientific values, `optimizer=adam, width=64`; "all trials" where there are none."""
        return named_values(self.settings.get(setting, {})) or "all trials"

    def costs(self, runs: Sequence[Run]) -> Floats:
        """The best values as numbers to minimise, shape [runs]; infinite for infeasible trials, and for those that
        never reached a target.
        """
        return np.array([run.cost(self.objective) for run in runs], dtype=float)

    def ordered_costs(self, runs: Sequence[Run]) -> Floats:
        """Numbers by which tests on ranks compare runs, shape [runs]; only their order has a meaning.

        They are the costs. Trials that never reached a target share one number: more steps than any trial has. So they
        come after all that reached it and before the infeasible ones, whose number is infinite. Those that reached it
        after `known_steps` have the same number: these others may have reached it by then, too.
        """
        costs = self.costs(runs)
        missed = np.array([run.never_reached(self.objective) for run in runs], dtype=bool)
        return np.where(missed | (np.isfinite(costs) & (costs > self.known_steps)), self._beyond, costs)

    @cached_property
    def known_steps(self) -> float:
        """Up to this number of steps it is known of every trial when it reached the target: the fewest that a trial
        trained which never did; infinite without one. Trials differ in length by a warmup that is prepended.

        (A program that ends too early is no reason to compare nothing beyond: `steps-do-not-fit` says that it did.)
        """
        if self.spec.own_code:
            return math.inf
        ends = (run.last_step(self.objective) for run in self.runs if run.never_reached(self.objective))
        return min(ends, default=math.inf)

    @cached_property
    def _beyond(self) -> float:
        return 1.0 + max((run.last_step(self.objective) for run in self.runs), default=0.0)

    @cached_property
    def missed(self) -> tuple[Run, ...]:
        """The searched trials that completed and never reached the objective's target, by id."""
        return tuple(run for run in self.searched if run.never_reached(self.objective))

    def ranked(self, runs: Sequence[Run]) -> list[Run]:
        """The feasible runs that have a value, the best first; of equal ones the smaller id first."""
        feasible = [run for run in runs if np.isfinite(run.cost(self.objective))]
        return sorted(feasible, key=lambda run: (run.cost(self.objective), run.plan.trial))

    def closest_first(self, runs: Sequence[Run]) -> list[Run]:
        """The runs of `ranked`, and after them those that never reached a target, by how close their metric came."""
        missed = [run for run in runs if run.never_reached(self.objective)]
        return [*self.ranked(runs), *sorted(missed, key=self._by_metric)]

    def _by_metric(self, run: Run) -> tuple[float, int]:
        found = run.closest(self.objective)
        return self.objective.metric_rank(found[1] if found else None, run.plan.trial)


@dataclass(frozen=True, eq=False)
class HyperparameterAxis:
    """A hyperparameter that varies and the searched trials in which it is active, by id.

    `values` are those of the trials; `positions`, shape [runs], are their places in the domain on its own scale: 0 is
    the low end of a range and 1 the high end; a value of a set has the middle of its share.
    """

    hyperparameter: Hyperparameter
    runs: tuple[Run, ...]
    values: tuple[Scalar, ...]
    positions: Floats

    @property
    def key(self) -> str:
        """The hyperparameter's name in findings."""
        return self.hyperparameter.key

    def of_setting(self, setting: int) -> NDArray[np.bool_]:
        """Which of the runs belong to a setting, shape [runs]."""
        return np.array([run.plan.setting == setting for run in self.runs], dtype=bool)


def settings_of(spec: StudySpec, trials: Sequence[PlannedTrial]) -> dict[int, Mapping[str, Scalar]]:
    """The scientific values that make each setting of these trials, by its number."""
    names = list(dict.fromkeys(item.name for item in spec.hyperparameters if item.makes_settings))
    found: dict[int, Mapping[str, Scalar]] = {}
    for trial in trials:
        if trial.setting not in found:
            values = trial.hyperparameters
            found[trial.setting] = {name: values[name] for name in names if name in values}
    return dict(sorted(found.items()))


def named_values(values: Mapping[str, Scalar]) -> str:
    """Hyperparameters as `optimizer=adam, width=64`."""
    return ", ".join(f"{name}={as_text(value)}" for name, value in values.items())


def _axis(item: Hyperparameter, runs: Sequence[Run]) -> HyperparameterAxis:
    values = tuple(run.plan.hyperparameters[item.name] for run in runs)
    domain = item.sampled_domain
    positions = np.array([domain.to_unit(value) for value in values], dtype=float)
    return HyperparameterAxis(item, tuple(runs), values, positions)
