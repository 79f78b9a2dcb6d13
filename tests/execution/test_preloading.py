"""Tests worker.py: what the fork server has loaded once, no trial loads again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.records import TrialRequest, WorkloadReference
from tunectl.language.configuration import TrainingConfiguration
from tunectl.store.trial_files import read_trial, write_request

WORKLOAD = WorkloadReference("tunectl.workloads.digits:mlp", "mlp", module="tunectl.workloads.digits")

PROGRAM = """
import gc, importlib, json, os, sys
from tunectl.core.records import WorkloadReference
from tunectl.execution import worker
from tunectl.execution.protocol import Assignment

workload, *folders = sys.argv[1:]  # which are the workload's own when it is loaded
worker.warm_up(own_code=False)
worker.preload(WorkloadReference(**json.loads(workload)), {})
facts = {"collects": gc.isenabled(), "frozen": gc.get_freeze_count(), "imported": {}}
facts["compiler"] = sorted(name for name in sys.modules if name.startswith("torch._dynamo"))
for folder in folders:
    # In a fork each, as the server does it: what one trial imports, the next would not have.
    reading, writing = os.pipe()
    if os.fork() == 0:
        before = set(sys.modules)
        worker.work(Assignment("trial", 0, "cpu", folder=folder, log=""), lambda: False)
        os.write(writing, json.dumps(sorted(set(sys.modules) - before)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        facts["imported"][folder] = json.loads(answer.read())
    os.wait()

ALGEBRA = "torch.fx.experimental.symbolic_shapes"
worker.catch_up()
facts["algebra"] = ALGEBRA in sys.modules
worker._train = lambda *_: importlib.import_module(ALGEBRA) is None  # as torch does for some code of users
if os.fork() == 0:
    worker.work(Assignment("trial", 0, "cpu"), lambda: False)
    os._exit(0)
os.wait()
worker.catch_up()
facts["algebra afterwards"] = ALGEBRA in sys.modules
print(json.dumps(facts))
"""


def _request(trial: int, **configuration: Any) -> TrialRequest:
    return TrialRequest(
        study="s",
        trial=trial,
        seed=1,
        workload=WORKLOAD,
        arguments={"num_layers": 1, "width": 8},
        configuration=asdict(TrainingConfiguration(learning_rate=0.01, **configuration)),
        objective=Objective("valid/error_rate", "minimize"),
        max_train_steps=2,
        eval_every=1,
        keep_checkpoints=1,
    )


CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {"optimizer": "momentum"},
    {"optimizer": "adam", "grad_clip_norm": 1.0},
    {"optimizer": "rmsprop", "polyak_decay": 0.9, "schedule": "cosine"},
    {"optimizer": "lamb", "accumulate_steps": 2, "precision": "bfloat16"},
    {"optimizer": "adamw", "precision": "float16"},
)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """What the program found: torch is loaded once for all tests here."""
    home = tmp_path_factory.mktemp("trials")
    requests = [_request(trial, **configuration) for trial, configuration in enumerate(CONFIGURATIONS)]
    folders = [TrialFolder(home / f"{request.trial:05d}") for request in requests]
    for folder, request in zip(folders, requests, strict=True):
        write_request(folder, request)
    command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(WORKLOAD)), *(str(folder.path) for folder in folders)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(ended.stdout)


def test_a_forked_trial_trains_to_its_end_without_importing_anything(facts):
    # Hazard: one that torch or numpy loads late costs every trial 10 ms to a second.
    assert len(facts["imported"]) == len(CONFIGURATIONS)
    for folder, modules in facts["imported"].items():
        result = read_trial(TrialFolder(Path(folder))).result
        assert result is not None
        assert result.state in ("completed", "infeasible")
        assert modules == []


def test_the_compiler_of_torch_is_not_imported_for_trials_that_are_not_compiled(facts):
    # Hazard: a decorator of torch.compiler imports it, and every run begins a second or two later.
    assert facts["compiler"] == []


def test_the_algebra_of_torch_is_not_imported_for_trials_that_need_none(facts):
    # Hazard: a backward pass from a given gradient imports it, and every run and worker begins half a second later.
    assert not facts["algebra"]


def test_what_one_trial_had_to_import_late_is_imported_once_for_all_after_it(facts):
    assert facts["algebra afterwards"]


def test_garbage_is_collected_again_when_all_is_loaded_but_what_was_loaded_is_left_alone(facts):
    assert facts["collects"]
    assert facts["frozen"] > 100_000
