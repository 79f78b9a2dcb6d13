from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm
from study_calls import Called

from tunectl.language.study_reader import parse_study
from tunectl.session.host_notes import host_notes

STUDY = """\
study: toy
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize}
training: {max_train_steps: 10, eval_every: 10}
hyperparameters: {optimizer: momentum, learning_rate: 0.1, batch_size: 8}
resources: "RESOURCES"
"""


def notes(resources: str) -> list[str]:
    return host_notes(parse_study(STUDY.replace('"RESOURCES"', resources), Path("toy.yaml")))


def test_a_study_for_another_host_has_a_note_about_what_is_missing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    begins = "note: `tunectl run` would refuse it on this host: "
    for resources, why in (
        ("{backend: ray}", "backend: ray needs the library ray, which is not installed"),
        ("{backend: slurm}", "backend slurm: submitit is not installed"),
        ("{devices: [0]}", "resources.devices: "),
    ):
        (line,) = notes(resources)
        assert line.startswith(begins)
        assert why in line
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    assert notes("{backend: slurm}")[0].startswith(f"{begins}backend slurm: sbatch, squeue, scancel, srun are not on")


def test_a_study_that_can_be_run_here_has_none_and_no_engine_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeSlurm(tmp_path / "slurm", monkeypatch)
    assert [notes(f"{{backend: {name}, devices: cpu}}") for name in ("local", "external", "slurm")] == [[], [], []]
    assert not (fake.folder / "calls").exists()


def test_check_prints_the_note_and_the_exit_code_stays_0(
    tunectl: Callable[..., Called], tmp_path: Path, environment: dict[str, str]
) -> None:
    environment["PATH"] = "/nowhere"
    study = tmp_path / "toy.yaml"
    study.write_text(STUDY.replace('"RESOURCES"', "{backend: slurm}"))
    called = tunectl("check", study)
    assert (called.code, "toy is a study that can be run" in called.out) == (0, True)
    assert "would refuse it on this host: backend slurm: sbatch" in " ".join(called.err.split())
    found: dict[str, Any] = tunectl("check", study, "--json").json()
    assert [line for line in found["messages"] if "would refuse it on this host" in line]


def test_what_is_written_for_another_engine_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeSlurm(tmp_path / "slurm", monkeypatch)
    (line,) = notes("{devices: cpu, slurm: {time_minutes: 5}}")
    assert line == ("note: resources.slurm is used only with backend: slurm; write that, or give --backend slurm")
    assert notes("{backend: slurm, devices: cpu, slurm: {time_minutes: 5}}") == []
    assert notes("{devices: cpu, slurm: {}, ray: {}}") == []
