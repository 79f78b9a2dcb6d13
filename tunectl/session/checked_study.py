"""A study file that was read, compared with its workload's factory, and reviewed; no code of the user is imported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from tunectl.core import regular_files
from tunectl.core.errors import Problem, StudyError, WorkloadError
from tunectl.core.folders import StudyFolder
from tunectl.core.own_code_request import Program, which
from tunectl.core.records import FactorySignature, WorkloadReference
from tunectl.core.wording import nearest
from tunectl.execution.backends import BACKENDS
from tunectl.language.code_checks import check_code
from tunectl.language.command_checks import check_program
from tunectl.language.configuration import BATCH_SIZE, TrainingConfiguration
from tunectl.language.consumed_names import StudyCode, check_consumption, check_names
from tunectl.language.curvature_cost import CurvatureCost, curvature_cost
from tunectl.language.initialisation_cost import InitialisationCost, initialisation_costs
from tunectl.language.placeholders import names_in
from tunectl.language.planned_checks import check_planned
from tunectl.language.review import Budget, review
from tunectl.language.review_own_code import review_seed
from tunectl.language.stage_checks import check_own_length
from tunectl.language.stage_lengths import last_stage, spec_of
from tunectl.language.statistics_cost import StatisticsCost, statistics_cost
from tunectl.language.study_reader import Draft, read_draft
from tunectl.language.study_spec import StudySpec
from tunectl.session.study_code import find_code, unseen
from tunectl.space.conditions import TooManyCombinationsError, too_many_combinations
from tunectl.space.listed_points import check_count, listed_configurations
from tunectl.space.search_space import SearchSpace, Setting, search_space
from tunectl.workloads.workload_reference import parse_reference, read_signature

FORMULA_POINTS = 256
"""The points at which formulas are computed before a model proposes others."""


@dataclass(frozen=True, slots=True)
class CheckedStudy:
    """A study in which nothing is wrong that can be found without running anything; `warnings` are about its design.

    `messages` are lines about what was found while its workload was loaded, where it was.
    """

    spec: StudySpec
    reference: WorkloadReference
    signature: FactorySignature
    settings: tuple[Setting, ...]
    warnings: tuple[Problem, ...]
    budget: Budget
    messages: tuple[str, ...] = ()

    @property
    def curvature_cost(self) -> CurvatureCost | None:
        """What measuring the curvature is expected to cost, None where it is not measured, or not known."""
        return curvature_cost(self.spec)

    @property
    def statistics_cost(self) -> StatisticsCost | None:
        """What gathering the statistics of batch normalisation is expected to cost, None where it is not asked for."""
        return statistics_cost(self.spec)

    @property
    def initialisation_costs(self) -> tuple[InitialisationCost, ...]:
        """What the procedures before step 0 are expected to cost, one each."""
        return initialisation_costs(self.spec)

    @property
    def unseen(self) -> str:
        """Why the factory's keywords cannot be checked before a run, "" where they were checked."""
        return self.signature.reason if self.signature.open else ""

    @property
    def unseen_code(self) -> list[str]:
        """A line for each optimizer or schedule of the study's own whose parameters cannot be checked before a run."""
        return unseen(self.spec.code)


def check_study(path: Path, current_folder: Path) -> CheckedStudy:
    """Check a study file, also the copy in a study folder; raises StudyError with all problems that were found."""
    draft = None
    if path.name == StudyFolder(path.parent).study.name:
        # Only here, since most files need not import it.
        from tunectl.session.stored_study import stored_draft

        draft = stored_draft(path)
    return check_draft(draft or read_draft(path), current_folder)


def check_draft(draft: Draft, current_folder: Path) -> CheckedStudy:
    """Check a study that was read; raises StudyError with all problems that were found."""
    problems = [*draft.document.problems, *_problems_of_the_backend(draft)]
    try:
        code = {} if draft.own_code is not None else find_code(draft, draft.path, current_folder, problems)
        reference, signature = _read_workload(draft, current_folder, code, problems)
        if draft.spec is None or problems:
            problems += problems_of_the_plan(draft.spec)
            raise StudyError(list(dict.fromkeys(problems)))
        spec = replace(draft.spec, code=code)
        space = search_space(spec)
        counts = _count_trials(spec, space)
        length = check_own_length(spec, _source_of(signature))
        if length:
            raise StudyError(length)
        warnings = review(spec, tuple(setting.values for setting in space.settings), counts)
        warnings += review_seed(spec, _source_of(signature))
    except TooManyCombinationsError:
        raise StudyError([draft.problem(("hyperparameters",), too_many_combinations(), at_key=True)]) from None
    budget = replace(_budget(spec, counts), later=_later_budgets(spec))
    return CheckedStudy(spec, reference, signature, space.settings, tuple(warnings), budget)


def _source_of(signature: FactorySignature) -> str | None:
    """The text of the file with the program or the function; None where it is not known or cannot be read."""
    try:
        return regular_files.text(Path(signature.file), errors="replace") if signature.file else None
    except OSError:
        return None


def _read_workload(
    draft: Draft, current_folder: Path, code: StudyCode, problems: list[Problem]
) -> tuple[WorkloadReference, FactorySignature]:
    """The workload and its factory's signature; appends to `problems` where they are wrong, or do not fit the study."""
    nothing = WorkloadReference(""), FactorySignature(open=True)
    if draft.own_code is not None and draft.own_code.program is not None:
        known = {problem.path for problem in problems}
        found = check_program(draft, draft.own_code.program, all_hyperparameters_read=draft.all_hyperparameters_read)
        problems += [problem for problem in found if problem.path not in known]
        return _read_program(draft, draft.own_code.program, problems)
    is_function = draft.own_code is not None
    text = draft.own_code.text if draft.own_code is not None else draft.workload
    if text is None:
        return nothing
    try:
        reference = parse_reference(text, draft.path, current_folder)
        reference = replace(reference, workload_kind="function") if is_function else reference
        signature = read_signature(reference)
    except (ValueError, WorkloadError) as error:
        problems.append(draft.problem(("workload",), str(error)))
        return nothing
    known = {problem.path for problem in problems}
    if draft.all_hyperparameters_read:
        found = [*check_consumption(draft, signature, is_function=is_function, code=code), *check_code(draft, code)]
    else:
        found = check_names(draft, draft.switches, signature, is_function=is_function, code=code)
    problems += [problem for problem in found if problem.path not in known]
    return reference, signature


def _read_program(
    draft: Draft, program: Program, problems: list[Problem]
) -> tuple[WorkloadReference, FactorySignature]:
    """The program as a reference, and the script that has its code; appends a problem where one is not found."""
    where, folder = ("workload", "command"), Path(program.folder)
    if not folder.is_dir():
        problems.append(draft.problem(("workload", "folder"), f"there is no folder {folder}"))
    texts = [item for item in program.arguments if isinstance(item, str) and not names_in(item)]
    first = program.arguments[0]
    if isinstance(first, str) and first in texts and which(first, folder) is None:
        message = f"there is no program {first!r}, neither on the PATH nor in {folder}"
        problems.append(draft.problem((*where, 0), message))
    script = None
    for index, text in enumerate(program.arguments[1:], start=1):
        # The first Python file is the script; those after it may be made by it.
        if isinstance(text, str) and text in texts and text.endswith(".py"):
            script = folder / text
            if not script.is_file():
                problems.append(draft.problem((*where, index), f"there is no file {script}"))
            break
    file = str(script) if script is not None and script.is_file() else None
    text = draft.own_code.text if draft.own_code else ""
    return WorkloadReference(text, workload_kind="command"), FactorySignature(file=file)


def _problems_of_the_backend(draft: Draft) -> list[Problem]:
    """The problem of a `resources: backend:` that is not the name of a backend."""
    content = draft.document.content
    resources = content.get("resources") if isinstance(content, dict) else None
    name = resources.get("backend") if isinstance(resources, dict) else None
    if not isinstance(name, str) or name in BACKENDS:
        return []
    message = f"expected the name of a backend, got {name!r}{nearest(name, BACKENDS)}"
    return [draft.problem(("resources", "backend"), message)]


def problems_of_the_plan(spec: StudySpec | None) -> list[Problem]:
    """The problems of the trials that a study plans: hand-written points, grids, the number of trials."""
    if spec is None:
        return []
    try:
        _count_trials(spec, search_space(spec))
    except StudyError as error:
        return list(error.problems)
    return []


def check_signature(spec: StudySpec, signature: FactorySignature) -> None:
    """Compare the study with the factory as the backend has imported it; raises StudyError."""
    problems = check_consumption(spec, signature, is_function=spec.workload_kind == "function", code=spec.code)
    if problems:
        raise StudyError(problems)


def _count_trials(spec: StudySpec, space: SearchSpace) -> tuple[int, ...]:
    """The number of trials of each setting; draws no points, which would import numpy, where no formula needs them.

    Raises StudyError where a formula has no value in one of them, or one that does not fit.
    """
    if any(item.formula is not None for item in spec.hyperparameters):
        from tunectl.space.trial_plan import plan_trials

        # Points that a model will propose are not known: it proposes them in the same space.
        is_open = spec.search.sampler == "bayesian"
        sample = replace(spec.search, sampler="halton", trials=FORMULA_POINTS, after="")
        planned = replace(spec, search=sample) if is_open else spec
        problems = check_planned(spec, plan_trials(planned))
        if problems:
            raise StudyError(problems)
    if spec.search.sampler in ("halton", "random", "bayesian"):
        check_count(spec, len(space.settings))
        return (spec.search.trials or 1,) * len(space.settings)
    per_setting = Counter(setting for setting, *_ in listed_configurations(spec, space))
    return tuple(per_setting[setting.index] for setting in space.settings)


def _budget(spec: StudySpec, counts: tuple[int, ...]) -> Budget:
    trials, settings, length = sum(counts), len(counts), spec.training.max_train_steps
    if spec.own_code:
        return Budget(settings, trials, trials * length)
    named = [item for item in spec.hyperparameters if item.name in ("batch_size", "warmup_steps", "warmup")]
    if all(item.name == "batch_size" and not item.varies and not item.when for item in named):
        size = int(named[0].domain.numbers[0]) if named else BATCH_SIZE
        steps = trials * length
        return Budget(settings, trials, steps, steps * size, trials * _evaluations(spec, length))
    # A prepended warmup makes trials longer, each by its own number of steps; planning imports numpy.
    from tunectl.space.trial_plan import typical_trials

    planned = [TrainingConfiguration.from_hyperparameters(trial.hyperparameters) for trial in typical_trials(spec)]
    lengths = [configuration.total_steps(length) for configuration in planned]
    examples = sum(steps * item.batch_size for steps, item in zip(lengths, planned, strict=True))
    return Budget(settings, trials, sum(lengths), examples, sum(_evaluations(spec, steps) for steps in lengths))


def _later_budgets(spec: StudySpec) -> tuple[Budget, ...]:
    """The most that each stage after the first one costs."""
    if not spec.search.promote:
        return ()
    # Planning imports numpy.
    from tunectl.session.promoted_trials import most_promoted
    from tunectl.session.trial_requests import total_steps
    from tunectl.space.trial_plan import typical_trials

    longer, found = most_promoted(spec, typical_trials(spec)), []
    for stage in range(1, last_stage(spec) + 1):
        trials, own = [trial for trial in longer if trial.stage == stage], spec_of(spec, stage)
        lengths = [total_steps(spec, trial) for trial in trials]
        settings = len({trial.setting for trial in trials})
        if spec.own_code:
            found.append(Budget(settings, len(trials), sum(lengths)))
            continue
        sizes = [TrainingConfiguration.from_hyperparameters(trial.hyperparameters).batch_size for trial in trials]
        examples = sum(steps * size for steps, size in zip(lengths, sizes, strict=True))
        evaluations = sum(_evaluations(own, steps) for steps in lengths)
        found.append(Budget(settings, len(trials), sum(lengths), examples, evaluations))
    return tuple(found)


def _evaluations(spec: StudySpec, steps: int) -> int:
    """The evaluations of a trial: at step 0, every eval_every steps, and after the last one."""
    return 1 - (-steps // spec.training.eval_every)
