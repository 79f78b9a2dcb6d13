from __future__ import annotations

import errno
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunectl.core.folders import TrialFolder
from tunectl.core.line_file import LineFile, holds
from tunectl.core.objective import Objective
from tunectl.training.checkpoints import BestCheckpoints, UnreadableError, UnusableResume, load, save, set_aside


def touch(path: Path) -> None:
    path.write_bytes(b"x")


def steps_kept(folder: TrialFolder) -> list[int]:
    return sorted(int(path.stem.split("-")[1]) for path in folder.checkpoints.glob("step-*.pt"))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("keep", [1, 3])
def test_the_best_are_kept_ties_go_to_the_earlier_step_and_no_value_that_is_not_finite(
    folder: TrialFolder, direction: Any, keep: int
):
    values = np.random.default_rng(0).integers(0, 5, 40).astype(float)
    values[[0, 7, 8]] = [math.nan, math.inf, -math.inf]
    best = BestCheckpoints(folder, Objective("valid/x", direction), keep)
    sign = 1 if direction == "minimize" else -1
    for step, value in enumerate(values.tolist()):
        best.offer(step, value, touch)
        best.prune()
        finite = [(sign * v, s) for s, v in enumerate(values[: step + 1].tolist()) if math.isfinite(v)]
        oracle = sorted(finite)[:keep]
        assert [entry[0] for entry in best.entries()] == [s for _, s in oracle]
        assert steps_kept(folder) == sorted(s for _, s in oracle)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_where_a_trial_counts_by_its_end_the_last_are_kept_whatever_their_values(folder: TrialFolder, direction: Any):
    objective = Objective("valid/x", direction, "final")
    best = BestCheckpoints(folder, objective, 2)
    for step, value in enumerate([0.1, 0.5, math.nan, 0.3, math.inf], start=1):
        assert best.offer(step, value, touch) == f"step-{step:08d}.pt"
        best.prune()
        assert steps_kept(folder) == [kept for kept in (step - 1, step) if kept > 0]
    assert [step for step, _ in BestCheckpoints(folder, objective, 1, best.entries()).entries()] == [5]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (1, [[10], [20], [30], [30], [30], [30]]),
        (2, [[10], [10, 20], [20, 30], [30, 40], [30, 40], [30, 60]]),
    ],
)
def test_the_first_evaluation_at_the_target_keeps_its_file_and_before_it_the_best_do(
    folder: TrialFolder, keep: int, kept: list[list[int]]
):
    objective = Objective("valid/x", "maximize", steps_to=0.8)
    best = BestCheckpoints(folder, objective, keep)
    for step, value, expected in zip(range(10, 70, 10), [0.5, 0.6, 0.8, 0.9, 0.7, 0.95], kept, strict=True):
        # As a resumed trial has it: the list of what the one before it had kept.
        best = BestCheckpoints(folder, objective, keep, best.entries())
        best.resume_removed()
        best.offer(step, value, touch)
        best.prune()
        assert steps_kept(folder) == expected


def test_a_trial_that_goes_back_to_before_the_target_keeps_the_evaluation_that_reaches_it_then(folder: TrialFolder):
    best = BestCheckpoints(folder, Objective("valid/x", "maximize", steps_to=0.8), 1)
    best.offer(10, 0.5, touch)
    good = best.entries()
    best.hold([10])
    best.offer(20, 0.85, touch)
    best.prune()
    best.go_back(good)
    best.prune()
    assert steps_kept(folder) == [10]
    for step, value in ((20, 0.7), (30, 0.8), (40, 0.9)):
        best.offer(step, value, touch)
    best.hold([])
    best.prune()
    assert steps_kept(folder) == [30]


def test_an_evaluation_that_is_not_among_the_best_writes_nothing(folder: TrialFolder):
    best = BestCheckpoints(folder, Objective("valid/x", "minimize"), 1)
    assert best.offer(1, 0.5, touch) == "step-00000001.pt"
    assert best.offer(2, 0.5, touch) is None
    assert best.offer(3, None, touch) is None
    assert steps_kept(folder) == [1]


def test_a_file_that_a_written_resume_or_the_one_before_it_lists_outlives_its_place(folder: TrialFolder):
    best = BestCheckpoints(folder, Objective("valid/x", "minimize"), 1)
    best.offer(1, 0.5, touch)
    best.resume_written()
    best.offer(2, 0.4, touch)
    best.prune()
    best.offer(3, 0.3, touch)
    best.prune()
    assert steps_kept(folder) == [1, 3]
    best.resume_written()
    best.prune()
    assert steps_kept(folder) == [1, 3], "should the new resume.pt be damaged, the one before it lists 1"
    best.resume_written()
    best.prune()
    assert steps_kept(folder) == [3]
    best.offer(4, 0.2, touch)
    best.resume_written()
    best.previous_removed()
    best.prune()
    assert steps_kept(folder) == [4]


def test_pruning_removes_unfinished_checkpoints_and_nothing_of_others(folder: TrialFolder):
    best = BestCheckpoints(folder, Objective("valid/x", "minimize"), 1)
    for name in (".step-00000009.pt.tmp", "step-00000009.pt", "mine.pt", "notes.txt"):
        touch(folder.checkpoints / name)
    best.prune()
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["mine.pt", "notes.txt"]


def test_a_listed_file_that_is_gone_is_no_longer_listed_and_a_smaller_number_keeps_fewer(folder: TrialFolder):
    folder.checkpoints.mkdir()
    for step in (1, 2, 3):
        touch(folder.checkpoint(step))
    folder.checkpoint(2).unlink()
    best = BestCheckpoints(folder, Objective("valid/x", "minimize"), 1, [(2, 0.1), (3, 0.2), (1, 0.3)])
    assert best.entries() == [(3, 0.2)]


def test_saved_parts_are_loaded_without_running_code(tmp_path: Path):
    path = tmp_path / "a.pt"
    save(path, {"format": 1, "model": {"w": torch.ones(2)}, "list": [1, 2.5, "x", None]})
    assert load(path)["list"] == [1, 2.5, "x", None]


def test_every_flipped_byte_is_found_and_torch_reads_the_whole_file(tmp_path: Path):
    path = tmp_path / "a.pt"
    save(path, {"format": 1, "model": torch.arange(50.0)})
    assert torch.equal(torch.load(path, weights_only=True)["model"], torch.arange(50.0))
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UnusableResume):
            load(path)


@dataclass
class Schedule:
    length: int


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "text"])
def test_a_damaged_checkpoint_is_named_as_such(tmp_path: Path, damage: str):
    path = tmp_path / "a.pt"
    save(path, {"format": 1, "model": {"w": torch.ones(500)}})
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:60] + bytes([content[60] ^ 255]) + content[61:]
    path.write_bytes({"truncated": content[:middle], "empty": b"", "flipped": flipped, "text": b"hello\n"}[damage])
    with pytest.raises(UnusableResume, match=r"a\.pt is damaged"):
        load(path)


def test_a_checkpoint_of_another_version_is_whole_and_not_taken_for_a_damaged_one(tmp_path: Path):
    path = tmp_path / "a.pt"
    save(path, {"format": 99})
    with pytest.raises(
        UnreadableError, match=r"a\.pt is whole, but cannot be loaded: expected format 1, got another one. It is kept"
    ):
        load(path)


def test_a_checkpoint_with_a_type_that_is_not_known_names_the_type_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.pt"
    with monkeypatch.context() as patch:
        patch.setattr("tunectl.training.saved_state.check", lambda _parts: None)  # as earlier versions saved
        save(path, {"format": 1, "content": {"schedule": Schedule(3)}})
    with pytest.raises(
        UnreadableError, match=r"it contains test_checkpoints\.Schedule\. .* Remove it to start the trial over"
    ):
        load(path)
    with torch.serialization.safe_globals([Schedule]):
        assert load(path)["content"]["schedule"] == Schedule(3)


def test_memory_that_runs_out_while_a_checkpoint_is_loaded_says_nothing_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.pt"
    save(path, {"format": 1})

    def full(_file: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr("tunectl.training.saved_state.read", full)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load(path)


def test_a_full_disk_is_an_oserror_and_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.pt"
    save(path, {"format": 1, "x": 1})

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None: ...

    from tunectl.training import checkpoints

    original = checkpoints._Checked
    monkeypatch.setattr(checkpoints, "_Checked", lambda file: original(Full(file)))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="No space left"):
        save(path, {"format": 1, "x": 2})
    assert load(path)["x"] == 1
    assert [item.name for item in tmp_path.iterdir()] == ["a.pt"]


def test_lines_are_cut_back_to_an_offset_and_go_on_from_there(tmp_path: Path):
    path = tmp_path / "lines.jsonl"
    lines = LineFile(path)
    lines.append({"a": 1})
    offset = lines.offset
    lines.append({"b": 2})
    lines.close()
    assert holds(path, offset)
    assert not holds(path, offset - 1)
    assert not holds(path, 10**6)
    assert not holds(tmp_path / "none", 5)
    assert holds(tmp_path / "none", 0)
    again = LineFile(path, offset)
    again.append({"c": 3})
    again.close()
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [{key: value for key, value in line.items() if key != "crc32"} for line in found] == [{"a": 1}, {"c": 3}]


def test_what_is_set_aside_takes_no_name_that_is_taken_not_even_by_a_link_to_nothing(folder: TrialFolder):
    folder.resume.write_bytes(b"what was saved")
    link = folder.resume.with_name("resume.pt.kept-1")
    link.symlink_to("nowhere")
    assert set_aside(folder.resume, folder) == folder.resume.with_name("resume.pt.kept-2")
    assert link.readlink() == Path("nowhere")
    assert folder.resume.with_name("resume.pt.kept-2").read_bytes() == b"what was saved"
