"""The request to a procedure, and the study that it is compared with: base configuration, recipe, own code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic

from tunectl.core import regular_files
from tunectl.core.errors import StudyError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.path_errors import path_error
from tunectl.core.records import FactorySignature, PlannedTrial, Scalar
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.core.wording import as_text
from tunectl.language.configuration import FIELDS
from tunectl.language.placeholders import names_in
from tunectl.language.study_spec import StudySpec
from tunectl.procedures.procedure import Options, Options_co, Procedure, SweepSetting, SweepSpec
from tunectl.session.base_configuration import base_configuration
from tunectl.session.checked_study import CheckedStudy
from tunectl.session.swept_formulas import left_out, refuse_formulas
from tunectl.space.derived_values import range_of
from tunectl.space.domains import Derived, Domain, is_number, same
from tunectl.space.hyperparameters import active
from tunectl.space.search_space import search_space
from tunectl.space.trial_plan import typical_trials


@dataclass(frozen=True)
class ProcedureRequest(Generic[Options_co]):
    """The request to a procedure: its own options, and values for the hyperparameters that vary in the study.

    `values` are those that the user names, `trial_values` those of a finished trial, which hold for all other names.
    `before` is the folder of the procedure from whose conclusion this one starts (`--from`).
    """

    options: Options_co
    values: Mapping[str, Scalar]
    before: Path | None = None
    trial_values: Mapping[str, Scalar] = field(default_factory=dict)


def checked_sweep(
    procedure: Procedure[Options], checked: CheckedStudy, request: ProcedureRequest[Options]
) -> SweepSpec[Options]:
    """The base configuration and options of a procedure for a study; raises UsageError where they do not fit."""
    if checked.spec.own_code:
        _check_own_code(procedure, checked.spec)
    devices = checked.spec.resources.devices_per_trial
    if procedure.one_at_a_time and devices > 1 and not checked.spec.own_code:
        message = f"expected 1 for {procedure.name}, which times training on one device, got {devices}"
        raise StudyError([checked.spec.problem(("resources", "devices_per_trial"), message)])
    sweep = sweep_spec(procedure, checked.spec, request, checked.signature)
    wrong = procedure.problems(sweep)
    if wrong:
        raise UsageError("\n".join(f"{procedure.name}: {line}" for line in wrong))
    return sweep


def sweep_spec(
    procedure: Procedure[Options],
    spec: StudySpec,
    request: ProcedureRequest[Options],
    signature: FactorySignature | None = None,
) -> SweepSpec[Options]:
    """The base configuration and options of a procedure.

    `signature` is that of the factory, None where it is not known. Raises UsageError where a hyperparameter has no
    value, or where the study has no place for part of the recipe in `before`.
    """
    before = _conclusion_of(request.before) if request.before is not None else {}
    recipe = before["recipe"] if isinstance(before.get("recipe"), dict) else {}
    _check_recipe(procedure, spec, recipe, signature)
    swept = procedure.swept | (recipe.keys() & set(spec.names)) | _tuned(procedure, spec, request)
    refuse_formulas(procedure, spec)
    base = partial(
        base_configuration,
        spec,
        swept,
        procedure=procedure.name,
        trial_values=request.trial_values,
        left_out=left_out(spec, swept, signature, request.values),
    )
    settings = _settings(procedure, spec, swept, request, base)
    values = settings[0].values if settings else base(request.values)
    return SweepSpec(
        values=values,
        objective=spec.objective.by_metric,
        max_train_steps=spec.training.max_train_steps,
        eval_every=spec.training.eval_every,
        off={item.name: item.off for item in spec.hyperparameters if item.off is not None and item.name in values},
        learning_rates=_learning_rates(spec, values),
        init_scale=_init_scale(spec, values, signature),
        options=request.options,
        before=before,
        own_code=spec.own_code,
        train_examples=spec.training.train_examples,
        curvature=spec.training.curvature,
        settings=settings,
        batch_sizes=_range(spec, "batch_size", values),
        target=spec.objective.steps_to,
    )


def _tuned(procedure: Procedure[Any], spec: StudySpec, request: ProcedureRequest[Any]) -> frozenset[str]:
    """The hyperparameters that a study samples and a procedure tunes, without those to which the user gives a value."""
    if not procedure.tunes_all:
        return frozenset()
    sampled = {item.name for item in spec.hyperparameters if item.has_coordinate}
    return frozenset(sampled - request.values.keys() - request.trial_values.keys())


def _settings(
    procedure: Procedure[Any],
    spec: StudySpec,
    swept: frozenset[str],
    request: ProcedureRequest[Any],
    base: Callable[[Mapping[str, Scalar]], dict[str, Scalar]],
) -> tuple[SweepSetting, ...]:
    """The settings of the study that agree with the values that the user names; () where the procedure covers one.

    `base` gives the base configuration with values of the user.

    Settings that differ only in what the procedure sweeps are one. A finished trial gives values of the other
    hyperparameters alone. Raises UsageError as `base_configuration` does, and where no setting agrees.
    """
    if not procedure.all_settings:
        return ()
    found: list[SweepSetting] = []
    points = _points(procedure, spec, swept, request)
    for setting in search_space(spec).settings:
        own = {name: value for name, value in setting.values.items() if name not in swept}
        named = request.values.items()
        if any(name in own and not same(value, own[name]) for name, value in named):
            continue
        values = base({**request.values, **own})
        if not any(values == other.values for other in found):
            name = ", ".join(f"{name} {as_text(value)}" for name, value in own.items())
            found.append(SweepSetting(name, values, _learning_rates(spec, values), points.get(setting.index, ())))
    if not found:
        listed = ", ".join(f"{name}={as_text(value)}" for name, value in request.values.items())
        raise UsageError(f"{procedure.name}: --at {listed}: no setting of {spec.label} has these values")
    return tuple(found)


def _points(
    procedure: Procedure[Any], spec: StudySpec, swept: frozenset[str], request: ProcedureRequest[Any]
) -> dict[int, list[dict[str, Scalar]]]:
    """What the study samples in each setting, for a procedure that tunes all of it; {} where it sets all of it itself.

    `--points` replaces the number of trials of a sampler that has one.
    """
    tuned = _tuned(procedure, spec, request)
    if not tuned - procedure.swept:
        return {}
    count = getattr(request.options, "points", None)
    if count is not None and spec.search.sampler in ("halton", "random", "bayesian"):
        spec = replace(spec, search=replace(spec.search, trials=max(1, count)))
    found: dict[int, list[dict[str, Scalar]]] = {}
    for trial in typical_trials(spec):
        # A batch size is set by the procedure, and a set of values that makes settings is in the setting.
        point = {name: value for name, value in trial.hyperparameters.items() if name in tuned and name in swept}
        found.setdefault(trial.setting, []).append(point)
    return found


def _learning_rates(spec: StudySpec, values: Mapping[str, Scalar]) -> tuple[float, float] | None:
    """The study's own range of the learning rate in a configuration, None where it has none."""
    return _range(spec, "learning_rate", values)


def _range(spec: StudySpec, name: str, values: Mapping[str, Scalar]) -> tuple[float, float] | None:
    """The study's own range of a hyperparameter that has no value in a configuration, None where it has none."""
    item = active(spec.alternatives(name), values)
    if item is None or name in values:
        return None
    domain = item.domain
    if isinstance(domain, Derived):  # what the formula gives with the values that are known
        known = {key: [float(value)] for key, value in values.items() if is_number(value)}
        places = [known.get(key) or _numbers(spec, key) for key in domain.formula.names]
        return _ends(replace(domain, numbers=range_of(domain, places)))
    return _ends(domain)


def _numbers(spec: StudySpec, name: str) -> list[float]:
    return [number for item in spec.alternatives(name) for number in item.domain.numbers]


def _check_recipe(
    procedure: Procedure[Any], spec: StudySpec, recipe: Mapping[str, Any], signature: FactorySignature | None
) -> None:
    """Raise UsageError where the study does not have all names of a recipe."""
    known = {*spec.names, *(() if spec.own_code else FIELDS), *(signature.parameters if signature is not None else ())}
    unknown = [name for name in recipe if name not in known]
    if unknown:
        raise UsageError(
            f"{procedure.name}: --from: its recipe sets {', '.join(unknown)}, and {spec.label} has no such name"
        )


def _init_scale(spec: StudySpec, values: Mapping[str, Scalar], signature: FactorySignature | None) -> float | None:
    """The scale of the initial weights: the study's, or the default of the factory's keyword."""
    known = values.get("init_scale")
    if known is None and "init_scale" not in spec.names and signature is not None and not spec.own_code:
        known = signature.defaults.get("init_scale")
    return float(known) if isinstance(known, (int, float)) and not isinstance(known, bool) and known > 0 else None


def _ends(domain: Domain) -> tuple[float, float] | None:
    """The lowest and the highest value of a hyperparameter that varies over numbers."""
    numbers = domain.numbers
    return (min(numbers), max(numbers)) if domain.is_ordered or len(set(numbers)) > 1 else None


def _check_own_code(procedure: Procedure[Any], spec: StudySpec) -> None:
    """Raise UsageError with all hyperparameters and metrics that the procedure needs and a study of own code lacks."""
    needs = procedure.own_code
    if needs is None:
        raise UsageError(
            f"{procedure.name}: works only in tunectl's own training loop, "
            f"and {spec.label} trains by a {spec.workload_kind}"
        )
    missing = [f"a hyperparameter {name}" for name in needs.hyperparameters if name not in spec.names]
    known = _declared_metrics(spec)
    if known is not None:
        missing += [f"a metric {name}" for name in needs.metrics if name not in known]
    if missing:
        raise UsageError(
            f"{procedure.name}: {spec.label} lacks {', '.join(missing)}; declare what is missing, and let the "
            f"{spec.workload_kind} use it or print it"
        )


def _declared_metrics(spec: StudySpec) -> set[str] | None:
    """The metrics in the expressions of a command, None where it may print others, too."""
    sources = spec.program.sources if spec.program is not None else ()
    if not sources or any(item.source_kind != "regex" for item in sources):
        return None
    return {name for item in sources for name in item.named()}


def check_arguments(procedure: Procedure[Any], spec: StudySpec, trials: Sequence[PlannedTrial]) -> None:
    """Raise UsageError where the command needs a hyperparameter that the procedure's first trials do not have."""
    for argument in spec.program.arguments if spec.program is not None else ():
        for name in names_in(argument) if isinstance(argument, str) else ():
            if name in spec.names and any(name not in trial.hyperparameters for trial in trials):
                raise UsageError(
                    f"{procedure.name}: runs trials without {name}, and the command of {spec.label} always has it: "
                    f'put it, with its option, into a list, which is left out in these trials: ["{argument}"]'
                )


def _conclusion_of(place: Path) -> dict[str, Any]:
    path = StudyFolder(place).conclusion
    try:
        return sealed_object(regular_files.content(path))
    except FileNotFoundError:
        raise UsageError(
            f"--from {place}: expected the folder of a procedure that has ended; there is no {path.name}"
        ) from None
    except (OSError, DamagedError) as error:
        raise path_error(path, "read", error) from error
