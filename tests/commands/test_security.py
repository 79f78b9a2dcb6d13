"""Nothing that a study says, and nothing that lies in its folder, runs a program, leaves the folder or goes online."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import problems_of, study
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st

import tunectl
from tunectl.core.errors import FolderError, StudyError
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.objective import Objective
from tunectl.language.study_reader import parse_study
from tunectl.session.outcome_index import read_outcome
from tunectl.space.trial_plan import plan_trials
from tunectl.store.plan_file import read_plan
from tunectl.store.study_folder import study_path
from tunectl.training.checkpoints import UnreadableError, load, load_resume, save

_HERE = Path(__file__).parent.parent
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


# One small run, watched from the inside: of the runner, the fork server and the trials.

LABELS = [
    "plain",
    'a|b,"c"',
    "$(touch ran) `touch ran`; touch ran & touch ran | touch ran",
    "=1+1|<b>\\, goes wrong",
]
_STUDY = """\
study: watched
workload: "./{folder}/watched_workload.py:factory"
objective: {{metric: valid/distance, direction: minimize}}
training: {{max_train_steps: 4, eval_every: 2}}
hyperparameters:
  optimizer: sgd
  learning_rate: 0.01
  batch_size: 16
  label: {{role: scientific, values: {labels}}}
resources: {{devices: cpu}}
"""
_ODD_FOLDER = "w $(touch ran) `touch ran`;touch ran&'*"
_UMASK = 0o007


@dataclass(frozen=True)
class Watched:
    """A finished run: its folder, what the command said, and what every process of it did (see watching/)."""

    place: Path
    folder: StudyFolder
    code: int
    err: str
    events: tuple[dict[str, Any], ...]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] in kinds]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    place = tmp_path_factory.mktemp("watched")
    odd = place / _ODD_FOLDER
    odd.mkdir()
    shutil.copy(_HERE / "watching" / "watched_workload.py", odd)
    file = odd / "study $(touch ran).yaml"
    file.write_text(_STUDY.format(folder=".", labels=json.dumps(LABELS)))
    log = place / "events.jsonl"
    environment = {
        **os.environ,
        "PYTHONPATH": str(_HERE / "watching"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TUNECTL_TEST_EVENTS": str(log),
    }
    command = [sys.executable, "-m", "tunectl", "run", str(file), "--slots", "2"]
    ended = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False, umask=_UMASK
    )
    events = tuple(json.loads(line) for line in log.read_text().splitlines())
    return Watched(place, StudyFolder(place / "runs" / "watched"), ended.returncode, ended.stderr, events)


def test_the_watched_run_trained_every_trial(watched: Watched) -> None:
    assert watched.code == 0, watched.err
    rows = list(csv.DictReader((watched.folder.tables / "trials.csv").read_text().splitlines(keepends=True)))
    assert [row["state"] for row in rows] == ["completed"] * 3 + ["infeasible"]


def test_runner_server_and_trials_open_no_connection(watched: Watched) -> None:
    tried = watched.of("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind")
    # The workload tries one itself, to show that it would be seen, in the server and in the trials.
    own = [event for event in tried if "51234" in event["what"]]
    assert len({event["pid"] for event in own}) >= 2
    assert [event for event in tried if event not in own] == []
    assert {"runner", "server"} <= {event["who"] for event in watched.of("begin")}


def test_no_shell_is_started_and_no_program_but_these(watched: Watched) -> None:
    assert watched.of("os.system", "os.exec", "pty.spawn") == []
    started = [Path(json.loads(event["what"])[0]).name for event in watched.of("subprocess.Popen", "os.posix_spawn")]
    assert {re.sub(r"[\d.]+$", "", name) for name in started} <= {"python", "git", "uname"}, started
    assert started, "the server at least is started"


def test_shell_characters_in_names_and_values_do_nothing(watched: Watched) -> None:
    assert [path for path in watched.place.rglob("*") if path.name == "ran"] == []
    assert not Path("ran").exists()


def test_nothing_is_written_outside_the_study_folder(watched: Watched) -> None:
    written = {event["what"] for event in watched.of("open")}
    assert written, "writing is seen"
    # The locks by which runs share the machine.
    locks = Path(os.environ["TUNECTL_RUNTIME_DIR"])
    written = {name for name in written if not Path(name).is_relative_to(locks)}
    outside = [name for name in written if not Path(name).is_relative_to(watched.folder.path)]
    assert [name for name in outside if not name.startswith("/dev/") and not is_temporary(Path(name))] == []


def is_temporary(path: Path) -> bool:
    """Whether it was a file without a name: Python gives it one for a moment where the file system cannot."""
    folder = Path(tempfile.gettempdir())
    return path == folder or (path.parent == folder and not path.exists())


def test_every_file_and_folder_has_the_rights_that_the_umask_gives(watched: Watched) -> None:
    paths = [watched.folder.path, *watched.folder.path.rglob("*")]
    assert {watched.folder.index, watched.folder.lock, watched.folder.provenance} <= set(paths)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    wrong = {
        str(path): oct(mode) for path, mode in found.items() if mode != (0o777 if path.is_dir() else 0o666) & ~_UMASK
    }
    assert wrong == {}


def test_text_of_a_user_s_is_one_line_on_the_screen_and_cannot_act_on_it(watched: Watched) -> None:
    (line,) = [line for line in watched.err.splitlines() if "infeasible" in line]
    assert line.endswith(f"{LABELS[3]} | a second, line\\x1b[31m at step 0")
    assert watched.err.replace("\n", "").isprintable()


def test_text_of_a_user_s_cannot_break_the_tables(watched: Watched) -> None:
    for name in ("trials", "settings"):
        with open(watched.folder.tables / f"{name}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["label"] for row in rows] == LABELS
        assert {len(row) for row in rows} == {len(rows[0])}
        assert all(None not in row and None not in row.values() for row in rows)
        lines = (watched.folder.tables / f"{name}.md").read_text().splitlines()
        assert len(lines) == 2 + len(LABELS)
        assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {len(rows[0]) + 1}
        assert not any("<" in line for line in lines)


# What lies in a study folder.


class Payload:
    """Runs a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("in_zip", [True, False])
@pytest.mark.parametrize("place", ["whole", "inside"])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, in_zip: bool, place: str) -> None:
    path, marker = tmp_path / "step-00000001.pt", tmp_path / "ran"
    content: Any = Payload(marker) if place == "whole" else {"format": 1, "model": Payload(marker)}
    saved = torch.save
    with pytest.MonkeyPatch.context() as patch:
        # Written as tunectl writes it, so that its checksum is right.
        patch.setattr(
            "torch.save", lambda _parts, file, **_how: saved(content, file, _use_new_zipfile_serialization=in_zip)
        )
        save(path, {})
    with pytest.raises(
        UnreadableError,
        match=r"cannot be loaded: it contains (posix\.mkdir|a value that raises UnpicklingError)\. It is",
    ):
        load(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the payload works where it is let"


def test_a_checkpoint_to_go_on_from_that_would_run_code_is_refused(tmp_path: Path) -> None:
    folder, marker = TrialFolder(tmp_path), tmp_path / "ran"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunectl.training.saved_state.check", lambda _parts: None)
        save(folder.resume, {"format": 1, "request": Payload(marker)})
        save(folder.previous_resume, {"format": 1, "request": Payload(marker)})
    with pytest.raises(UnreadableError, match=r"resume\.pt is whole, but cannot be loaded"):
        load_resume(folder, None, print)  # type: ignore[arg-type]
    assert not marker.exists()


_OUTSIDE = [
    "../../../outside.pt",
    "../outside.pt",
    "{outside}",
    "/etc/passwd",
    ".",
    "..",
    "",
    "a\0b",
    "sub/x.pt",
    "x" * 5000,
]


@pytest.mark.parametrize("name", _OUTSIDE, ids=range(len(_OUTSIDE)))
def test_a_measurement_cannot_name_a_checkpoint_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder, trial = StudyFolder(tmp_path), plan_trials(study())[0]
    home = folder.trial(trial.trial)
    (home.checkpoints / "sub").mkdir(parents=True)
    outside = [tmp_path / "outside.pt", home.path / "outside.pt", home.checkpoints / "sub" / "x.pt"]
    for path in outside:
        path.touch()
    line = {"step": 1, "metrics": {"valid/x": 1.0}, "checkpoint": name.format(outside=outside[0])}
    home.measurements.write_text(json.dumps(line) + "\n")
    found, *_ = read_outcome(folder, trial, Objective("valid/x", "minimize"))
    assert (found.best_step, found.best_checkpoint) == (1, None)


def test_a_checkpoint_is_not_known_through_a_link_in_place_of_its_folder(tmp_path: Path) -> None:
    folder, trial = StudyFolder(tmp_path / "study"), plan_trials(study())[0]
    home, own = folder.trial(trial.trial), tmp_path / "own"
    own.mkdir()
    (own / "secret.pt").touch()
    home.path.mkdir(parents=True)
    home.measurements.write_text(json.dumps({"step": 1, "metrics": {"valid/x": 1.0}, "checkpoint": "secret.pt"}) + "\n")
    home.checkpoints.symlink_to(own)
    found, *_ = read_outcome(folder, trial, Objective("valid/x", "minimize"))
    assert (found.best_step, found.best_checkpoint) == (1, None)


@pytest.mark.parametrize("trial", ["../../x", "0", -1, 0.0, None, "/etc", True])
def test_a_plan_cannot_name_a_trial_outside_its_folder(tmp_path: Path, trial: object) -> None:
    line = {**plan_trials(study())[0].to_json(), "trial": trial}
    (tmp_path / "plan.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(FolderError, match=r"plan\.jsonl:1: "):
        read_plan(tmp_path / "plan.jsonl")


# What a study says.


_NO_NAMES = [
    "../x",
    "a/b",
    "/a",
    "..",
    ".",
    "''",
    '"a\\0b"',
    "x" * 101,
    "'~'",
    "-rf",
    "' a'",
    '"a\\n"',
    "'a\\b'",
    "$(x)",
    "é",
]


@pytest.mark.parametrize("name", _NO_NAMES, ids=range(len(_NO_NAMES)))
def test_a_study_s_name_that_is_no_plain_folder_name_is_refused(name: str) -> None:
    (problem,) = problems_of(study=name)
    assert problem.startswith("study: expected a name that a folder can have")


@examples(40)
@given(name=st.text(max_size=120) | st.text("./\\~-\0 a", max_size=8))
def test_a_study_s_name_never_leads_out_of_its_parent(name: str) -> None:
    try:
        spec = study(study=json.dumps(name))
    except StudyError:
        pass
    else:
        assert study_path(Path("/runs"), spec.name).parent == Path("/runs")
        assert _SAFE_NAME.fullmatch(spec.name)
    try:
        path = study_path(Path("/runs"), name)
    except FolderError:
        return
    assert (path.parent, path.name) == (Path("/runs"), name)


@examples(40)
@given(stem=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120))
def test_a_study_named_by_its_file_never_leads_out_of_its_parent(stem: str) -> None:
    text = study().text
    try:
        spec = parse_study(text, Path("/studies") / f"{stem}.yaml")
    except StudyError as error:
        assert all(problem.path == "study" for problem in error.problems)  # noqa: PT017
        return
    assert _SAFE_NAME.fullmatch(spec.name)


# The text of the source.

_FORBIDDEN_CALLS = re.compile(
    r"(os\.(system|popen|spawn\w*)|subprocess\.(getoutput|getstatusoutput)|pty\.spawn"
    r"|yaml\.(load|load_all|unsafe_load\w*|full_load\w*)|(pickle|cPickle|dill|marshal|shelve|joblib)\.\w+"
    r"|eval|exec|compile|__import__|tempfile\.mktemp|(pd|pandas)\.read_pickle|os\.chmod|os\.umask)"
)
_FORBIDDEN_NAMES = re.compile(r"yaml\.(Loader|FullLoader|UnsafeLoader|CLoader|CUnsafeLoader|Unsafe\w*)")
_NAMES_OF_PICKLE = frozenset({"pickle.UnpicklingError", "pickle.PicklingError"})


def dangers_in(source: str) -> list[str]:
    """What a module does that this program never does, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name, keywords = ast.unparse(node.func), {item.arg: ast.unparse(item.value) for item in node.keywords}
            if _FORBIDDEN_CALLS.fullmatch(name) and name not in _NAMES_OF_PICKLE:
                found.append(f"{node.lineno}: {name}()")
            if keywords.get("shell", "False") != "False" or keywords.get("allow_pickle", "False") != "False":
                found.append(f"{node.lineno}: {name}(shell or allow_pickle)")
            if name == "torch.load" and keywords.get("weights_only") != "True":
                found.append(f"{node.lineno}: torch.load() without weights_only=True")
        elif isinstance(node, ast.Attribute) and _FORBIDDEN_NAMES.fullmatch(ast.unparse(node)):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.ImportFrom) and node.module in (
            "pickle",
            "marshal",
            "os",
            "subprocess",
            "torch",
            "yaml",
        ):
            names = {f"{node.module}.{item.name}" for item in node.names}
            found += [
                f"{node.lineno}: from {name}"
                for name in names
                if _FORBIDDEN_CALLS.fullmatch(name) or name == "torch.load"
            ]
    return found  # fmt: skip


_BETWEEN_RANKS = re.compile(r"\d+: pickle\.(dumps|loads)\(\)")
"""What the processes of one trial send each other in memory, as torch does itself: they are forks of one process."""


def test_no_module_runs_a_shell_unpickles_or_evaluates() -> None:
    package = Path(tunectl.__file__).parent
    found = {str(path.relative_to(package)): dangers_in(path.read_text()) for path in package.rglob("*.py")}
    assert len(found) > 50
    for module in ("training/ranks.py", "training/first_rank.py"):
        found[module] = [danger for danger in found[module] if not _BETWEEN_RANKS.fullmatch(danger)]
    assert {path: dangers for path, dangers in found.items() if dangers} == {}


DANGERS = """\
torch.load(path)
torch.load(path, weights_only=False)
torch.load(path, weights_only=flag)
from torch import load
subprocess.run(command, shell=True)
os.system('ls')
os.popen('ls')
from os import system
yaml.load(text, yaml.SafeLoader)
yaml.unsafe_load(text)
class Own(yaml.UnsafeLoader): ...
pickle.loads(content)
pickle.Unpickler(file).load()
from pickle import loads
eval(text)
exec(text)
np.load(path, allow_pickle=True)
os.chmod(path, 0o777)
"""


def test_the_search_finds_what_it_looks_for() -> None:
    found = {item.split(":")[0] for item in dangers_in(DANGERS)}
    assert found == {str(number) for number in range(1, len(DANGERS.splitlines()) + 1)}
