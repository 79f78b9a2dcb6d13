"""A study folder from someone else is read and run in without harm to anything outside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder
from watchers import Silent

from tunectl.cli.main import app
from tunectl.commands.report import report_study
from tunectl.core import record_checksums
from tunectl.core.errors import FolderError, TunectlError
from tunectl.core.folders import StudyFolder
from tunectl.core.safe_text import ACTING
from tunectl.language.study_reader import load_study
from tunectl.report.renderer import PlotFiles, draw
from tunectl.session.open_study import open_study
from tunectl.session.study_evidence import ObjectiveChoice

TEXT = study_text(
    {
        "optimizer": "{role: scientific, values: [sgd, adam]}",
        "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
    },
    search="{trials: 2}",
)
LOOKING = (["report"], ["status"], ["next", "--to", "next.yaml"], ["logs"], ["export", "--to", "csv"])


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a study file and its folder, of which every test has a copy."""
    place = tmp_path_factory.mktemp("reported")
    made = made_up_folder(place / "study", TEXT, lambda plan: 0.5 - plan.trial / 20)
    report_study(made.path, ObjectiveChoice(), draw=False)
    made.plots.mkdir()
    made.exports.mkdir()
    return place


@pytest.fixture
def folder(reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    shutil.copytree(reported, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return StudyFolder(tmp_path / "study")


def contents(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: the bytes of its files, what its links name."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""  # noqa: PTH115
    return found


def call(command: list[str], place: Path) -> None:
    if command == ["report"]:
        report_study(place, ObjectiveChoice(), draw=False)  # drawing takes its time
        return
    words = [command[0], str(place), *command[1:]]
    app([*words, "1"] if command == ["logs"] else words, standalone_mode=False)


@contextmanager
def at_once() -> Iterator[None]:
    """Raise where the block waits for what never comes."""

    def over(_number: int, _frame: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def moved_out(path: Path, own: Path) -> Path:
    """Put a link to it in `own` in place of a file or a folder, and give that folder."""
    own.mkdir()
    if path.exists():
        shutil.move(path, own / path.name)
    else:
        (own / path.name).write_text("export A=1\n")
    path.symlink_to(own / path.name)
    return own


OURS = [
    *("lock", "study.yaml", "plan.jsonl", "study.db", "provenance.json", "report.html", "findings.json", "faults.txt"),
    *("procedure.json", "conclusion.json", "written.jsonl", "rereading", "uncommitted.diff", "points.csv"),
    *("tables", "plots", "exports", "earlier", "trials", "trials/00001"),
]


@pytest.mark.parametrize("name", OURS)
def test_a_link_in_place_of_a_file_or_folder_of_the_study_is_refused_by_name(folder: StudyFolder, name: str) -> None:
    own = moved_out(folder.path / name, folder.path.parent / "own")
    before, held = contents(own), contents(folder.path)

    def run() -> None:
        with open_study(load_study(folder.path.parent / "study_file.yaml"), folder.path, Silent()):
            raise AssertionError("it runs")

    looking: list[Callable[[], None]] = [partial(call, command, folder.path) for command in LOOKING]
    for work in (run, *looking):
        with at_once(), pytest.raises(FolderError, match="link") as raised:
            work()
        assert name in str(raised.value)
    assert contents(own) == before
    lock = held.pop("lock")
    after = contents(folder.path)
    assert isinstance(lock, str) or after.pop("lock") is not None, "the one file that a refused run may write"
    after.pop("lock", None)
    assert after == held


def test_a_link_in_place_of_a_table_is_refused_and_what_it_names_stays(folder: StudyFolder) -> None:
    path = folder.tables / "isolation.csv"
    path.unlink()
    own = moved_out(path, folder.path.parent / "own")
    with pytest.raises(FolderError, match=r"isolation\.csv: cannot be written: it is a link"):
        report_study(folder.path, ObjectiveChoice(), draw=False)
    assert contents(own) == {path.name: b"export A=1\n"}


def in_the_way(path: Path, kind: str, own: Path) -> None:
    """Put something in place of a file or a folder that a run writes at its end."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    if kind == "link":
        path.symlink_to(own)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        *(
            (name, "link", "is a link")
            for name in ("tables/trials.md", "tables/measurements.parquet", "plots/rates.svg")
        ),
        *((name, "pipe", "is a named pipe") for name in ("tables/isolation.csv", "report.html", "conclusion.json")),
        *((name, "folder", "is a folder") for name in ("tables/settings.csv", "report.html", "findings.json")),
        *((name, "file", "is a file") for name in ("tables", "plots")),
    ],
)
def test_what_is_in_the_way_of_a_file_that_is_written_at_the_end_is_found_before_anything_is_trained(
    folder: StudyFolder, name: str, kind: str, said: str
) -> None:
    own = folder.path.parent / "own"
    own.write_text("export A=1\n")
    in_the_way(folder.path / name, kind, own)
    study = load_study(folder.path.parent / "study_file.yaml")
    with at_once(), pytest.raises(FolderError, match=said) as raised, open_study(study, folder.path, Silent()):
        raise AssertionError("it runs")
    assert name in str(raised.value)
    assert own.read_text() == "export A=1\n"


def test_links_under_every_temporary_name_do_not_lead_out(folder: StudyFolder, tmp_path: Path) -> None:
    own = tmp_path / "bashrc"
    own.write_text("export A=1\n")
    for path in [path for path in folder.path.rglob("*") if path.is_file()]:
        path.with_name(f".{path.name}.tmp").symlink_to(own)
    for name in (".writable.tmp", "exports/.csv.tmp", "exports/.csv.old"):
        (folder.path / name).symlink_to(own)
    (folder.tables / ".isolation.csv.tmp").unlink(missing_ok=True)
    (folder.tables / ".isolation.csv.tmp").symlink_to(own)
    with open_study(load_study(tmp_path / "study_file.yaml"), folder.path, Silent()):
        pass
    for command in (["report"], ["export", "--to", "csv"]):
        call(command, folder.path)
    assert own.read_text() == "export A=1\n"


def test_a_log_that_is_a_link_is_not_on_the_page(folder: StudyFolder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2")
    folder.trial(1).log.unlink()
    folder.trial(1).log.symlink_to(tmp_path / "secret")
    report = report_study(folder.path, ObjectiveChoice(), draw=False)
    assert not [path for path in report.paths if b"hunter2" in path.read_bytes()]
    with pytest.raises(FolderError, match=r"log\.txt: cannot be read: it is a link"):
        call(["logs"], folder.path)


ACTS = "\x1b]0;owned\x07\x1b[31m\x9b\u202e\u2028"


def test_nothing_that_a_report_writes_for_reading_acts_on_a_terminal(tmp_path: Path) -> None:
    text = TEXT.replace("search:", f"goal: {json.dumps(ACTS)}\nnotes: {json.dumps(ACTS)}\nsearch:", 1)
    folder = made_up_folder(tmp_path / "study", text, lambda plan: 0.5 - plan.trial / 20)
    for line in ({"step": step, "metrics": {"valid/error_rate": 1 / step, f"train/{ACTS}": 0.1}} for step in (1, 2)):
        with open(folder.trial(0).measurements, "a") as file:
            file.write(json.dumps(line) + "\n")
    folder.trial(0).log.write_text(f"log \x1b[32mgreen\x1b[0m 10%\r20%\n{ACTS}")
    content = json.loads(folder.provenance.read_text())
    described = {"time": ACTS, "command": ["tunectl", ACTS], "git": {"commit": ACTS, "dirty": False}}
    runs = [{**content["runs"][-1], **described}]
    folder.provenance.write_bytes(record_checksums.sealed(json.dumps({"format": 1, "runs": runs})))
    report = report_study(folder.path, ObjectiveChoice())
    written = {path: path.read_text() for path in report.paths if path.suffix in (".html", ".json", ".md", ".svg")}
    assert {path.suffix for path in written} == {".html", ".json", ".md", ".svg"}
    assert {path.name: found for path, text in written.items() if (found := set(ACTING.findall(text)))} == {}
    page = written[report.page]
    assert "\\x1b]0;owned" in page, "shown as an escape"
    assert "log green 10%\\n20%" in page, "a log as `tunectl logs` shows it"


def files_of_a_study() -> list[str]:
    of_trial = ["request.json", "measurements.jsonl", "steps.jsonl", "log.txt", "result.json", "attempts.jsonl"]
    return [name for name in OURS[:14] if name != "faults.txt"] + [f"trials/00001/{name}" for name in of_trial]


@pytest.mark.parametrize("name", files_of_a_study())
def test_no_command_waits_for_a_named_pipe_in_place_of_a_file(folder: StudyFolder, name: str) -> None:
    (folder.path / name).unlink(missing_ok=True)
    os.mkfifo(folder.path / name)
    for command in LOOKING[:4]:
        Path("next.yaml").unlink(missing_ok=True)
        refusal = ""
        with at_once():
            try:
                call(command, folder.path)
            except TunectlError as error:
                refusal = str(error)
        words = (Path(name).name, "is not a study folder", "being read again")
        assert not refusal or any(word in refusal for word in words), refusal


def test_a_picture_is_not_drawn_through_a_link(folder: StudyFolder) -> None:
    pytest.importorskip("vl_convert")
    folder.plots.rmdir()
    own = moved_out(folder.plots, folder.path.parent / "own")
    definition = (
        '{"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "mark": "point", "data": {"values": []}}'
    )
    with pytest.raises(OSError, match="is a link"):
        draw(PlotFiles(definition, f"{folder.plots}/a.svg", f"{folder.plots}/a.png"))
    assert contents(own) == {"plots": b"export A=1\n"}


SHADOWED = ("json", "typing", "csv", "re", "random", "dataclasses", "pathlib", "subprocess", "typer", "yaml", "pandas")


@pytest.mark.parametrize(
    # A report starts processes that draw, too. What is imported from where depends on the start alone.
    ("start", "command"),
    [(["-m", "tunectl"], "report"), ([str(Path(sys.executable).with_name("tunectl"))], "status")],
    ids=["module", "program"],
)
def test_no_python_file_in_the_folder_runs_when_it_is_looked_at(
    folder: StudyFolder, start: list[str], command: str
) -> None:
    for name in SHADOWED:
        (folder.path / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit(99)\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, *start, command, "."],
        cwd=folder.path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert command == "status" or sorted(folder.plots.iterdir())
    assert not (folder.path / "ran").exists()
