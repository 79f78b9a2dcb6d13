"""The two ways of `bench_advice.py` to go on from a study: tunectl's own advice, and Optuna's TPE."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunectl.core import typed_fields
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.measurements import TrialSeconds
from tunectl.core.records import PlannedTrial, Scalar, TrialOutcome, TrialRequest, TrialResult
from tunectl.language.study_edit import with_value
from tunectl.session.checked_study import CheckedStudy, check_study
from tunectl.session.snapshot import study_snapshot
from tunectl.session.trial_requests import trial_request
from tunectl.space.domains import FixedValue, Range, ValueSet
from tunectl.space.search_space import search_space
from tunectl.space.trial_plan import trial_seed
from tunectl.store.trial_files import write_request

ROUNDS = 4
"""At most this many studies in a row follow the advice."""

FEWEST_TRIALS = 8
"""A round of fewer trials in each setting is not begun."""

WORST = 1.0
"""The error rate that TPE is given for a trial that could not train."""


@dataclass(frozen=True)
class Reached:
    """What an arm reached: the updates that it used, its trials, and the errors of the trial that it selected."""

    updates: int
    trials: int
    valid_error: float
    test_error: float
    rounds: int = 1

    def to_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return dict(vars(self))


def advice(text: str, name: str, most_updates: int) -> Reached:
    """Run a study, and as long as `tunectl next` writes another one and there are updates left, that one too.

    Where a round would take more updates than there are left, it has fewer trials.
    """
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        study, rounds, outcomes = folder / f"{name}.yaml", 0, list[tuple[TrialFolder, TrialOutcome]]()
        study.write_text(text)
        while study is not None and rounds < ROUNDS and _fits(study, most_updates - _updates(outcomes)):
            place = folder / "runs" / study.stem
            _tunectl(folder, "run", str(study), "--dir", str(place), "--slots", "1", "--quiet")
            outcomes += _outcomes(place)
            rounds += 1
            said = json.loads(_tunectl(folder, "next", str(place), "--json"))
            study = None if said["file"] is None else folder / said["file"]
        home_of, best = min(outcomes, key=lambda pair: _error(pair[1]))
        return Reached(_updates(outcomes), len(outcomes), _error(best), _test_error(home_of, best), rounds)


def tpe(text: str, name: str, updates: int, seed: int) -> Reached:
    """Search the study's own space by TPE, until as many updates are used."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as home:
        study = Path(home) / f"{name}.yaml"
        study.write_text(text)
        checked = check_study(study, Path(home))
        # n_startup_trials: the library's own default of 10.
        search = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        used, results = 0, list[tuple[TrialFolder, TrialResult, float]]()
        while used < updates:
            asked = search.ask()
            number = len(results)
            values = _suggested(checked, asked)
            folder = TrialFolder(Path(home) / "runs" / "trials" / f"{number:05d}")
            plan = PlannedTrial(number, 0, number, 0, (), values, trial_seed(seed, number))
            result, error = _trained(checked, plan, folder)
            used += max(result.final_step or result.infeasible_step or 0, 1)
            search.tell(asked, error)
            results.append((folder, result, error))
        best = min(results, key=lambda item: item[2])
        return Reached(used, len(results), best[2], _tested(best[0]))


def _tunectl(folder: Path, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "tunectl", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if ended.returncode not in (0, 1):  # 1: some trials failed
        raise RuntimeError(f"tunectl {' '.join(words)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def _outcomes(place: Path) -> list[tuple[TrialFolder, TrialOutcome]]:
    with study_snapshot(place) as study:
        return [(StudyFolder(place).trial(item.plan.trial), item) for item in study.outcomes]


def _updates(outcomes: Sequence[tuple[TrialFolder, TrialOutcome]]) -> int:
    """The updates that trials made, the infeasible ones until they ended."""
    return sum(item.final_step or item.infeasible_step or 0 for _, item in outcomes)


def _fits(study: Path, updates: int) -> bool:
    """Whether a study needs no more updates; where fewer trials do so, its file gets these."""
    spec = check_study(study, study.parent).spec
    trials = updates // (spec.training.max_train_steps * len(search_space(spec).settings))
    if trials < min(FEWEST_TRIALS, spec.search.trials or 1):
        return False
    if trials < (spec.search.trials or 1):
        study.write_text(with_value(study.read_text(), ("search", "trials"), trials))
    return True


def _error(item: TrialOutcome) -> float:
    return item.best_value if item.state == "completed" and item.best_value is not None else math.inf


def _test_error(folder: TrialFolder, item: TrialOutcome) -> float:
    return WORST if item.best_checkpoint is None else _tested(folder)


def _suggested(checked: CheckedStudy, asked: Any) -> dict[str, Scalar]:
    """The values that TPE suggests for the hyperparameters that are active."""
    space = search_space(checked.spec)
    setting = space.settings[asked.suggest_int("setting", 0, len(space.settings) - 1) if len(space.settings) > 1 else 0]

    def choose(item: Any) -> Scalar:
        return _value(asked, item.key, item.domain)

    return space.resolve(setting, choose)


def _value(asked: Any, key: str, domain: FixedValue | ValueSet | Range) -> Scalar:
    if isinstance(domain, FixedValue):
        return domain.value
    if isinstance(domain, ValueSet):
        return domain.values[asked.suggest_int(key, 0, len(domain.values) - 1)]
    if domain.scale == "one_minus_log":
        return float(1 - asked.suggest_float(key, 1 - domain.high, 1 - domain.low, log=True))
    suggest: Callable[..., Any] = asked.suggest_int if domain.integer else asked.suggest_float
    found: Scalar = suggest(key, domain.low, domain.high, log=domain.scale == "log")
    return found


def _trained(checked: CheckedStudy, plan: PlannedTrial, folder: TrialFolder) -> tuple[TrialResult, float]:
    """A trial by tunectl's own loop in this process, and its best error; WORST where it is infeasible."""
    from tunectl.training.trial import run_trial
    from tunectl.workloads.workload_import import load_factory

    request = trial_request(checked.spec, checked.reference, checked.signature, plan)
    assert isinstance(request, TrialRequest)
    folder.study.mkdir(exist_ok=True)
    write_request(folder, request)
    seconds = TrialSeconds()
    factory = load_factory(checked.reference)
    result = run_trial(request, folder, factory, device="cpu", stop=lambda: False, seconds=seconds)
    assert result is not None
    values = [json.loads(line) for line in folder.measurements.read_text().splitlines()]
    errors = [line["metrics"].get("valid/error_rate", math.nan) for line in values if line["step"]]
    feasible = [error for error in errors if error is not None and math.isfinite(error)]
    return result, min(feasible) if result.state == "completed" and feasible else WORST


def _tested(folder: TrialFolder) -> float:
    """The error rate of a trial's best checkpoint on the test split."""
    import torch

    from tunectl.training.built_workload import build_workload
    from tunectl.training.checkpoints import load
    from tunectl.workloads.workload_import import load_factory

    request = TrialRequest.from_json(typed_fields.sealed_object(folder.request.read_bytes()))
    (path,) = sorted(folder.checkpoints.glob("step-*.pt"))[-1:]
    workload = build_workload(load_factory(request.workload), request, torch.device("cpu"))
    workload.model.load_state_dict(load(path)["model"])
    workload.model.eval()
    inputs, labels = workload.data["test"].tensors  # type: ignore[attr-defined]
    with torch.no_grad():
        wrong = workload.model(inputs).argmax(dim=1) != labels
    return float(wrong.double().mean())
