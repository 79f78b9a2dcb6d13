"""A file in the study's folder with the name of a standard module replaces nothing in tunectl and torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from tunectl.core.folders import TrialFolder
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import FunctionRequest
from tunectl.core.records import WorkloadReference
from tunectl.store.trial_files import read_trial, write_request
from tunectl.workloads.shadowed_modules import shadowed

# As the server does it, and the trial that it forks.
PROGRAM = """
import json, sys
from tunectl.core.records import WorkloadReference
from tunectl.execution import worker
from tunectl.execution.protocol import Assignment

reference, folder = WorkloadReference(**json.loads(sys.argv[1])), sys.argv[2]
worker.warm_up(own_code=True)
worker.preload(reference, {})
sys.exit(worker.work(Assignment("trial", 0, "cpu", folder=folder, log=""), lambda: False))
"""
FUNCTION = """
import torch

def train(trial, *, learning_rate):
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=learning_rate)
    for step in (1, 2):
        (weight - 1).square().sum().backward()
        optimizer.step()
        trial.record(step, {"loss": float((weight - 1).square())})
        trial.save(step, {"weight": weight.detach()})
"""


def prepared(tmp_path: Path) -> tuple[WorkloadReference, TrialFolder]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "own.py").write_text(FUNCTION)
    for name in sys.stdlib_module_names - set(sys.builtin_module_names):
        if not name.startswith("_"):
            (home / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    reference = WorkloadReference(
        "./own.py:train", "train", file=str(home / "own.py"), search_path=(str(home),), workload_kind="function"
    )
    folder = TrialFolder(tmp_path / "study" / "trials" / "00000")
    folder.path.parent.parent.mkdir()
    write_request(
        folder,
        FunctionRequest(
            "study", 0, 1, reference, {"learning_rate": 0.1}, Objective("loss", "minimize"), 2, keep_checkpoints=1
        ),
    )
    return reference, folder


def test_a_function_trains_beside_files_called_like_every_module_of_pythons(tmp_path: Path) -> None:
    reference, folder = prepared(tmp_path)
    command = [sys.executable, "-P", "-c", PROGRAM, json.dumps(asdict(reference)), str(folder.path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    result = read_trial(folder).result
    assert result is not None
    assert result.state == "completed", result.message
    ran = (tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else ""
    assert ran == "", "they would have run in the place of Python's"


def test_a_file_or_package_that_a_loaded_module_hides_is_reported_with_both_paths(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("")
    (tmp_path / "logging").mkdir()
    (tmp_path / "logging" / "__init__.py").write_text("")
    (tmp_path / "pathlib").mkdir()  # no package
    (tmp_path / "model.py").write_text("")
    (tmp_path / "sys.py").write_text("")  # Python itself would not import it either
    told = shadowed([str(tmp_path), str(tmp_path / "missing")])
    assert len(told) == 2
    for text, file, module in zip(
        told, ("json.py", "logging/__init__.py"), (json, sys.modules["logging"]), strict=True
    ):
        assert str(tmp_path / file) in text
        assert str(module.__file__) in text


def test_a_module_that_was_loaded_from_the_folder_is_not_hidden(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine  # type: ignore[import-not-found]  # noqa: F401

    assert shadowed([str(tmp_path)]) == []
    monkeypatch.delitem(sys.modules, "mine")
