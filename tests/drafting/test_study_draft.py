"""Tests drafting/study_draft.py, starter_study.py and help_request.py: the studies that `init` writes."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from marked_lines import fill_in
from study_calls import Called

from tunectl.core.errors import StudyError, UsageError
from tunectl.drafting.command_draft import MARK
from tunectl.drafting.help_request import request_help
from tunectl.drafting.study_draft import StudiedCommand, draft_study
from tunectl.session.checked_study import check_study
from tunectl.space.domains import FixedValue

PYTHON = sys.executable
SCRIPT = """\
import argparse
p = argparse.ArgumentParser()
p.add_argument("--lr", type=float, default=0.1, help="learning rate (default: %(default)s)")
p.add_argument("--wd", type=float, default=1e-4)
p.add_argument("--epochs", type=int, default=3)
a = p.parse_args()
for epoch in range(1, a.epochs + 1):
    print(f"epoch {epoch}/{a.epochs}: loss {a.lr / epoch}, valid/loss {a.lr + a.wd}")
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def test_the_example_study_runs_unchanged(tmp_path: Path, tunectl: Callable[..., Called]) -> None:
    drafted = draft_study(tmp_path / "new one" / "study.yaml")
    checked = check_study(drafted.files[0], tmp_path)
    assert (checked.warnings, checked.unseen) == ((), "")
    # One short trial of each setting is enough to see that its workload trains.
    text = (
        drafted.files[0]
        .read_text()
        .replace("trials: 8", "trials: 1")
        .replace("max_train_steps: 300", "max_train_steps: 60")
    )
    drafted.files[0].write_text(text)
    ended = tunectl("run", drafted.files[0], "--quiet", "--json")
    assert ended.code == 0, ended.err
    assert ended.json()["states"]["completed"] == 2


def test_nothing_is_written_over(tmp_path: Path, script: Path) -> None:
    (tmp_path / "workload.py").write_text("mine")
    with pytest.raises(UsageError, match=r"workload.py: already exists"):
        draft_study(tmp_path / "study.yaml")
    assert not (tmp_path / "study.yaml").exists()
    (tmp_path / "study.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"study.yaml: already exists"):
        draft_study(tmp_path / "study.yaml", StudiedCommand(f"{PYTHON} train.py", tmp_path))
    assert (tmp_path / "workload.py").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_script_becomes_a_study_with_lines_to_fill_in_for_what_its_help_does_not_say(
    tmp_path: Path, script: Path
) -> None:
    drafted = draft_study(
        tmp_path / "study.yaml", StudiedCommand(f"{PYTHON} train.py --lr 0.5", tmp_path, place=["wd"])
    )
    assert drafted.notes == ()
    lines = drafted.files[0].read_text().splitlines()
    assert [number for number, _ in drafted.to_fill_in] == [n for n, line in enumerate(lines, start=1) if MARK in line]
    assert [text.partition(":")[0] for _, text in drafted.to_fill_in] == ["regex", "metric", "direction"]
    with pytest.raises(StudyError) as caught:
        check_study(drafted.files[0], tmp_path)
    assert [problem.line for problem in caught.value.problems] == [number for number, _ in drafted.to_fill_in]
    filled = {
        "regex": r"regex: 'epoch (?P<step>\d+).*?valid/loss (?P<valid__loss>\S+)'",
        "metric": "metric: valid/loss",
    }
    filled["direction"] = "direction: minimize"
    fill_in(drafted.files[0], filled)
    checked = check_study(drafted.files[0], tmp_path)
    (warning,) = checked.warnings
    assert "names the trial's seed" in warning.message
    assert checked.spec.name == "train"
    assert checked.spec.training.max_train_steps == 3
    assert {item.name: item.domain for item in checked.spec.hyperparameters} == {
        "learning_rate": FixedValue(0.5),
        "weight_decay": FixedValue(1e-4),
    }


def test_a_sample_of_its_output_leaves_nothing_to_be_filled_in(tmp_path: Path, script: Path) -> None:
    (tmp_path / "sample.txt").write_text("starting\nepoch 1/3: loss 0.1, valid/loss 0.2\n")
    path = tmp_path / "studies" / "mine.yaml"
    line, sample = f"{PYTHON} train.py --lr 0.1", tmp_path / "sample.txt"
    drafted = draft_study(path, StudiedCommand(line, tmp_path, "valid/loss", "minimize", sample=sample))
    assert drafted.to_fill_in == ()
    spec = check_study(path, tmp_path).spec
    assert spec.name == "mine"
    assert spec.program is not None
    # It runs where the line would be typed, wherever its file is.
    assert spec.program.folder == str(tmp_path)
    assert spec.program.sources[0].where.startswith(r"\bepoch")


@pytest.mark.parametrize("metric", [None, "valid/los"])
def test_a_missing_metric_is_marked_with_the_names_in_the_sample(
    tmp_path: Path, script: Path, metric: str | None
) -> None:
    (tmp_path / "sample.txt").write_text("epoch 1/3: loss 0.1, valid/loss 0.2\n")
    path = tmp_path / "mine.yaml"
    line = f"{PYTHON} train.py --lr 0.1"
    drafted = draft_study(path, StudiedCommand(line, tmp_path, metric, sample=tmp_path / "sample.txt"))
    assert "metric: the metric to select by (found in the sample: loss, valid/loss)" in [
        text for _, text in drafted.to_fill_in
    ]
    assert "valid__loss" in path.read_text(), "what was read of the sample is kept"
    assert any("did you mean valid/loss?" in note for note in drafted.notes) is (metric is not None)


def test_a_script_that_has_no_help_gives_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import sys; sys.exit('no such option: ' + sys.argv[1])")
    drafted = draft_study(tmp_path / "study.yaml", StudiedCommand(f"{PYTHON} train.py --lr 0.5", tmp_path))
    assert drafted.notes[0].endswith(
        "(it ended with exit code 1: no such option: --help): the study has only the options in the line"
    )
    assert "learning_rate: 0.5" in drafted.files[0].read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "expected a command such as"),
        ("A=1", "expected a command such as"),
        ("python 'train.py", "is not a valid command line: No closing quotation"),
        (f"{PYTHON} train.py > log.txt", "the line is not run by a shell, so it cannot contain >"),
        ("no-such-program-at-all --lr 1", "program 'no-such-program-at-all' not found"),
        (f"{PYTHON} nothere.py", "file nothere.py not found"),
        (PYTHON, "starts no script; give the whole command"),
        (f"env {PYTHON} -u", "starts no script; give the whole command"),
    ],
)
def test_a_line_that_is_not_a_command_is_refused(tmp_path: Path, script: Path, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        draft_study(tmp_path / "study.yaml", StudiedCommand(line, tmp_path))
    assert not (tmp_path / "study.yaml").exists()


def test_a_message_comes_before_the_script_is_called(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("open('called', 'w').close()")
    said: list[tuple[str, bool]] = []
    draft_study(
        tmp_path / "study.yaml",
        StudiedCommand(f"{PYTHON} train.py", tmp_path),
        lambda text: said.append((text, (tmp_path / "called").exists())),
    )
    assert said == [(f"calling {PYTHON} train.py --help (at most 60 seconds)", False)]
    assert (tmp_path / "called").exists()


def test_a_name_with_blanks_and_accents_is_quoted_and_folded(
    tmp_path: Path, script: Path, tunectl: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = tunectl("init", "--from", f"{PYTHON} train.py", "--out", "my code/étude 1.yaml")
    assert ended.code == 0, ended.err
    last = ["  tunectl check 'my code/étude 1.yaml'", "  tunectl run 'my code/étude 1.yaml'"]
    assert ended.out.splitlines()[-2:] == last
    assert "calling " in ended.err
    assert "study: etude-1\n" in (tmp_path / "my code" / "étude 1.yaml").read_text()


def test_the_help_comes_from_the_python_that_will_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a trial: where no environment is active, python is tunectl's."""
    (tmp_path / "bin").mkdir()
    other = tmp_path / "bin" / "python"
    other.write_text("#!/bin/sh\necho 'options:'; echo '  --other X  (default: 1)'\n")
    other.chmod(0o755)
    (tmp_path / "train.py").write_text("import sys; print('options:\\n  --own X  (default: ' + sys.executable + ')')")
    monkeypatch.setenv("PATH", str(other.parent), prepend=os.pathsep)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    output, reason = request_help(["python", "train.py"], tmp_path, {})
    assert reason == ""
    assert output is not None
    assert str(Path(PYTHON).parent) in output
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    assert "--other" in str(request_help(["python", "train.py"], tmp_path, {})[0])


def test_words_of_a_line_are_never_read_by_a_shell(tmp_path: Path, script: Path) -> None:
    line = f"{PYTHON} train.py '$(touch made)' '; touch made'"
    draft_study(tmp_path / "study.yaml", StudiedCommand(line, tmp_path))
    assert not (tmp_path / "made").exists()


def test_a_script_that_trains_when_called_for_help_is_killed_with_all_it_started(tmp_path: Path) -> None:
    text = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "with open('child', 'w') as file: file.write(str(child.pid))\n"
        "os.rename('child', 'started')\n"
        "print('--lr', flush=True)\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "train.py").write_text(text)
    output, reason = request_help([PYTHON, "-S", "train.py"], tmp_path, {}, seconds=2)
    assert (output, reason) == (None, "it was still running after 2 seconds and was killed")
    child = int((tmp_path / "started").read_text())
    with contextlib.suppress(ProcessLookupError):
        watched = select.poll()
        watched.register(os.pidfd_open(child), select.POLLIN)
        assert watched.poll(10_000), "the child lives on"
