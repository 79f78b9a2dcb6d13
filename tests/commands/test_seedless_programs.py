"""A program that never reads its seed, from `check` to `compare`: no verdict rests on its repeats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from study_calls import Called

from tunectl.analysis.results.seed_variation import NO_VARIATION

PROGRAM = """\
import math, os, random, sys
rate, width = float(sys.argv[1]), int(sys.argv[2])
random.seed(SEED)
for epoch in range(1, 4):
    loss = (math.log10(rate) + 2) ** 2 + 1 / epoch + random.random() / 50 - (width > 8)
    print(f"epoch {epoch}: loss={loss:.6f}")
"""
STUDY = """\
study: seedless
workload:
  command: [python, -S, program.py, "{learning_rate}", "{width}"]
  metrics: [{regex: 'epoch (?P<step>\\d+): loss=(?P<loss>\\S+)'}]
objective: {metric: loss, direction: minimize}
training: {max_train_steps: 3}
hyperparameters:
  width: {role: scientific, values: [8, 16]}
  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log}
search: {trials: 2}
"""


def compared(tmp_path: Path, tunectl: Callable[..., Called], seed: str) -> tuple[Called, Called]:
    """What `retrain` and `compare` print of a program that seeds itself so."""
    (tmp_path / "program.py").write_text(PROGRAM.replace("SEED", seed))
    study, folder = tmp_path / "study.yaml", tmp_path / "runs"
    study.write_text(STUDY)
    assert tunectl("run", study, "--dir", folder, "--quiet").code == 0
    again = tunectl("retrain", folder, "--each-setting", "--repeats", "3", "--quiet")
    return again, tunectl("compare", f"{folder}:0", f"{folder}:1")


def test_a_program_with_a_fixed_seed_is_never_adopted(tmp_path: Path, tunectl: Callable[..., Called]):
    again, verdict = compared(tmp_path, tunectl, "1337")
    assert NO_VARIATION in again.out
    assert f"not enough evidence: {NO_VARIATION}" in " ".join(verdict.out.split())
    assert "p =" not in verdict.out
    assert "retrain_deviation" in verdict.out


def test_the_same_program_that_reads_its_seed_is_judged(tmp_path: Path, tunectl: Callable[..., Called]):
    again, verdict = compared(tmp_path, tunectl, "int(os.environ['TUNECTL_TRIAL_SEED'])")
    assert NO_VARIATION not in again.out + verdict.out
    assert "adopt: its retrains are better, which chance alone gives with p = 0.05" in verdict.out


def test_the_warning_of_check_is_not_repeated_where_nothing_is_left_to_train(
    tmp_path: Path, tunectl: Callable[..., Called]
):
    (tmp_path / "program.py").write_text(PROGRAM.replace("SEED", "0"))
    study, warned = tmp_path / "study.yaml", "names the trial's seed"
    study.write_text(STUDY)
    call = ("run", study, "--dir", tmp_path / "runs")
    assert tunectl(*call).err.count(warned) == 1
    again = tunectl(*call)
    assert "nothing to run" in again.out
    assert "warning:" not in again.err
    study.write_text(STUDY.replace("trials: 2", "trials: 3"))
    assert tunectl(*call).err.count(warned) == 1
    assert tunectl("check", study).err.count(warned) == 1
