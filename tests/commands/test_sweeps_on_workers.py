"""Sweeps whose trials workers train: `--backend` of commands/sweep.py, and that they are left and go on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from study_calls import Called
from workers_here import WorkersHere, workers_here

Call = Callable[..., Called]
GRID = ("--low", "0.01", "--high", "0.1", "--points", "2", "--steps", "20", "--no-follow-up")
PLACES = ("offered", "claimed", "run.json", "run.beat")


@pytest.fixture
def sweep(write_study: Callable[..., Path], tunectl: Call, tmp_path: Path) -> Callable[..., Called]:
    study = write_study()
    return lambda *options: tunectl("lr-sweep", study, "--dir", tmp_path / "sweep", *GRID, *options)


def test_a_sweep_on_workers_goes_through_all_its_phases_and_concludes(sweep: Call, tmp_path: Path) -> None:
    with workers_here(WorkersHere()) as backend:
        called = sweep("--backend", "external", "--json")
    assert called.code == 0, called.messages
    folder = tmp_path / "sweep"
    plan = [json.loads(line) for line in (folder / "plan.jsonl").read_text().splitlines()]
    assert sorted(backend.trained) == list(range(len(plan)))
    assert len({line["setting"] for line in plan}) > 1, "a phase is planned from the results of another one"
    assert called.json()["best_learning_rate"] == pytest.approx(0.01, rel=1e-6)
    assert [name for name in PLACES if (folder / name).exists()] == []


def test_a_sweep_that_is_left_is_picked_up_by_the_same_command(sweep: Call, tmp_path: Path) -> None:
    def ends(_trial: int) -> None:
        signal.raise_signal(signal.SIGTERM)

    with workers_here(WorkersHere(most=1, after=ends)):
        called = sweep("--backend", "external")
    assert called.code == 130, called.messages
    assert "leaving the trials to their workers" in called.messages
    folder = tmp_path / "sweep"
    assert json.loads((folder / "run.json").read_text())["phase"] == "left"
    with workers_here(WorkersHere()):
        called = sweep("--backend", "external")
    assert called.code == 0, called.messages
    assert not list(folder.glob("trials/*/attempts.jsonl")), "no attempt was disturbed"
    assert [name for name in PLACES if (folder / name).exists()] == []


def test_what_is_timed_on_one_machine_is_refused_on_workers(
    write_study: Callable[..., Path], tunectl: Call, tmp_path: Path
) -> None:
    with workers_here(WorkersHere()):
        called = tunectl("batch-size", write_study(), "--backend", "external")
    assert called.code == 2
    assert (
        "--backend: expected local for batch-size, which times trials on one machine, got external" in called.messages
    )
    called = tunectl("lr-sweep", "small.yaml", *GRID, "--backend", "extern")
    assert called.code == 2
    assert "--backend: expected local, external, slurm, ray, got extern; did you mean external?" in called.messages
    assert not (tmp_path / "runs").exists()
