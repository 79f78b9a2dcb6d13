"""Which files trials write together, as snapshots show it. Tests shared_files.py and folder_snapshot.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunectl.execution import folder_snapshot
from tunectl.execution.folder_snapshot import take_snapshot
from tunectl.execution.shared_files import WrittenFiles
from tunectl.store.written_files import keep_written, read_written


class Watched:
    """A folder with a snapshot after each stretch of time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found = WrittenFiles(folder)
        self.found.begin(take_snapshot(folder))
        self.clock = 0

    def write(self, path: str, content: str, mode: str = "w") -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, mode) as opened:
            opened.write(content)
        self.clock += 1
        os.utime(file, ns=(self.clock, self.clock))  # two writes within a tick of the clock are two all the same

    def ran(self, *trials: int, ended: int | None = None) -> None:
        ends = frozenset(() if ended is None else (ended,))
        self.found.take(take_snapshot(self.folder), frozenset(trials), ends)

    def shared(self) -> dict[str, str | None]:
        return {path: item.how for path, item in self.found.files.items() if item.is_shared}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.pt").write_text("from long ago")
    return Watched(tmp_path)


def test_a_file_that_two_trials_overwrite_one_after_the_other_is_shared(watched: Watched) -> None:
    for trial in (0, 1):
        watched.write("out/model.pt", str(trial))
        watched.write("out/old.pt", str(trial))
        watched.ran(trial)
    assert watched.shared() == {"out/model.pt": "overwritten", "out/old.pt": "overwritten"}
    assert watched.found.files["out/model.pt"].trials == (frozenset({0}), frozenset({1}))


def test_what_one_trial_may_have_written_alone_is_its_own(watched: Watched) -> None:
    for step, trials in enumerate([(1, 2), (2, 3), (2,), (0, 2)]):
        watched.write("out/2.pt", str(step))
        watched.ran(*trials)
    assert watched.shared() == {}
    assert watched.found.files["out/2.pt"].alone == {2}
    watched.write("out/2.pt", "another")
    watched.ran(0, 3)
    assert watched.shared() == {"out/2.pt": "overwritten"}


@pytest.mark.parametrize(
    ("first", "then", "mode", "how"),
    [
        ("a\n", "b\n", "a", "appended"),
        ("abc", "abc", "w", "identical"),
        ("abc", "abd", "w", "overwritten"),
        ("abc", "abdef", "w", "overwritten"),
        ("abc", "ab", "w", "overwritten"),
        ("", "abc", "w", "overwritten"),
        ("a" * 2**25, "b", "a", "appended"),
        ("a" * 2**25, "a" * 2**24 + "b" * 2**24, "w", "overwritten"),
    ],
)
def test_how_a_file_is_changed_is_seen_in_its_bytes(
    watched: Watched, first: str, then: str, mode: str, how: str
) -> None:
    watched.write("log", first)
    watched.ran(0)
    watched.write("log", then, mode)
    watched.ran(1)
    assert watched.shared() == {"log": how}


def test_a_file_that_was_overwritten_once_is_no_log_afterwards(watched: Watched) -> None:
    for trial, (content, mode) in enumerate([("a", "w"), ("b", "w"), ("c", "a")]):
        watched.write("state", content, mode)
        watched.ran(trial)
    assert watched.shared() == {"state": "overwritten"}


def test_a_replaced_file_and_one_of_the_same_size_and_time_are_changed(watched: Watched) -> None:
    watched.write("model", "abc")
    watched.ran(0)
    (watched.folder / "new").write_text("abd")
    os.utime(watched.folder / "new", ns=(watched.clock, watched.clock))
    (watched.folder / "new").rename(watched.folder / "model")
    watched.ran(1)
    assert watched.shared() == {"model": "overwritten"}


def test_a_temporary_file_is_forgotten(watched: Watched) -> None:
    for trial in (0, 1):
        watched.write("scratch", str(trial))
        watched.ran(trial)
        (watched.folder / "scratch").unlink()
        watched.ran(trial)
    assert watched.shared() == {}


def test_a_source_file_that_is_edited_meanwhile_is_no_trial_s(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("1")
    watched = Watched(tmp_path)
    for trial in (0, 1):
        watched.write("train.py", str(trial))
        watched.write("made.yaml", str(trial))
        watched.ran(trial)
    assert watched.shared() == {"made.yaml": "overwritten"}


def test_what_earlier_runs_wrote_is_remembered_and_a_change_between_runs_is_no_trial_s(watched: Watched) -> None:
    kept = watched.folder.parent / "written.jsonl"
    for name in ("model.pt", "edited.pt"):
        watched.write(name, "0")
    watched.ran(0)
    keep_written(kept, list(watched.found.files.values()), None, print)
    with open(kept, "ab") as file:
        file.write(b'no json\n{"path": 3}\n{"torn')
    watched.write("edited.pt", "by hand")
    again = Watched(watched.folder)
    again.clock = 100
    again.found = WrittenFiles(again.folder, *read_written(kept))
    again.found.begin(take_snapshot(again.folder))
    assert again.shared() == {}
    again.write("model.pt", "1")
    again.ran(1)
    assert again.shared() == {"model.pt": "overwritten"}
    # The trial that was interrupted goes on with its own file.
    again.write("edited.pt", "2")
    again.ran(0)
    assert again.shared() == {"model.pt": "overwritten"}


def test_where_all_trials_run_at_once_a_file_without_a_like_that_changes_at_each_end_is_shared(
    watched: Watched,
) -> None:
    for trial in range(3):
        for name in ("model.pt", f"own-{trial}.csv"):
            watched.write(name, f"{trial}")
        watched.write("log.txt", "a line", "a")
        watched.ran(*range(trial, 3), ended=trial)
    assert watched.shared() == {}
    watched.found.take_for_shared(frozenset(range(3)))
    assert watched.shared() == {"model.pt": "overwritten"}


def test_where_every_trial_has_a_file_of_the_kind_none_is_taken_for_shared(watched: Watched) -> None:
    for trial in range(3):
        for own in range(trial, 3):
            watched.write(f"model-{own}.pt", f"{trial} {own}")
        watched.ran(*range(trial, 3), ended=trial)
    watched.found.take_for_shared(frozenset(range(3)))
    assert watched.shared() == {}


def test_fewer_folders_with_numbers_than_trials_are_shared_ones(watched: Watched) -> None:
    def made(name: str, trials: int) -> None:
        watched.write(f"outputs/2026-01-01/{name}/.hydra/config.yaml", name)
        snapshot = take_snapshot(watched.folder)
        watched.found.take(snapshot, frozenset({0}))
        watched.found.count_folders(snapshot, trials)

    made("10-00-00", 1)
    made("10-00-07", 2)
    before = watched.found.shared_folders
    assert before is None
    made("10-00-07", 4)
    found = watched.found.shared_folders
    assert found is not None
    assert (found.example, found.folders, found.trials) == ("outputs/2026-01-01/10-00-07", 2, 4)


def test_folders_that_are_named_by_values_are_counted_together(watched: Watched) -> None:
    for count, name in enumerate(["adam_lr0.1", "sgd_lr1e-05", "adam_lr3"], start=1):
        watched.write(f"runs/{name}/metrics.csv", name)
        watched.found.count_folders(take_snapshot(watched.folder), count)
    assert watched.found.shared_folders is None


def test_caches_environments_and_study_folders_are_not_looked_at(tmp_path: Path) -> None:
    for path in (".git/HEAD", "a/__pycache__/x.pyc", "wandb/latest", "env/pyvenv.cfg", "env/lib/x", "a/.mypy_cache/y"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    for name in ("study.yaml", "plan.jsonl", "trials/log.txt"):
        (tmp_path / "runs" / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / "own" / name).write_text("")
    (tmp_path / "a" / "kept.pt").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert set(take_snapshot(tmp_path).files) == {"a/kept.pt"}


def test_a_folder_with_very_many_files_is_skipped_from_the_first_snapshot_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_snapshot, "MOST_IN_A_FOLDER", 5)
    monkeypatch.setattr(folder_snapshot, "MOST_ENTRIES", 12)
    for folder, count in (("data", 6), ("a", 5), ("b", 5), ("c", 5)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / str(number)).write_text("")
    first = take_snapshot(tmp_path)
    assert "data" in first.skipped
    assert len(first.skipped) == 3  # of a, b and c there is room for one
    assert len(first.files) == 5
    (tmp_path / "new.pt").write_text("")
    later = take_snapshot(tmp_path, first.skipped)
    assert set(later.files) == {*first.files, "new.pt"}
    for number in range(30):
        (tmp_path / f"{number}.pt").write_text("")
    assert not take_snapshot(tmp_path, first.skipped).is_whole


def unclear(watched: Watched, *trials: int, texts: tuple[str, ...] = ()) -> dict[str, list[int]]:
    watched.found.take_for_unclear(frozenset(trials), frozenset(texts))
    return {path: sorted(item.unclear) for path, item in watched.found.files.items() if item.unclear}


@pytest.mark.parametrize("alone_first", [False, True])
def test_one_change_at_the_common_end_of_two_trials_is_unclear(watched: Watched, *, alone_first: bool) -> None:
    if alone_first:  # as `last.pt`, which the first trial writes at its first evaluation, too
        watched.write("last.pt", "0 at first")
        watched.ran(0)
    for trial in (0, 1):
        for name in ("last.pt", "best.pt", f"own_{trial}.csv"):
            watched.write(name, f"{trial} at the end")
    watched.ran(0, 1, ended=0)
    watched.ran(1, ended=1)
    assert watched.shared() == {}
    assert unclear(watched, 0, 1) == {"last.pt": [0, 1], "best.pt": [0, 1]}


@pytest.mark.parametrize(
    "names",
    [
        ("model-0.pt", "model-1.pt"),
        ("runs/a3f9/model.pt", "runs/b77c/model.pt"),
        ("fluffy-cloud-1/model.pt", "misty-sun-2/model.pt"),
        ("model_adam.pt", "model_sgd.pt"),
        ("model_lr0.1", "model_lr0.02"),
        ("run.17", "run.18"),
        ("tmpabcdefgh/model.pt", "tmpqwertyui/model.pt"),
    ],
)
def test_files_of_which_each_trial_has_its_own_are_not_unclear(watched: Watched, names: tuple[str, str]) -> None:
    for name in names:
        watched.write(name, name)
    watched.ran(0, 1, ended=0)
    assert unclear(watched, 0, 1, texts=("adam", "SGD")) == {}


def test_a_name_with_a_number_that_only_one_file_has_is_unclear(watched: Watched) -> None:
    watched.write("resnet18_lr0.1.pt", "0")
    watched.ran(0, 1, ended=0)
    assert unclear(watched, 0, 1) == {"resnet18_lr0.1.pt": [0, 1]}


def test_what_not_every_trial_that_completed_can_have_written_is_clear(watched: Watched) -> None:
    watched.write("data/processed.pt", "made by the first one for all")
    watched.ran(0)
    watched.write("log.txt", "0")
    watched.write("vocabulary", "a b c")
    watched.ran(0, 1)
    watched.write("log.txt", "1", "a")
    watched.write("vocabulary", "a b c")
    watched.ran(0, 1, ended=0)
    watched.write("model.pt", "1")
    watched.ran(1, 2, ended=1)
    assert unclear(watched, 0, 1, 2) == {}
    assert unclear(watched, 1) == {}
    assert unclear(watched, 0, 1) == {}
    assert unclear(watched, 1, 2) == {"model.pt": [1, 2]}


def test_an_unclear_file_is_remembered_and_clear_when_another_trial_writes_it(watched: Watched) -> None:
    watched.write("model.pt", "0")
    watched.ran(0, 1, ended=0)
    assert unclear(watched, 0, 1)
    kept = watched.folder.parent / "unclear.jsonl"
    keep_written(kept, list(watched.found.files.values()), None, print)
    again = Watched(watched.folder)
    again.clock = 100
    again.found = WrittenFiles(again.folder, *read_written(kept))
    again.found.begin(take_snapshot(again.folder))
    assert [sorted(item.unclear) for item in again.found.files.values()] == [[0, 1]]
    again.write("model.pt", "2")
    again.ran(2, ended=2)
    assert again.shared() == {"model.pt": "overwritten"}


def test_a_line_without_the_field_is_read_as_clear(tmp_path: Path) -> None:
    line = '{"path": "a", "mark": [1, 2, 3], "alone": [0, 1], "digest": "", "worst": "identical", "how": null'
    (tmp_path / "written.jsonl").write_text(line + ', "trials": null}\n')
    assert [item.unclear for item in read_written(tmp_path / "written.jsonl")[0].values()] == [frozenset()]


def test_a_look_without_trials_that_had_not_begun_shows_that_several_wrote_a_file(watched: Watched) -> None:
    every, take = frozenset(range(4)), watched.found.take
    for look, ran in enumerate((every, every - {0}), start=1):
        watched.write("out/model.pt", str(look))
        watched.write(f"out/{look}.pt", str(look))
        take(take_snapshot(watched.folder), ran, frozenset(), look)
    assert watched.shared() == {}
    watched.found.narrow(1, {2, 3})
    assert watched.shared() == {}, "trial 1 may have written it both times"
    found = {item.path: item for item in watched.found.narrow(2, {1})}["out/model.pt"]
    assert (found.path, found.how, found.trials) == (
        "out/model.pt",
        "overwritten",
        (frozenset({0, 1}), frozenset({2, 3})),
    )
    assert watched.found.take_for_unclear(every, frozenset()) == []


def test_some_trial_ran_where_a_file_was_written(watched: Watched) -> None:
    watched.write("out/model.pt", "0")
    watched.found.take(take_snapshot(watched.folder), {0, 1}, frozenset(), 1)
    assert watched.found.narrow(1, {0, 1, 2}) == []
    assert watched.found.files["out/model.pt"].alone == {0, 1}
