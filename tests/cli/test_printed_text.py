"""Tests cli/printed_findings.py and the other commands: in any encoding and from folders of any name each prints what
it must, and nothing of it acts on the terminal.
"""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import study_text
from made_up_folders import made_up_folder

from tunectl.cli.main import main
from tunectl.core.folders import StudyFolder

GOAL = "Größe → é ✓ 学"
HYPERPARAMETERS = {
    "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    "optimizer": "{role: scientific, values: [momentum, nesterov]}",
}
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
POISON = "\x1b]0;title\x07\x1b[2J\x9b31m\r\u202e"
ENCODINGS = ["ascii", "latin-1", "cp1252"]
COMMANDS = [
    ["check", "study.yaml"],
    ["check", "--json", "study.yaml"],
    ["check", "nö→.yaml"],
    ["plan", "study.yaml"],
    ["plan", "--csv", "study.yaml"],
    ["plan", "--json", "study.yaml"],
    ["status", "FOLDER"],
    ["status", "--json", "FOLDER"],
    ["query", "FOLDER"],
    ["query", "FOLDER", "select *, 'ö→' as \"ä→\" from trials", "--csv"],
    ["logs", "FOLDER", "0"],
    ["compare", "FOLDER"],
    ["compare", "--json", "FOLDER"],
    ["next", "FOLDER", "--to", "next.yaml"],
    ["export", "FOLDER", "--to", "csv", "--out", "out→"],
    ["ls"],
    ["ls", "--long"],
    ["ls", "--csv"],
    ["ls", "--json"],
    ["init", "new→"],
    ["nö→"],
    ["run", "--nö→"],
    ["--help"],
    ["run", "--help"],
]
REPORT = ["report", "FOLDER"]  # takes as long as all others together


class Printed(io.TextIOWrapper):
    """A stream in an encoding, and what was written to it."""

    def __init__(self, encoding: str) -> None:
        self.written = io.BytesIO()
        super().__init__(self.written, encoding=encoding, errors="strict", newline="")

    def text(self) -> str:
        self.flush()
        return self.written.getvalue().decode(self.encoding)


Call = Callable[..., tuple[int, str]]


@pytest.fixture
def tunectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each_plot_drawn_once: None) -> Call:
    """Call a command with streams in an encoding: its exit code, and what it printed to both."""
    monkeypatch.chdir(tmp_path)

    def call(encoding: str, *words: str) -> tuple[int, str]:
        out, err = Printed(encoding), Printed(encoding)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["tunectl", *words])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as ended:
                main()
        return int(ended.value.code or 0), out.text() + err.text()

    return call


def a_study(place: Path, **sections: Any) -> StudyFolder:
    text = study_text(HYPERPARAMETERS, search="{trials: 3}", goal=json.dumps(GOAL, ensure_ascii=False), **sections)
    return made_up_folder(place, text, lambda plan: 0.5 - plan.trial / 100, file=place.parent / "study.yaml")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_command_prints_in_an_encoding_that_lacks_characters(
    tunectl: Call, tmp_path: Path, encoding: str
) -> None:
    folder = a_study(tmp_path / "rün→")
    folder.trial(0).log.write_text(GOAL)
    for words in [*COMMANDS, *([REPORT] if encoding == "ascii" else [])]:
        code, printed = tunectl(encoding, *[word.replace("FOLDER", folder.path.name) for word in words])
        assert code == (2 if "nö→" in " ".join(words) else 0), (words, printed)
        assert printed, words


def test_a_goal_s_characters_are_escapes_in_tables_and_the_same_in_json(tunectl: Call, tmp_path: Path) -> None:
    a_study(tmp_path / "runs" / "s")
    assert "Gr\\xf6\\xdfe -> \\xe9 \\u2713 \\u5b66" in tunectl("ascii", "ls")[1]
    assert "Größe -> é \\u2713 \\u5b66" in tunectl("latin-1", "ls")[1]
    assert GOAL in tunectl("utf-8", "ls")[1]
    for encoding in (*ENCODINGS, "utf-8"):
        (study,) = json.loads(tunectl(encoding, "ls", "--json")[1])["studies"]
        assert study["goal"] == GOAL


def test_a_table_in_ascii_has_straight_columns(tunectl: Call, tmp_path: Path) -> None:
    a_study(tmp_path / "runs" / "s")
    lines = tunectl("ascii", "ls")[1].splitlines()
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == {"-"}


COMMAND_STUDY = """\
goal: {goal}
workload: {{command: [python, -c, 'import sys; print({{{{"step": 2, "loss": float(sys.argv[1])}}}})', "{{lr}}"],
           metrics: [{{json_lines: stdout}}]}}
objective: {{metric: loss, direction: minimize}}
training: {{max_train_steps: 2}}
hyperparameters: {{lr: {{role: nuisance, range: [1e-3, 1], scale: log}}}}
search: {{trials: 2}}
resources: {{devices: cpu}}
"""


def called(place: Path, *words: str | bytes, encoding: str | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **({"PYTHONIOENCODING": encoding} if encoding else {})}
    command = [sys.executable, "-m", "tunectl", *words]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, check=False)


def test_a_study_in_a_folder_whose_name_is_not_utf_8_is_run_and_listed(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.mkdir()
    (place / "s.yaml").write_text(COMMAND_STUDY.format(goal=GOAL))
    ended = called(place, b"run", b"s.yaml", b"--dir", b"r\xff", encoding="ascii")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.isascii()
    assert b"r\\udcff" in ended.stdout
    folder = place / os.fsdecode(b"r\xff")
    for name in ("findings.json", "provenance.json", "trials/00000/request.json", "tables/trials.csv", "report.html"):
        (folder / name).read_bytes().decode("utf-8")
    ended = called(place, b"ls", b"--json", b".")
    (study,) = json.loads(ended.stdout.decode("utf-8"))["studies"]
    assert (study["folder"], study["run"]) == (os.fsdecode(b"r\xff"), 2)


def test_every_command_reads_a_folder_whose_name_is_not_utf_8(tunectl: Call, tmp_path: Path) -> None:
    folder = a_study(tmp_path / os.fsdecode(b"r\xffn"))
    for words in [*COMMANDS, [*REPORT, "--json"]]:
        if "FOLDER" in words or words[0] == "ls":
            code, printed = tunectl("utf-8", *[word.replace("FOLDER", folder.path.name) for word in words])
            assert code == 0, (words, printed)
            assert printed, words


def poisoned(place: Path) -> StudyFolder:
    """A study folder in which every text that may hold anything acts on a terminal."""
    folder = a_study(place, notes=json.dumps(f"notes{POISON}"))
    text = folder.study.read_text()
    folder.study.write_text(text.replace(json.dumps(GOAL, ensure_ascii=False), json.dumps(f"goal{POISON}")))
    runs = json.loads(folder.provenance.read_text())
    runs["runs"][0] |= {
        "command": [f"tunectl{POISON}", POISON],
        "folder": POISON,
        "time": POISON,
        "study_file": {"path": f"/x{POISON}.yaml"},
        "git": {"commit": POISON},
    }
    folder.provenance.write_text(json.dumps(runs))
    folder.trial(0).log.write_bytes(f"a log{POISON}\n".encode())
    lines = folder.trial(1).measurements.read_text()
    folder.trial(1).measurements.write_text(lines.replace("train/loss", json.dumps(f"metric{POISON}")[1:-1]))
    result = json.loads(folder.trial(2).result.read_text()) | {
        "state": "failed",
        "reason": "error",
        "message": f"message{POISON}",
        "device": POISON,
    }
    folder.trial(2).result.write_text(json.dumps(result))
    folder.index.unlink()
    return folder


@pytest.mark.parametrize("is_procedure", [False, True])
def test_nothing_in_a_folder_from_elsewhere_acts_on_the_terminal(
    tunectl: Call, tmp_path: Path, is_procedure: bool
) -> None:
    folder = poisoned(tmp_path / f"folder{POISON.replace('/', '')}")
    if is_procedure:
        folder.procedure.write_text(json.dumps({"procedure": POISON, "values": {POISON: POISON}}))
    out = folder.path / "exports" / "csv"
    out.mkdir(parents=True)
    (out / ".tunectl-export.json").write_text(json.dumps({"tool": POISON, "study": POISON, "entries": [POISON]}))
    more = [["logs", "FOLDER", "1", "--follow"], ["logs", "FOLDER", "99"], ["export", "FOLDER", "--to", "parquet"]]
    more += [["export", "FOLDER", "--to", "csv"], ["check", POISON], ["run", "FOLDER"]]
    seen = ""
    for words in [*COMMANDS, *more, *([] if is_procedure else [REPORT])]:
        _, printed = tunectl("utf-8", *[word.replace("FOLDER", folder.path.name) for word in words])
        assert not ACTING.search(printed), (words, printed)
        seen += printed
    for word in ("goal", "notes", "message", "a log"):
        assert f"{word}\\x1b]0;title" in seen or f"{word}\\u001b]0;title" in seen, word


def test_on_a_terminal_only_the_colours_are_tunectl_s_own(tmp_path: Path) -> None:
    poisoned(tmp_path / "s")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    command = [sys.executable, "-m", "tunectl", "ls", "--long", "."]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        printed = b""
        while piece := _read(ours):
            printed += piece
        assert process.wait() == 0
    os.close(ours)
    plain = re.sub("\x1b\\[[0-9;]*m|\r\n", "", printed.decode())
    assert "\\x1b]0;title" in plain
    assert not ACTING.search(plain)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end was closed
        return b""
