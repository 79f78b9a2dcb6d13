"""Warnings about a study of own code: metrics that are probably not printed, keys and seeds that are not used."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Collection

from tunectl.core.errors import Problem
from tunectl.core.installation import install_command
from tunectl.core.own_code_request import RESUME, TRAINING_LOSS, Optional, Program
from tunectl.core.wording import nearest
from tunectl.language.study_spec import StudySpec

_SEEDS = ("trial.seed", "trial.hyperparameters")
_SEED_VARIABLES = ("TUNECTL_TRIAL_SEED", "TUNECTL_TRIAL_HYPERPARAMETERS")
_SEEDING = re.compile(
    r"\b(?:manual_seed|seed|seed_all|seed_everything|set_seed|default_rng|RandomState|Random|PRNGKey)\("
)


def review_own_code(spec: StudySpec) -> list[Problem]:
    """The warnings, in no order."""
    return [
        *_unnamed_objective(spec),
        *_unused_recovery(spec),
        *_missing_package(spec),
        *_unused_resume(spec),
        *_unused_baseline(spec),
    ]


def _unnamed_objective(spec: StudySpec) -> list[Problem]:
    sources = spec.program.sources if spec.program is not None else ()
    if not sources or any(item.source_kind != "regex" for item in sources):
        return []
    named = {name for item in sources for name in item.named()}
    metric = spec.objective.metric
    if metric in named:
        return []
    message = (
        f"no expression under workload.metrics names {metric}{nearest(metric, sorted(named))}; unless the program "
        "calls tunectl.record with it, every trial will fail"
    )
    return [spec.problem(("objective", "metric"), message)]


def _unused_recovery(spec: StudySpec) -> list[Problem]:
    if spec.training.recovery is None:
        return []
    message = (
        f"only tunectl's own training loop has recovery, and a {spec.workload_kind} trains by itself; leave it out"
    )
    return [spec.problem(("training", "recovery"), message, at_key=True)]


def _unused_resume(spec: StudySpec) -> list[Problem]:
    program = spec.program
    if program is None or not program.takes_resume:
        return []
    if program.checkpoints is None:
        message = f"the command takes {RESUME}, but it is not known where the program saves; add checkpoints"
        return [spec.problem(("workload", "command"), message, at_key=True)]
    if program.checkpoints.is_one and program.counts_steps:
        message = (
            "a trial is resumed at the step of its checkpoint, and neither a path without {step} nor metrics without a "
            "step show which one that is: such a trial will start again from the beginning; read a step with the "
            "metrics, or put {step} into the path"
        )
        return [spec.problem(("workload", "checkpoints"), message)]
    return []


def _unused_baseline(spec: StudySpec) -> list[Problem]:
    """A baseline_loss without a training loss, where it is known what the program prints."""
    sources = spec.program.sources if spec.program is not None else ()
    named = sorted({name for item in sources for name in item.named()})
    is_known = bool(sources) and all(item.source_kind == "regex" for item in sources)
    if spec.baseline_loss is None or not is_known or TRAINING_LOSS in named:
        return []
    message = (
        f"baseline_loss is compared with {TRAINING_LOSS}, which no expression under workload.metrics names"
        f"{nearest(TRAINING_LOSS, named)}; call its group train__loss, or rename it with names"
    )
    return [spec.problem(("workload", "baseline_loss"), message)]


def _missing_package(spec: StudySpec) -> list[Problem]:
    sources = spec.program.sources if spec.program is not None else ()
    if (
        all(item.source_kind != "tensorboard" for item in sources)
        or importlib.util.find_spec("tensorboard") is not None
    ):
        return []
    message = f"metrics from TensorBoard's files need the package tensorboard: {install_command('tensorboard')}"
    return [spec.problem(("workload", "metrics"), message, at_key=True)]


def review_seed(spec: StudySpec, source: str | None) -> list[Problem]:
    """A warning where nothing shows that the program uses the seed of its trial.

    `source` is the text of the program's file, None where that is not known. When a function is called, torch, NumPy
    and random are seeded already, so that it needs `trial.seed` only where it seeds something itself.
    """
    if not spec.own_code:
        return []
    variables = any(name in (source or "") for name in _SEED_VARIABLES)
    if spec.program is None:
        if (
            source is None
            or variables
            or reads_of_trial(source, spec.workload, ("seed", "hyperparameters"))
            or not _SEEDING.search(source)
        ):
            return []
        found, right = (
            "the function's file seeds something itself without trial.seed",
            "seed it with trial.seed",
        )
    elif variables or any(name in text for text in program_texts(spec.program) for name in _seed_words()):
        return []
    else:
        unseen = "" if source is not None else " (the program's own file was not found)"
        found = f"neither the command nor its environment nor the program's file names the trial's seed{unseen}"
        right = "pass {trial.seed} to an option for the seed, or read TUNECTL_TRIAL_SEED in the program"
    message = (
        f"{found}: if every trial trains with the same seed, repeats do not show how much is luck, and `retrain` and "
        f"`compare` have nothing to compare; {right}"
    )
    return [spec.problem(("workload",), message, at_key=True)]


def reads_of_trial(source: str, workload: str, attributes: Collection[str]) -> bool:
    """Whether the function uses one of these attributes of its first parameter, or passes that parameter on."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return True  # no warning about what cannot be read
    name = workload.rpartition(":")[2]
    defined = [item for item in ast.walk(tree) if isinstance(item, ast.FunctionDef) and item.name == name]
    if not defined:
        return True
    arguments = [*defined[0].args.posonlyargs, *defined[0].args.args]
    trial = arguments[0].arg if arguments else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in attributes:
            if isinstance(node.value, ast.Name) and node.value.id == trial:
                return True
        elif isinstance(node, ast.Call) and any(
            isinstance(given, ast.Name) and given.id == trial for given in node.args
        ):
            return True
    return False


def _seed_words() -> list[str]:
    return [*(f"{{{name}}}" for name in _SEEDS), *_SEED_VARIABLES]


def program_texts(program: Program) -> list[str]:
    """Every text that the program gets: its arguments and the values of its environment."""
    found = list(program.environment.values())
    for argument in program.arguments:
        found += argument.arguments if isinstance(argument, Optional) else [argument]
    return found
