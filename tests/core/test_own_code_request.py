"""What a study declares of its own code, and the request.json of commands and functions."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tunectl.core.objective import Objective
from tunectl.core.own_code_request import (
    RESUME,
    Checkpoints,
    CommandRequest,
    FunctionRequest,
    InfeasibleEnds,
    MetricSource,
    Optional,
    Program,
    ended_early,
    program_path,
    request_in,
    request_of,
    variable_of,
)
from tunectl.core.records import WorkloadReference
from tunectl.core.typed_fields import DamagedError

OBJECTIVE = Objective("valid/loss", "minimize")
LINE = MetricSource(
    "regex", r"step (?P<step>\d+) loss (?P<valid__loss>\S+) acc (?P<acc>\S+)", names={"acc": "valid/acc"}
)
PROGRAM = Program(
    ("python", "train.py", Optional(("--fast",), {"mode": ("a", 1, True)})),
    "/studies",
    sources=(LINE, MetricSource("csv", "log.csv", every=10)),
    environment={"LR": "{learning_rate}"},
    checkpoints=Checkpoints("{trial.dir}/model-{step}.pt", every=2, offset=1),
    infeasible=InfeasibleEnds((3,), ("diverged",), ("train/loss",)),
)
COMMAND = CommandRequest("s", 7, 1, PROGRAM, {"learning_rate": 0.1, "flag": True}, OBJECTIVE, 100, 3, baseline_loss=2.3)
FUNCTION = FunctionRequest(
    "s", 7, 1, WorkloadReference("m:f", "f", module="m", workload_kind="function"), {}, OBJECTIVE, 9, 1
)


@pytest.mark.parametrize("request_", [COMMAND, FUNCTION], ids=["command", "function"])
def test_a_request_is_read_back_as_it_was_written(request_: CommandRequest | FunctionRequest) -> None:
    content = json.loads(json.dumps(request_.to_json()))
    assert request_in(json.dumps(content).encode()) == request_of(content) == request_
    assert list(content)[:2] == ["format", "kind"]
    assert content["kind"] in ("command", "function")


def test_a_request_with_a_wrong_value_is_refused_with_its_place() -> None:
    content = {**COMMAND.to_json(), "keep_checkpoints": "three"}
    with pytest.raises(DamagedError, match='keep_checkpoints: expected a whole number, got "three"'):
        request_of(content)


def test_the_names_of_groups_and_renamed_metrics_are_those_of_the_study() -> None:
    assert LINE.named() == {"valid/loss", "valid/acc"}
    assert [LINE.metric(name) for name in ("valid__loss", "acc", "other")] == ["valid/loss", "valid/acc", "other"]
    assert MetricSource("csv", "a.csv", names={"acc": "valid/acc"}).named() == {"valid/acc"}
    assert MetricSource("csv", "a.csv").metric("a__b") == "a__b", "only names of groups have no room for a stroke"


def test_a_program_can_resume_only_if_it_takes_a_checkpoint_whose_step_is_known() -> None:
    takes = replace(PROGRAM, arguments=("train", f"--resume={{{RESUME}}}"))
    assert [item.can_resume for item in (PROGRAM, takes, replace(takes, checkpoints=None))] == [False, True, False]
    assert replace(PROGRAM, environment={"FROM": f"{{{RESUME}}}"}).can_resume
    assert replace(PROGRAM, arguments=("train", Optional(("-r",), {RESUME: (True,)}))).can_resume
    assert not replace(PROGRAM, arguments=("train", f"{{{{{RESUME}}}}}")).can_resume, "double braces are no placeholder"
    one = replace(takes, checkpoints=Checkpoints("{trial.dir}/last.pt"))
    assert not one.can_resume, "steps are counted, and the file's name has none"
    assert replace(one, sources=(LINE,)).can_resume


def test_a_program_prints_no_step_if_no_expression_has_a_group_for_it() -> None:
    without = MetricSource("regex", r"loss (?P<loss>\S+)")
    assert replace(PROGRAM, sources=(without,)).prints_no_step
    for sources in ((without, LINE), (without, MetricSource("csv", "a")), (replace(without, every=1),), ()):
        assert not replace(PROGRAM, sources=sources).prints_no_step
    assert replace(PROGRAM, sources=(replace(without, every=1),)).counts_steps


@pytest.mark.parametrize(
    ("last", "interval", "is_early"), [(100, 1, False), (95, 1, False), (94, 1, True), (90, 10, False), (89, 10, True)]
)
def test_a_trial_ended_early_if_more_than_one_interval_and_a_twentieth_are_missing(
    last: int, interval: int, *, is_early: bool
) -> None:
    assert ended_early(last, interval, 100) is is_early


def test_programs_are_found_in_the_active_environment_or_else_beside_this_interpreter() -> None:
    home = str(Path(sys.executable).parent)
    assert program_path({"PATH": "/usr/bin"}) == f"{home}:/usr/bin"
    assert program_path({"PATH": "/env/bin:/usr/bin", "VIRTUAL_ENV": "/env"}) == "/env/bin:/usr/bin"
    assert program_path({"PATH": "/conda/bin", "CONDA_PREFIX": "/conda"}) == "/conda/bin"
    assert variable_of("trial.dir") == "TUNECTL_TRIAL_DIR"
