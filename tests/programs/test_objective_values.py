"""An objective without a finite value is infeasible, NaN at once; other metrics do not end a trial."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from printed_trials import CSV, LINES, Case, read_of

from tunectl.core.objective import Objective
from tunectl.core.own_code_request import OUTPUT, MetricSource

INF = math.inf
MAXIMIZE, FINAL = Objective("valid_loss", "maximize"), Objective("valid_loss", "minimize", "final")
BOTH = {1: INF, 2: INF}
NAMED = (MetricSource("json_lines", OUTPUT, names={"grad_norm": "gradient_norm"}),)
SEVERAL = (MetricSource("regex", r"step (?P<step>\d+): loss (?P<valid_loss>\S+) (?P<norm>\S+)"),)
GOES_ON = {1: 0.5, 2: 0.25}
MARKED = {"metrics": ("gradient_norm",)}


def objects(*values: str, other: str = "") -> str:
    beside = f', "grad_norm": {other}' if other else ""
    return "".join(f'{{"step": {n}, "valid_loss": {value}{beside}}}\n' for n, value in enumerate(values, 1))


INFINITE = [
    Case("as the issue has it", objects("Infinity", "Infinity"), BOTH),
    Case("inf, which JSON does not know", objects("inf", "inf"), BOTH),
    Case("Inf", objects("Inf", "Inf"), BOTH),
    Case("negative where the least is best", objects("-inf", "-Infinity"), {1: -INF, 2: -INF}),
    Case("negative where the greatest is best", objects("-inf", "-inf"), {1: -INF, 2: -INF}, objective=MAXIMIZE),
    Case("either sign", objects("inf", "-inf"), {1: INF, 2: -INF}),
    Case("one step", objects("inf"), {1: INF}),
    Case("no end of line", objects("inf", "inf").strip(), BOTH),
    Case("a byte at a time", objects("inf", "inf"), BOTH, bytewise=True),
    Case(
        "text",
        objects('"inf"', '"Infinity"'),
        BOTH,
        sources=(MetricSource("json_lines", OUTPUT, names={"valid_loss": "valid_loss"}),),
    ),
    Case("too large for a float", objects("1e999", "1e400"), BOTH),
    Case("wrapped", "{'step': 1, 'valid_loss': np.float32(inf)}\n{'step': 2, 'valid_loss': tensor(inf)}\n", BOTH),
    Case("carriage returns", objects("inf", "inf").replace("\n", "\r"), BOTH),
    Case("lines", "step 1: loss inf\nstep 2: loss Infinity.\n", BOTH, sources=LINES),
    Case("lines, other words", "step 1: loss INF,\nstep 2: loss +inf\n", BOTH, sources=LINES),
    Case("CSV", "step,valid_loss\n1,inf\n2,inf\n", BOTH, sources=CSV, file="m.csv"),
    Case("finite at step 0 alone", '{"step": 0, "valid_loss": 2.3}\n' + objects("inf", "inf"), {0: 2.3, **BOTH}),
    Case("without steps", '{"valid_loss": inf}\n{"valid_loss": inf}\n', BOTH),
    Case("at the end, which counts", objects("0.5", "inf"), {1: 0.5, 2: INF}, objective=FINAL),
    Case("other metrics are finite", objects("inf", "inf", other="1.0"), BOTH),
    Case("to stderr", "", BOTH, streams=((2, objects("inf", "inf")),)),
    Case("in another order", "".join(reversed(objects("inf", "inf").splitlines(keepends=True))), BOTH),
]
STILL_COMPLETED = [
    Case("infinite and then finite", objects("inf", "0.5"), {1: INF, 2: 0.5}),
    Case("finite and then infinite", objects("0.5", "inf"), {1: 0.5, 2: INF}),
    Case("another metric is infinite", objects("0.5", "0.25", other="inf"), GOES_ON),
    Case("a later line of a step mends it", objects("inf") + objects("0.5"), {1: 0.5}),
]
NAN_OF_ANOTHER = [
    Case("as the issue has it", objects("0.5", "0.25", other="NaN"), GOES_ON, sources=NAMED),
    Case("not renamed", objects("0.5", "0.25", other="NaN"), GOES_ON),
    Case("nan, which JSON does not know", objects("0.5", "0.25", other="nan"), GOES_ON, sources=NAMED),
    Case("a byte at a time", objects("0.5", "0.25", other="NaN"), GOES_ON, sources=NAMED, bytewise=True),
    Case("no end of line", objects("0.5", "0.25", other="NaN").strip(), GOES_ON, sources=NAMED),
    Case(
        "wrapped",
        "{'step': 1, 'valid_loss': 0.5, 'grad_norm': tensor(nan, device='cuda:0')}\n{'step': 2, 'valid_loss': 0.25}\n",
        GOES_ON,
        sources=NAMED,
    ),
    Case("text", objects("0.5", "0.25", other='"nan"'), GOES_ON, sources=NAMED),
    Case("lines", "step 1: loss 0.5 nan\nstep 2: loss 0.25 1.0\n", GOES_ON, sources=SEVERAL),
    Case("lines, other words", "step 1: loss 0.5 NaN\nstep 2: loss 0.25 -nan\n", GOES_ON, sources=SEVERAL),
    Case("negative", objects("0.5", "0.25", other="-nan"), GOES_ON, sources=NAMED),
    Case(
        "an expression of its own",
        "norm nan\nstep 1: loss 0.5\nnorm 1\nstep 2: loss 0.25\n",
        GOES_ON,
        sources=(*LINES, MetricSource("regex", r"norm (?P<norm>\S+)")),
    ),
    Case(
        "CSV",
        "step,valid_loss,norm\n1,0.5,nan\n2,0.25,1\n",
        GOES_ON,
        sources=(MetricSource("csv", "{trial.dir}/m.csv", names={"norm": "gradient_norm"}),),
        file="m.csv",
    ),
    Case("carriage returns", objects("0.5", "0.25", other="NaN").replace("\n", "\r"), GOES_ON, sources=NAMED),
    Case(
        "the learning rate", '{"step": 1, "valid_loss": 0.5, "learning_rate": NaN}\n' + objects("0.5", "0.25"), GOES_ON
    ),
    Case("before the objective", '{"step": 1, "grad_norm": NaN}\n' + objects("0.5", "0.25"), GOES_ON, sources=NAMED),
    Case(
        "nested",
        '{"step": 1, "valid_loss": 0.5, "norms": {"a": NaN}}\n' + objects("0.5", "0.25"),
        GOES_ON,
        sources=(MetricSource("json_lines", OUTPUT, names={"norms/a": "norm"}),),
    ),
    Case("in upper case", objects("0.5", "0.25", other="NAN"), GOES_ON, sources=NAMED),
    Case("to stderr", "", GOES_ON, sources=NAMED, streams=((2, objects("0.5", "0.25", other="NaN")),)),
    Case("at step 0", '{"step": 0, "grad_norm": NaN}\n' + objects("0.5", "0.25"), GOES_ON, sources=NAMED),
    Case(
        "at every step and marked for nothing else",
        objects("0.5", "0.25", other="NaN"),
        GOES_ON,
        sources=NAMED,
        infeasible={"metrics": ("other",)},
    ),
]
ENDS_IT = [
    Case("marked", objects("0.5", "0.25", other="NaN"), {1: 0.5}, sources=NAMED, infeasible=MARKED),
    Case(
        "marked, in lines",
        "step 1: loss 0.5 nan\nstep 2: loss 0.25 1.0\n",
        {1: 0.5},
        sources=SEVERAL,
        infeasible={"metrics": ("norm",)},
    ),
    Case(
        "marked, by the name that the study gives it",
        objects("0.5", other="-nan"),
        {1: 0.5},
        sources=NAMED,
        infeasible=MARKED,
    ),
    Case("the objective", objects("0.5", "NaN"), {1: 0.5, 2: math.nan}),
    Case("the objective, wrapped", "{'step': 1, 'valid_loss': np.float64(nan)}\n", {1: math.nan}),
]


@pytest.mark.parametrize("case", INFINITE, ids=lambda case: case.name)
def test_an_objective_that_is_infinite_at_every_step_that_counts_is_infeasible(case: Case, tmp_path: Path) -> None:
    read = read_of(case, tmp_path)
    assert read.values == case.want
    assert read.state == "infeasible", read.words
    assert "infinite" in read.words


@pytest.mark.parametrize("case", [*STILL_COMPLETED, *NAN_OF_ANOTHER], ids=lambda case: case.name)
def test_a_trial_goes_on_if_only_other_metrics_or_only_some_values_are_not_numbers(case: Case, tmp_path: Path) -> None:
    read = read_of(case, tmp_path)
    assert read.values == case.want, read.words
    assert read.state == "completed", read.words


@pytest.mark.parametrize("case", ENDS_IT, ids=lambda case: case.name)
def test_the_objective_and_the_metrics_that_the_study_marks_end_a_trial_when_they_are_nan(
    case: Case, tmp_path: Path
) -> None:
    read = read_of(case, tmp_path)
    assert str(read.values) == str(case.want)
    assert read.state == "infeasible", read.words
    assert "nan_metric" in read.words
