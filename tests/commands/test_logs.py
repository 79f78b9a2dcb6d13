"""`logs`: the whole log of a trial, its last lines, and a log that grows until the trial has ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder

from tunectl.cli.main import main
from tunectl.commands.logs import trial_log
from tunectl.core.errors import FolderError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.core.records import TrialResult
from tunectl.execution.runner_lock import acquire
from tunectl.store.trial_files import write_result

RATE = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}
LINES = [f"line {number}\n".encode() for number in range(20_000)]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return made_up_folder(tmp_path / "runs" / "a", study_text(RATE, search="{trials: 2}"), lambda _: 0.5)


def at_work(folder: StudyFolder, trial: int) -> None:
    """As if the trial had not ended yet."""
    folder.trial(trial).result.unlink()


def end(folder: StudyFolder, trial: int) -> None:
    write_result(folder.trial(trial), TrialResult(trial=trial, state="completed"))


class Waits:
    """In place of the time between two reads: each call does the next of these actions."""

    def __init__(self, *actions: Callable[[], object]) -> None:
        self.actions: Iterator[Callable[[], object]] = iter(actions)

    def __call__(self) -> None:
        next(self.actions)()


def append(path: Path, text: bytes) -> Callable[[], None]:
    def act() -> None:
        with open(path, "ab") as file:
            file.write(text)

    return act


def test_a_log_is_printed_byte_for_byte_whatever_is_in_it(folder: StudyFolder) -> None:
    content = b"\x1b[32m 50%\r100%\xff\x00\n" + b"".join(LINES) + b"no end of line"
    folder.trial(1).log.write_bytes(content)
    assert b"".join(trial_log(folder.path, 1)) == content


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8_000, 19_999, 20_000, 30_000])
@pytest.mark.parametrize("tail", [b"", b"torn"])
def test_the_last_lines_are_those_at_the_end(folder: StudyFolder, count: int, tail: bytes) -> None:
    lines = [*LINES, tail] if tail else LINES
    folder.trial(0).log.write_bytes(b"".join(lines))
    assert b"".join(trial_log(folder.path, 0, last_lines=count)) == b"".join(
        lines[len(lines) - min(count, len(lines)) :]
    )


def test_an_empty_log_and_one_of_blank_lines(folder: StudyFolder) -> None:
    folder.trial(0).log.write_bytes(b"")
    assert b"".join(trial_log(folder.path, 0, last_lines=5)) == b""
    folder.trial(0).log.write_bytes(b"\n\n\n")
    assert b"".join(trial_log(folder.path, 0, last_lines=2)) == b"\n\n"


def test_a_log_is_followed_until_its_trial_has_ended(folder: StudyFolder) -> None:
    log = folder.trial(1).log
    log.write_bytes(b"one\n")
    at_work(folder, 1)
    lock = acquire(folder.lock)

    # What is written between the last look and the end is shown, too.
    def write_and_end() -> None:
        append(log, b"three\n")()
        end(folder, 1)

    waits = Waits(lambda: None, append(log, b"two\n"), write_and_end)
    try:
        assert list(trial_log(folder.path, 1, follow=True, wait=waits)) == [b"one\n", b"two\n", b"three\n"]
    finally:
        lock.release()
    with pytest.raises(StopIteration):
        waits()


def test_following_waits_for_a_trial_to_begin_and_goes_on_over_its_attempts(folder: StudyFolder) -> None:
    at_work(folder, 0)
    home = folder.trial(0)
    home.log.unlink(missing_ok=True)
    lock = acquire(folder.lock)
    lost = b'{"attempt": 1, "reason": "lost", "message": "m", "final": false, "seconds": 1.0}\n'
    waits = Waits(
        lambda: None,
        append(home.log, b"one\n"),
        append(home.attempts, lost),
        append(home.log, b"two\n"),
        lambda: end(folder, 0),
    )
    try:
        assert b"".join(trial_log(folder.path, 0, follow=True, wait=waits)) == b"one\ntwo\n"
    finally:
        lock.release()


def test_following_ends_where_no_runner_is_at_work(folder: StudyFolder) -> None:
    at_work(folder, 1)
    folder.trial(1).log.write_bytes(b"one\n")
    lock = acquire(folder.lock)
    waits = Waits(lambda: lock.release())
    assert b"".join(trial_log(folder.path, 1, follow=True, wait=waits)) == b"one\n"


def test_a_missing_study_trial_or_log_is_an_error(folder: StudyFolder, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="not a study folder"):
        trial_log(tmp_path, 0)
    with pytest.raises(UsageError, match="trial 2 not found: expected one from 0 to 1"):
        trial_log(folder.path, 2)
    folder.trial(0).log.unlink(missing_ok=True)
    for follow in (False, True):
        with pytest.raises(FolderError, match="trial 0 has not begun, and no runner is at work"):
            list(trial_log(folder.path, 0, follow=follow))


def test_the_command_prints_the_log_and_how_the_trial_ended(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.trial(1).log.write_bytes("é\n".encode() + b"\xff\n" * 2)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tunectl", "logs", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    assert call(folder.path, 1) == (0, "é\n�\n�\n", "")
    assert call(folder.path, "00001", "--lines", 1, "-f") == (0, "�\n", "trial 1: completed\n")
    assert call(folder.path, 7)[0] == 2
    assert call(folder.path, -1)[0] == 2
    assert call(folder.path.parent, 1)[0] == 3
    folder.trial(1).log.write_bytes(b"")
    assert call(folder.path, 1) == (0, "", "trial 1 has no output\n")
