"""`init`: studies to begin with, and what is left alone."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from study_calls import Called

from tunectl.core.errors import StudyError, UsageError
from tunectl.drafting.command_draft import MARK
from tunectl.drafting.help_request import asked_help
from tunectl.drafting.study_draft import begin_from, begin_study
from tunectl.session.checked_study import check_study

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


def test_a_study_without_a_script_runs_as_it_stands(tmp_path: Path, tunectl: Callable[..., Called]) -> None:
    begun = begin_study(tmp_path / "new one")
    checked = check_study(begun.files[0], tmp_path)
    assert (checked.warnings, checked.unseen) == ((), "")
    # One short trial of each setting is enough to see that its workload trains.
    text = (
        begun.files[0]
        .read_text()
        .replace("trials: 8", "trials: 1")
        .replace("max_train_steps: 300", "max_train_steps: 60")
    )
    begun.files[0].write_text(text)
    ended = tunectl("run", begun.files[0], "--quiet", "--json")
    assert ended.code == 0, ended.err
    assert ended.json()["states"]["completed"] == 2


def test_nothing_is_written_over(tmp_path: Path, script: Path) -> None:
    (tmp_path / "workload.py").write_text("mine")
    with pytest.raises(UsageError, match=r"workload.py: is there already"):
        begin_study(tmp_path)
    assert not (tmp_path / "study.yaml").exists()
    (tmp_path / "study.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"study.yaml: is there already"):
        begin_from(f"{PYTHON} train.py", tmp_path / "study.yaml", tmp_path)
    assert (tmp_path / "workload.py").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_script_becomes_a_study_that_wants_what_no_help_tells(tmp_path: Path, script: Path) -> None:
    begun = begin_from(f"{PYTHON} train.py --lr 0.5", tmp_path / "study.yaml", tmp_path, place=["wd"])
    assert begun.notes == ()
    lines = begun.files[0].read_text().splitlines()
    assert [number for number, _ in begun.marked] == [n for n, line in enumerate(lines, start=1) if MARK in line]
    assert [text.partition(":")[0] for _, text in begun.marked] == ["regex", "metric", "direction"]
    with pytest.raises(StudyError) as caught:
        check_study(begun.files[0], tmp_path)
    assert [problem.line for problem in caught.value.problems] == [number for number, _ in begun.marked]
    filled = {
        "regex": r"regex: 'epoch (?P<step>\d+).*?valid/loss (?P<valid__loss>\S+)'",
        "metric": "metric: valid/loss",
    }
    filled["direction"] = "direction: minimize"
    for key, content in filled.items():
        lines = [re.sub(rf"{key}: +{MARK}.*", lambda _, content=content: content, line) for line in lines]
    begun.files[0].write_text("\n".join(lines))
    checked = check_study(begun.files[0], tmp_path)
    (warning,) = checked.warnings
    assert "names the trial's seed" in warning.message
    assert checked.spec.name == "train"
    assert checked.spec.training.max_train_steps == 3
    assert {item.name: item.domain.value for item in checked.spec.hyperparameters} == {
        "learning_rate": 0.5,
        "weight_decay": 1e-4,
    }  # type: ignore[union-attr]


def test_a_sample_of_its_output_leaves_nothing_to_be_filled_in(tmp_path: Path, script: Path) -> None:
    (tmp_path / "sample.txt").write_text("starting\nepoch 1/3: loss 0.1, valid/loss 0.2\n")
    path = tmp_path / "studies" / "mine.yaml"
    begun = begin_from(
        f"{PYTHON} train.py --lr 0.1",
        path,
        tmp_path,
        metric="valid/loss",
        direction="minimize",
        sample=tmp_path / "sample.txt",
    )
    assert begun.marked == ()
    spec = check_study(path, tmp_path).spec
    assert spec.name == "mine"
    assert spec.program is not None
    # It runs where the line would be typed, wherever its file stands.
    assert spec.program.folder == str(tmp_path)
    assert spec.program.sources[0].where.startswith(r"\bepoch")


@pytest.mark.parametrize("metric", [None, "valid/los"])
def test_a_metric_that_is_still_to_be_named_is_asked_for_with_those_of_the_sample(
    tmp_path: Path, script: Path, metric: str | None
) -> None:
    (tmp_path / "sample.txt").write_text("epoch 1/3: loss 0.1, valid/loss 0.2\n")
    path = tmp_path / "mine.yaml"
    line = f"{PYTHON} train.py --lr 0.1"
    begun = begin_from(line, path, tmp_path, metric=metric, sample=tmp_path / "sample.txt")
    assert "metric: the metric to select by (the sample has loss, valid/loss)" in [text for _, text in begun.marked]
    assert "valid__loss" in path.read_text(), "what was read of the sample is kept"
    assert any("did you mean valid/loss?" in note for note in begun.notes) is (metric is not None)


def test_a_script_that_has_no_help_gives_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import sys; sys.exit('no such option: ' + sys.argv[1])")
    begun = begin_from(f"{PYTHON} train.py --lr 0.5", tmp_path / "study.yaml", tmp_path)
    assert begun.notes[0].endswith(
        "(it ends with exit code 1: no such option: --help): only what is in the line is taken"
    )
    assert "learning_rate: 0.5" in begun.files[0].read_text()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "a command is due"),
        ("A=1", "a command is due"),
        ("python 'train.py", "is no command line: No closing quotation"),
        (f"{PYTHON} train.py > log.txt", "no shell reads the line, so > means nothing in it"),
        ("no-such-program-at-all --lr 1", "there is no program 'no-such-program-at-all'"),
        (f"{PYTHON} nothere.py", "there is no file nothere.py"),
        (PYTHON, "names no script; write the whole command"),
        (f"env {PYTHON} -u", "names no script; write the whole command"),
    ],
)
def test_a_line_that_is_no_command_is_refused(tmp_path: Path, script: Path, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        begin_from(line, tmp_path / "study.yaml", tmp_path)
    assert not (tmp_path / "study.yaml").exists()


def test_the_user_is_told_before_the_script_is_asked(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("open('asked', 'w').close()")
    said: list[tuple[str, bool]] = []
    begin_from(
        f"{PYTHON} train.py",
        tmp_path / "study.yaml",
        tmp_path,
        tell=lambda text: said.append((text, (tmp_path / "asked").exists())),
    )
    assert said == [(f"asking {PYTHON} train.py --help, for 60 seconds at most", False)]
    assert (tmp_path / "asked").exists()


def test_a_name_with_blanks_and_accents_is_quoted_and_folded(
    tmp_path: Path, script: Path, tunectl: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = tunectl("init", "--from", f"{PYTHON} train.py", "--out", "my code/étude 1.yaml")
    assert ended.code == 0, ended.err
    last = ended.out.splitlines()[-1]
    assert last.endswith("then: tunectl check 'my code/étude 1.yaml', tunectl run 'my code/étude 1.yaml'")
    assert "asking " in ended.err
    assert "study: etude-1\n" in (tmp_path / "my code" / "étude 1.yaml").read_text()


def test_the_script_is_asked_with_the_python_that_will_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a trial: where no environment is active, python is tunectl's."""
    (tmp_path / "bin").mkdir()
    other = tmp_path / "bin" / "python"
    other.write_text("#!/bin/sh\necho 'options:'; echo '  --other X  (default: 1)'\n")
    other.chmod(0o755)
    (tmp_path / "train.py").write_text("import sys; print('options:\\n  --own X  (default: ' + sys.executable + ')')")
    monkeypatch.setenv("PATH", str(other.parent), prepend=os.pathsep)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    told, reason = asked_help(["python", "train.py"], tmp_path, {})
    assert reason == ""
    assert told is not None
    assert str(Path(PYTHON).parent) in told
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    assert "--other" in str(asked_help(["python", "train.py"], tmp_path, {})[0])


def test_words_of_a_line_are_never_read_by_a_shell(tmp_path: Path, script: Path) -> None:
    begin_from(f"{PYTHON} train.py '$(touch made)' '; touch made'", tmp_path / "study.yaml", tmp_path)
    assert not (tmp_path / "made").exists()


def test_a_script_that_trains_when_asked_for_help_is_killed_with_all_it_started(tmp_path: Path) -> None:
    text = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "with open('child', 'w') as file: file.write(str(child.pid))\n"
        "os.rename('child', 'started')\n"
        "print('--lr', flush=True)\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "train.py").write_text(text)
    told, reason = asked_help([PYTHON, "-S", "train.py"], tmp_path, {}, seconds=2)
    assert (told, reason) == (None, "it had not ended after 2 seconds, and was killed")
    child = int((tmp_path / "started").read_text())
    with contextlib.suppress(ProcessLookupError):
        watched = select.poll()
        watched.register(os.pidfd_open(child), select.POLLIN)
        assert watched.poll(10_000), "the child lives on"
