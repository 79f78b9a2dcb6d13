from __future__ import annotations

import json

import pytest
from store_samples import line, planned

from tunectl.core.curvature_settings import CurvatureSettings
from tunectl.core.errors import FolderError
from tunectl.core.trial_checkpoints import TrialCheckpoints
from tunectl.core.typed_fields import untyped
from tunectl.store.index_rows import checksum, plan_of_row, plan_row
from tunectl.store.json_lines import append, parse
from tunectl.store.plan_file import append_plan, read_plan


def test_a_plan_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "plan.jsonl"
    trials = [
        planned(0),
        planned(
            1,
            hyperparameters={"a": 1, "b": 1.0, "c": True, "d": "1", "é|\n": "x\ud800"},
            trial_kind="retrain",
            repeat=3,
        ),
        planned(2, coordinates=(), seed=2**64 - 1),
    ]
    append_plan(path, trials)
    read = read_plan(path)
    assert read == trials
    assert [type(value) for value in read[1].hyperparameters.values()] == [int, float, bool, str, str]


def test_the_settings_of_curvature_in_a_plan_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "plan.jsonl"
    settings = untyped(CurvatureSettings(at=(0, 10), measures=("lambda_1",)))
    trial = planned(0, trial_kind="sweep", training={"stop_after": 30, "curvature": settings})
    append_plan(path, [trial])
    assert read_plan(path) == [trial]
    assert plan_of_row((*plan_row(trial), checksum(plan_row(trial)))) == trial, "as does the index's copy"


def test_what_a_procedure_says_of_its_trials_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "plan.jsonl"
    kept = untyped(TrialCheckpoints("/runs/small", 3, {"step-00000030.pt": "tunectl crc32:00000000\n"}))
    settings = untyped(CurvatureSettings(at=(0,)))
    first = planned(0, trial_kind="sweep", training={"no_progress": 0, "curvature": settings, "curvature_needed": 0})
    second = planned(1, trial_kind="curvature", training={"checkpoints": kept, "curvature": settings})
    append_plan(path, [first, second])
    assert read_plan(path) == [first, second]
    for trial in (first, second):
        assert plan_of_row((*plan_row(trial), checksum(plan_row(trial)))) == trial, "as does the index's copy"


def test_stages_and_suggestions_read_back_as_they_were_written_and_other_lines_do_not_have_them(tmp_path):
    path = tmp_path / "plan.jsonl"
    promoted = planned(1, point=0, stage=1, training={"max_train_steps": 2000})
    suggested = planned(2, suggestion={"engine": "optuna 5.0.0 GPSampler", "seed": 7, "data": "ab12"})
    append_plan(path, [planned(0), promoted, suggested])
    assert read_plan(path) == [planned(0), promoted, suggested]
    first, *_ = [json.loads(text) for text in path.read_text().splitlines()]
    assert not {"stage", "suggestion"} & first.keys(), "a plan without them is what it was before"
    for trial in (promoted, suggested):
        assert plan_of_row((*plan_row(trial), checksum(plan_row(trial)))) == trial, "as does the index's copy"


def test_raising_trials_keeps_the_first_lines_byte_for_byte(tmp_path):
    path, at_once = tmp_path / "plan.jsonl", tmp_path / "other.jsonl"
    append_plan(path, [planned(0), planned(1)])
    before = path.read_bytes()
    append_plan(path, [planned(2)])
    append_plan(path, [])
    append_plan(at_once, [planned(0), planned(1), planned(2)])
    assert path.read_bytes().startswith(before)
    assert path.read_bytes() == at_once.read_bytes()


def test_a_missing_plan_is_empty(tmp_path):
    assert read_plan(tmp_path / "plan.jsonl") == []


def test_a_plan_cut_at_any_byte_loses_its_torn_line_alone_and_can_be_appended_to(tmp_path):
    path = tmp_path / "plan.jsonl"
    append_plan(path, [planned(0), planned(1)])
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        read = read_plan(path)
        assert read == [planned(0), planned(1)][: whole[:cut].count(b"\n")]
        append_plan(path, [planned(number) for number in range(len(read), 2)])
        assert path.read_bytes() == whole or cut == len(whole)


@pytest.mark.parametrize(
    "damaged",
    [
        b"\0" * 40 + b"\n",
        b"not json\n",
        b"[1, 2]\n",
        b"[" * 100_000 + b"\n",
        b"\n",
        b'{"trial": 1}\n',
        line({**planned(1).to_json(), "trial": "1"}),
        line({**planned(1).to_json(), "trial": True}),
        line({**planned(1).to_json(), "seed": -1}),
        line({**planned(1).to_json(), "setting": 2**70}),
        line({**planned(1).to_json(), "kind": "dance"}),
        line({**planned(1).to_json(), "kind": ["search"]}),
        line({**planned(1).to_json(), "trial_kind": "search"}),
        line({**planned(1).to_json(), "coordinates": [None]}),
        line({**planned(1).to_json(), "coordinates": 3}),
        line({**planned(1).to_json(), "coordinates": [10**400]}),
        line({**planned(1).to_json(), "coordinates": [1.5]}),
        line({**planned(1).to_json(), "hyperparameters": {"a": [1]}}),
        line({**planned(1).to_json(), "hyperparameters": []}),
        line({**planned(1).to_json(), "color": "red"}),
        line({**planned(1).to_json(), "training": {"max_train_steps": {"every": 5}}}),
        line({**planned(1).to_json(), "training": {"curvature": 5}}),
        line({**planned(1).to_json(), "training": {"checkpoints": {"folder": "/runs/small", "trial": 3}}}),
        line({**planned(1).to_json(), "training": {"curvature": {"evry": 5}}}),
        line({**planned(1).to_json(), "training": {"curvature": {"measures": ["lambda"]}}}),
        line(planned(2).to_json()),
        line(planned(0).to_json()),
        line(planned(1, point=0).to_json()),
    ],
)
def test_a_damaged_complete_line_of_the_plan_is_refused_by_its_number(tmp_path, damaged):
    path = tmp_path / "plan.jsonl"
    path.write_bytes(line(planned(0).to_json()) + damaged + line(planned(2).to_json()))
    with pytest.raises(FolderError, match=r"plan\.jsonl:2: "):
        read_plan(path)


def test_trials_that_do_not_follow_the_plan_are_not_appended(tmp_path):
    path = tmp_path / "plan.jsonl"
    append_plan(path, [planned(0)])
    before = path.read_bytes()
    for trials in ([planned(0)], [planned(2)], [planned(1), planned(1)]):
        with pytest.raises(FolderError, match="expected trial 1 to be added next"):
            append_plan(path, trials)
    assert path.read_bytes() == before


def test_a_plan_that_is_a_folder_is_a_clear_error(tmp_path):
    (tmp_path / "plan.jsonl").mkdir()
    for act in (read_plan, lambda path: append_plan(path, [planned(0)])):
        with pytest.raises(FolderError, match=r"plan\.jsonl: cannot be (read|written): Is a directory"):
            act(tmp_path / "plan.jsonl")


def test_a_full_disk_while_appending_takes_the_half_line_back(tmp_path, monkeypatch):
    path = tmp_path / "lines.jsonl"
    append(path, [{"a": 1}])
    before = path.read_bytes()
    real = __import__("os").pwrite
    calls = []

    def pwrite(descriptor, content, offset):
        calls.append(offset)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, content[:3], offset)

    monkeypatch.setattr("os.pwrite", pwrite)
    with pytest.raises(FolderError, match="No space left on device"):
        append(path, [{"b": 2}])
    assert path.read_bytes() == before


def test_a_torn_tail_longer_than_a_block_is_cut_off(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"x" * 200_000)
    append(path, [{"b": 2}])
    assert parse(path.read_bytes()) == [{"a": 1}, {"b": 2}]


def test_lines_parsed_at_once_are_what_they_are_one_by_one():
    lines = [
        b'{"a": [1, 2]}',
        b'{"b": "\xc3\xa9"}',
        b"{}",
        b'{"a": 1}, {"b": 2}',
        b'{"a": 1',
        b'"b": 2}',
        b"3",
        b"",
        b"\xff",
    ]
    for first in lines:
        for second in lines:
            expected = []
            for one in (first, second):
                try:
                    value = json.loads(one)
                except ValueError:
                    value = None
                expected.append(value if isinstance(value, dict) else None)
            assert parse(first + b"\n" + second + b"\ntorn") == expected
