"""A study written for Weights & Biases, its records read back by W&B's own definitions of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exported_studies import (
    CLASHING,
    FAILED,
    INFEASIBLE,
    NAN,
    RECORDED,
    as_texts,
    curve_of,
    of_updates,
    updates_of,
)
from other_tools import MARKS, library

from tunectl.commands.export import export_study, read_for_export
from tunectl.core import jsontext

pytestmark = MARKS
_BLOCK, _HEAD, _FILE_HEAD = 32_768, 7, 7
_WHOLE, _LAST = 1, 4


def records_of(path: Path):
    """The records of a .wandb file, which is laid out as LevelDB lays out its logs: blocks, each record in pieces."""
    internal = library("wandb.proto.wandb_internal_pb2")
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    at, pieces = _FILE_HEAD, b""
    while at + _HEAD <= len(content):
        if _BLOCK - at % _BLOCK < _HEAD:
            at += _BLOCK - at % _BLOCK
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        pieces += content[at + _HEAD : at + _HEAD + length]
        at += _HEAD + length
        if kind in (_WHOLE, _LAST):
            record = internal.Record()
            record.ParseFromString(pieces)
            pieces = b""
            yield record


def of_kind(records, kind):
    return [record for record in records if record.WhichOneof("record_type") == kind]


def values_of(items):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture
def exported(study_folder, tmp_path, monkeypatch):
    """The records of every run, by its name."""
    library("wandb")
    # What it writes beside its runs goes there, and no account of a developer's is looked for.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "")
    place = export_study(study_folder, "wandb", str(tmp_path / "wb")).place
    found = {}
    for path in place.glob("wandb/offline-run-*/*.wandb"):
        records = list(records_of(path))
        run = of_kind(records, "run")[0].run
        found[run.display_name] = records
    return found


def test_every_trial_is_a_run_with_its_curves_values_and_end(exported, study_folder):
    launched = read_for_export(study_folder).launched
    assert exported.keys() == {item.name for item in launched}
    for item in launched:
        records = exported[item.name]
        run = of_kind(records, "run")[0].run
        config = values_of(run.config.update)
        assert {name: config[name] for name in item.plan.hyperparameters} == item.plan.hyperparameters
        assert (run.run_group, run.project, run.tags[0]) == ("example", "example", item.outcome.state)
        history = [
            values_of(record.history.item) for record in records if record.WhichOneof("record_type") == "history"
        ]
        for metric in ("valid/error_rate", "train/loss"):
            points = [(line["_step"], _number(line[metric])) for line in history if metric in line]
            assert as_texts(points) == as_texts(curve_of(study_folder, item.plan.trial, metric))
        times = {line["_step"]: line["_timestamp"] for line in history}
        started = item.started
        assert started is not None
        expected = {point.step: started + point.elapsed_seconds for point in item.measurements}
        assert times == pytest.approx(expected, abs=1e-3)
        summary: dict[str, Any] = {}
        for record in of_kind(records, "summary"):
            summary |= values_of(record.summary.update)
        assert summary["best/valid/error_rate"] == item.outcome.best_value
        ends = [record.exit.exit_code for record in of_kind(records, "exit")]
        assert ends == [1 if item.plan.trial == FAILED else 0]
        if item.plan.trial in (RECORDED, CLASHING):
            for name, field in of_updates(item.plan.trial).items():
                points = [(line["_step"], line[name]) for line in history if name in line]
                assert as_texts(points) == as_texts(updates_of(study_folder, item.plan.trial, field))
        if item.plan.trial == CLASHING:
            for metric in ("learning_rate", "elapsed_seconds"):
                points = [(line["_step"], line[metric]) for line in history]
                assert as_texts(points) == as_texts(curve_of(study_folder, CLASHING, metric))
            assert [line["elapsed_seconds_of_update"] for line in history] == [0.0, 5.0, 10.0]
    assert {INFEASIBLE, NAN} <= {item.plan.trial for item in launched}


def _number(value):
    return jsontext.number(value.lower().replace("infinity", "inf")) if isinstance(value, str) else value
