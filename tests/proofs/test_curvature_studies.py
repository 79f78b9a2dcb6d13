"""scripts/curvature_studies.py: what each study of curvature says of trials that show it, and of trials that do not.

Tests scripts/curvature_studies.py, curvature_answers.py and curvature_trials.py. The trials are made up.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tunectl.analysis.figures.figures import CurvesFigure, PointsFigure
from tunectl.core.measurement_kinds import CURVATURE, INITIALISATION
from tunectl.core.measurements import Measurement
from tunectl.language.study_reader import load_study
from tunectl.report.parquet import parquet_bytes
from tunectl.report.plots import vega_lite
from tunectl.report.trial_tables import measurements_table

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "curvature_studies.py"
STUDIES = ROOT / "studies" / "curvature"
NAMES = sorted(path.stem for path in STUDIES.glob("*.yaml"))
SEEDS = range(3)
STEPS = range(0, 401, 20)

Ratio = Callable[[float], float]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("curvature_answers")


def settings(name: str) -> list[dict[str, Any]]:
    """The hyperparameters of the settings of a study, each with its own learning rate."""
    spaces: dict[str, list[dict[str, list[Any]]]] = {
        "init_scale": [{"normalization": ["none", "batch"], "init_scale": [0.5, 1, 2], "learning_rate": [0.02]}],
        "warmup": [{"warmup_steps": [0, 50, 200], "learning_rate": [0.2]}],
        "rate_decides": [{"init_scale": [0.5, 1.5], "learning_rate": [0.05, 0.4]}],
        "batch_size": [{"batch_size": [8, 64, 1197], "learning_rate": [0.3]}],
        "adam": [{"learning_rate": [0.01, 0.02], "warmup_steps": [0, 200]}],
        "momentum": [
            {"optimizer": ["sgd"], "momentum": [None], "learning_rate": [2 / 30]},
            {"optimizer": ["momentum"], "momentum": [0.9], "learning_rate": [3.8 / 30]},
        ],
        "leaves_stable_region": [{"learning_rate": [0.5, 2], "warmup_steps": [0]}],
    }
    return [
        dict(zip(space, values, strict=True)) for space in spaces[name] for values in itertools.product(*space.values())
    ]


def made(values: dict[str, Any], number: int, ratio: Ratio, diverges_at: int | None = None) -> Any:
    """A trial whose ratio is this function of the part of training that is over."""
    trials = importlib.import_module("curvature_trials")
    metrics = [metric.name for metric in CURVATURE.metrics]
    bound = 30.0 if "optimizer" in values else 2 / values["learning_rate"]
    measured = []
    for step in STEPS:
        if diverges_at is None or step <= diverges_at:
            at = ratio(step / STEPS[-1])
            item = dict.fromkeys(metrics, math.nan) | {"step": float(step), "ratio": at, "bound": bound}
            measured.append(
                item
                | {
                    "lambda_1": at * bound,
                    "preconditioned_lambda_1": at * bound,
                    "converged": 1.0,
                    "gradient_quotient": at,
                }
            )
    last = STEPS[-1] if diverges_at is None else diverges_at
    return trials.MeasuredTrial(number, values, diverges_at is not None, last, measured)


def at_the_line(values: dict[str, Any]) -> tuple[Ratio, int | None]:
    """What the paper reports: the ratio by time, and the step at which training breaks down."""
    scale, start = values.get("init_scale", 1), 0.2
    if "normalization" in values:
        start = 0.3 * scale**6 if values["normalization"] == "none" else 0.5 / scale
        return lambda at: start + at * (1 - start), 20 if start > 6 else None
    if values["learning_rate"] == 0.2:
        return (lambda _at: 1.2, None) if values["warmup_steps"] else (lambda _at: 20.0, 20)
    if values["learning_rate"] == 2:
        return lambda at: 0.2 + 50 * at, 60
    if "batch_size" in values:
        end = {8: 0.4, 64: 0.7, 1197: 1.0}[values["batch_size"]]
        return lambda at: start + min(1, 2 * at) * (end - start), None
    start = 50.0 if scale > 1 else start
    return lambda at: start + min(1, 3 * at) * (1 - start), None


def elsewhere(values: dict[str, Any]) -> tuple[Ratio, int | None]:
    """What the paper does not report: λ1 stays above the line, also where training goes on."""
    return lambda _at: 4.0, 60 if values.get("learning_rate") == 2 else None


def trials_of(name: str, like: Callable[[dict[str, Any]], tuple[Ratio, int | None]]) -> Sequence[Any]:
    chosen = itertools.product(settings(name), SEEDS)
    return [made(values, number, *like(values)) for number, (values, _) in enumerate(chosen)]


def test_trials_are_read_from_the_tables_of_a_study(scripts: Any, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    lines = {
        0: [
            CURVATURE.measurement(10, {"lambda_1": 3.0, "converged": 0.0}, 1.0),
            Measurement(0, {"train/loss": 1.0}),
            CURVATURE.measurement(0, {"lambda_1": 2.0, "converged": 1.0, "bound": 4.0}, 0.5),
            INITIALISATION.measurement(3, {"lambda_1": 9.0}, 0.2),
        ],
        1: [CURVATURE.measurement(0, {"lambda_1": 7.0}, 0.5)],
        2: [],
    }
    (tmp_path / "tables" / "measurements.parquet").write_bytes(parquet_bytes(measurements_table(lines.items())))
    ends = {"trial": [0, 1, 2], "state": ["infeasible", "completed", "failed"], "momentum": [0.9, None, 0.5]}
    steps = {"infeasible_step": [13, None, None], "final_step": [10, 20, None]}
    pyarrow.parquet.write_table(pyarrow.table(ends | steps), tmp_path / "tables" / "trials.parquet")
    module = importlib.import_module("curvature_trials")
    first, second = module.read_trials(tmp_path)
    assert [item["step"] for item in first.measured] == [0, 10]
    assert first.values("lambda_1") == [2, 3]
    assert first.values("lambda_1", 0.5) == [3]
    assert first.values("bound") == [4]
    assert math.isnan(first.measured[1]["bound"])
    assert [(item["step"], item["lambda_1"]) for item in first.initialising] == [(3, 9)]
    assert (first.evaluated, second.evaluated) == ([{"step": 0, "train/loss": 1}], [])
    assert (first.diverged, first.last_step, first.hyperparameters["momentum"]) == (True, 13, 0.9)
    assert (second.diverged, second.last_step, second.hyperparameters["momentum"]) == (False, 20, None)
    assert module.unconverged([first, second]) == (1, 2)


def test_each_study_has_its_answer(scripts: Any) -> None:
    assert sorted(scripts.ANSWERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_study_is_valid_measures_curvature_and_has_five_seeds(name: str) -> None:
    spec = load_study(STUDIES / f"{name}.yaml")
    assert spec.name == f"curvature-{name.replace('_', '-')}"
    assert spec.training.curvature is not None
    assert spec.search.trials == 5


@pytest.mark.parametrize("name", NAMES)
def test_what_the_paper_reports_is_seen_where_it_is(scripts: Any, name: str) -> None:
    answer = scripts.ANSWERS[name](trials_of(name, at_the_line))
    assert answer.seen, answer.sentence
    assert answer.sentence.startswith("To be seen: ")
    assert ". Seen: " in answer.sentence
    assert "nan" not in answer.sentence
    assert {len(row) for row in answer.table} == {len(answer.table[0])}
    assert isinstance(answer.figure, PointsFigure | CurvesFigure)
    assert vega_lite(answer.figure)["layer"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_there_is_not_seen(scripts: Any, name: str) -> None:
    answer = scripts.ANSWERS[name](trials_of(name, elsewhere))
    assert not answer.seen, answer.sentence
    assert ". Not seen: " in answer.sentence


@pytest.mark.parametrize("name", NAMES)
def test_a_study_whose_trials_all_broke_down_at_once_is_not_seen(scripts: Any, name: str) -> None:
    assert not scripts.ANSWERS[name](trials_of(name, lambda _values: (lambda _at: math.nan, 0))).seen
