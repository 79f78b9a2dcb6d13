"""scripts/prove_gpu.py: its table, its time and its exit code. What its lines prove needs a GPU."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prove_gpu.py"


@pytest.fixture
def prove_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("prove_gpu")


def lines_of(prove_gpu: Any, *names: str) -> list[Any]:
    return [prove_gpu.Line(name, f"claim of {name}", lambda _place: None, 1.0, 60.0) for name in names]


def called(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), "--json", str(folder / "table.json"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_a_gpu_it_says_so_and_ends_with_0(tmp_path: Path) -> None:
    done = called(tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("no GPU; not tried: devices, masks, ")
    assert not (tmp_path / "table.json").exists()


def test_a_line_that_holds_is_in_the_table_and_in_the_file(tmp_path: Path) -> None:
    done = called(tmp_path, "--rehearse", "--lines", "devices")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "devices        holds" in done.stdout
    (line,) = json.loads((tmp_path / "table.json").read_text())["lines"]
    assert (line["line"], line["state"]) == ("devices", "holds")


def test_the_sums_of_one_process_are_those_of_its_tensors(tmp_path: Path) -> None:
    done = called(tmp_path, "--rehearse", "--lines", "nccl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gloo, for a rehearsal: 12 exchanges of four types" in done.stdout


def test_a_line_for_which_something_is_missing_says_what_and_is_no_failure(
    prove_gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_slurm, slurm_node = importlib.import_module("gpu_slurm"), importlib.import_module("slurm_node")
    monkeypatch.setattr(slurm_node, "missing_programs", lambda: ["slurmctld"])
    line = prove_gpu.Line("slurm", "a claim", gpu_slurm.prove_slurm, 1.0, 60.0)
    monkeypatch.setattr(prove_gpu, "LINES", [line])
    prove_gpu.answer_one("slurm", tmp_path, rehearse=True)
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["state"] == "not tried"
    assert answer["found"].startswith("not tried: Slurm is not installed (slurmctld)")


def test_without_time_no_line_is_run_and_none_passes(tmp_path: Path) -> None:
    done = called(tmp_path, "--rehearse", "--minutes", "0")
    assert done.returncode == 1
    assert {line["state"] for line in json.loads((tmp_path / "table.json").read_text())["lines"]} == {"not run"}


def test_an_unknown_line_is_named_with_the_known_ones(tmp_path: Path) -> None:
    done = called(tmp_path, "--lines", "devices,masses")
    assert done.returncode == 1
    assert "there is no line masses; there are devices, masks" in done.stderr


def test_the_file_holds_every_line_after_each_of_them(
    prove_gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "table.json"
    found: list[list[str]] = []

    def run_line(line: Any, _seconds: float, **_options: bool) -> Any:
        found.append([entry["state"] for entry in json.loads(table.read_text())["lines"]])
        return prove_gpu.Outcome(line.name, line.claim, "holds" if line.name != "b" else "does not hold")

    monkeypatch.setattr(prove_gpu, "run_line", run_line)
    lines = lines_of(prove_gpu, "a", "b", "c")
    outcomes = prove_gpu.prove(lines, 1.0, table, rehearse=True, device="none")
    assert found == [["not run"] * 3, ["holds", "not run", "not run"], ["holds", "does not hold", "not run"]]
    assert [outcome.state for outcome in outcomes] == ["holds", "does not hold", "holds"]


@pytest.mark.parametrize(("cut", "state"), [(True, "not run"), (False, "does not hold")])
def test_a_line_out_of_time_fails_only_if_the_time_was_its_own(prove_gpu: Any, cut: bool, state: str) -> None:
    # A tenth of a second is too little to start Python, let alone a study.
    (line,) = [line for line in prove_gpu.LINES if line.name == "shared"]
    assert prove_gpu.run_line(line, 0.1, cut=cut, rehearse=True).state == state


def test_a_line_whose_process_breaks_does_not_hold_and_says_why(prove_gpu: Any) -> None:
    (line,) = lines_of(prove_gpu, "unknown to the script")
    outcome = prove_gpu.run_line(line, 30.0, cut=False, rehearse=True)
    assert outcome.state == "does not hold"
    assert "exit code 1" in outcome.found
    assert "StopIteration" in outcome.found
