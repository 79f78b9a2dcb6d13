"""The benchmark of the advice: its starts are studies, its verdicts those of the differences, its results kept."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tunectl.session.checked_study import check_study

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
NAMES = (
    *("too-narrow", "too-wide", "edge-of-stability", "wrong-scale", "too-short", "too-long", "useless"),
    *("wrong-fixed-value", "noise", "two-settings"),
)


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("bench_advice")
    for name in ("bench_advice", "advice_arms", "advice_starts"):
        sys.modules.pop(name, None)


def test_there_are_ten_starts(scripts):
    assert tuple(scripts.STARTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_start_is_a_study_that_can_run(scripts, tmp_path, name):
    path = tmp_path / f"{name}.yaml"
    path.write_text(scripts.STARTS[name].text(name, 3))
    spec = check_study(path, tmp_path).spec
    assert (spec.name, spec.seed, spec.search.seed) == (name, 3, 3)


def lines(name, own, other):
    arms = [{"test_error": error, "updates": 1000} for error in own], [{"test_error": error} for error in other]
    return [{"start": name, "seed": seed, "advice": a, "tpe": b} for seed, (a, b) in enumerate(zip(*arms, strict=True))]


def test_a_start_is_won_or_lost_by_more_than_two_standard_errors_and_else_tied(scripts):
    found = scripts.table(
        [
            *lines("too-narrow", [0.2, 0.21, 0.22], [0.3, 0.32, 0.33]),
            *lines("too-wide", [0.3, 0.2, 0.4], [0.4, 0.3, 0.2]),
            *lines("noise", [0.5, 0.51], [0.4, 0.4]),
            *lines("useless", [0.1], [0.9]),
        ]
    )
    verdicts = {line.split()[0]: line.split()[-1] for line in found[1:-1]}
    assert verdicts == {"too-narrow": "win", "too-wide": "tie", "noise": "loss", "useless": "tie"}
    assert found[-1].startswith("for the advice: 1 win, 2 tie, 1 loss")


def test_a_result_that_a_kill_cut_off_is_left_out_and_the_others_are_kept(scripts, tmp_path):
    file = tmp_path / "results.jsonl"
    assert scripts.read(file) == []
    file.write_text('{"start": "noise", "seed": 0}\n{"start": "noi')
    assert scripts.read(file) == [{"start": "noise", "seed": 0}]


def test_the_budget_is_said_before_anything_is_trained(scripts):
    assert scripts.budget([("noise", 0), ("noise", 1)], 2, 3).startswith("2 starts with their seeds (3 are done)")
