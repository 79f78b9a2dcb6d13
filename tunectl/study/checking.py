"""`check`: a study file read, compared with its workload's factory, and reviewed, without importing anything of the
user's.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tunectl.core.errors import Problem, StudyError, WorkloadError
from tunectl.core.records import FactorySignature, WorkloadReference
from tunectl.sampling.listed import check_count, listed_configurations
from tunectl.sampling.space import SearchSpace, Setting, search_space
from tunectl.spec.conditions import TooManyWorldsError, too_many_worlds
from tunectl.spec.configuration import TrainingConfiguration
from tunectl.spec.consumption import check_consumption, check_names
from tunectl.spec.model import StudySpec
from tunectl.spec.reading import Draft, draft_study
from tunectl.spec.review import Budget, review
from tunectl.workloads.reference import parse_reference, read_signature


@dataclass(frozen=True, slots=True)
class CheckedStudy:
    """A study that can be run as far as can be seen without running anything.

    `warnings` are about its design.
    """

    spec: StudySpec
    reference: WorkloadReference
    signature: FactorySignature
    settings: tuple[Setting, ...]
    warnings: tuple[Problem, ...]
    budget: Budget

    @property
    def unseen(self) -> str:
        """Why the factory's keywords are checked at run only, "" where they were checked."""
        return self.signature.reason if self.signature.open else ""


def check_study(path: Path, current_folder: Path) -> CheckedStudy:
    """Check a study file. Raises StudyError with every problem that was found."""
    draft = draft_study(path)
    problems = list(draft.document.problems)
    try:
        reference, signature = _look_at_workload(draft, current_folder, problems)
        if draft.spec is None or problems:
            problems += _problems_of_the_plan(draft.spec)
            raise StudyError(list(dict.fromkeys(problems)))
        space = search_space(draft.spec)
        counts = _count_trials(draft.spec, space)
        warnings = review(draft.spec, tuple(setting.values for setting in space.settings), counts)
    except TooManyWorldsError:
        raise StudyError([draft.problem(("hyperparameters",), too_many_worlds(), at_key=True)]) from None
    budget = _budget(draft.spec, counts)
    return CheckedStudy(draft.spec, reference, signature, space.settings, tuple(warnings), budget)


def _look_at_workload(
    draft: Draft, current_folder: Path, problems: list[Problem]
) -> tuple[WorkloadReference, FactorySignature]:
    """The workload and its factory's signature; what is wrong with them, or between them and the study, is added."""
    nothing = WorkloadReference("", ""), FactorySignature(open=True)
    if draft.workload is None:
        return nothing
    try:
        reference = parse_reference(draft.workload, draft.path, current_folder)
        signature = read_signature(reference)
    except (ValueError, WorkloadError) as error:
        problems.append(draft.problem(("workload",), str(error)))
        return nothing
    told = {problem.path for problem in problems}
    found = check_consumption(draft, signature) if draft.unbroken else check_names(draft, draft.switches, signature)
    problems += [problem for problem in found if problem.path not in told]
    return reference, signature


def _problems_of_the_plan(spec: StudySpec | None) -> list[Problem]:
    """What is wrong with the trials that a study asks for: hand-written points, grids, sizes."""
    if spec is None:
        return []
    try:
        _count_trials(spec, search_space(spec))
    except StudyError as error:
        return list(error.problems)
    return []


def check_signature(spec: StudySpec, signature: FactorySignature) -> None:
    """Compare the study with the factory as it was found at run. Raises StudyError."""
    problems = check_consumption(spec, signature)
    if problems:
        raise StudyError(problems)


def _count_trials(spec: StudySpec, space: SearchSpace) -> tuple[int, ...]:
    """The number of trials of each setting, without drawing points: that would load numpy."""
    if spec.search.sampler in ("halton", "random"):
        check_count(spec, len(space.settings))
        return (spec.search.trials or 1,) * len(space.settings)
    per_setting = Counter(setting for setting, *_ in listed_configurations(spec, space))
    return tuple(per_setting[setting.index] for setting in space.settings)


def _budget(spec: StudySpec, counts: tuple[int, ...]) -> Budget:
    steps = sum(counts) * spec.training.max_train_steps
    if any(item.name in ("warmup_steps", "warmup") for item in spec.hyperparameters):
        # A prepended warmup makes trials longer, each by its own number of steps.
        from tunectl.sampling.plan import plan_trials

        trials = [TrainingConfiguration.from_hyperparameters(trial.hyperparameters) for trial in plan_trials(spec)]
        steps = sum(configuration.total_steps(spec.training.max_train_steps) for configuration in trials)
    return Budget(len(counts), sum(counts), steps)
