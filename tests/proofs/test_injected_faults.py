"""scripts/injected_faults.c: the call that is to fail fails, and no other one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

PROGRAM = """
import json, os, subprocess, sys
folder = sys.argv[1]
seen = {}

def attempt(name, work):
    try:
        seen[name] = work()
    except OSError as error:
        seen[name] = error.errno

def made(place):
    return os.open(f"{folder}/{place}", os.O_RDWR | os.O_CREAT)

one, elsewhere = made("one"), os.open(f"{folder}-not", os.O_RDWR | os.O_CREAT)
for number in (1, 2, 3):
    attempt(f"open {number}", lambda: made(f"more {number}") > 0)
    attempt(f"write {number}", lambda: os.write(one, b"0123456789"))
    attempt(f"write elsewhere {number}", lambda: os.write(elsewhere, b"0123456789"))
    attempt(f"pwrite {number}", lambda: os.pwrite(one, b"0123456789", 0))
    attempt(f"writev {number}", lambda: os.writev(one, [b"01", b"23"]))
    attempt(f"ftruncate {number}", lambda: os.ftruncate(one, 20))
    attempt(f"fsync {number}", lambda: os.fsync(one))
    attempt(f"rename {number}", lambda: os.rename(f"{folder}/more {number}", f"{folder}/other {number}"))
    attempt(f"link {number}", lambda: os.link(f"{folder}/one", f"{folder}/link {number}"))
    attempt(f"mkdir {number}", lambda: os.mkdir(f"{folder}/folder {number}"))
    attempt(f"unlink {number}", lambda: os.unlink(f"{folder}/there {number}"))
    attempt(f"fork {number}", lambda: subprocess.run(["true"]).returncode)
print(json.dumps(seen))
"""
DONE = {"open": True, "write": 10, "pwrite": 10, "writev": 4, "fork": 0}
HALF = {"write": 5, "pwrite": 5, "writev": 2}


@pytest.fixture
def injected(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("injected")


@pytest.fixture
def library(injected: ModuleType, tmp_path: Path) -> Path:
    try:
        return Path(injected.compiled(tmp_path))
    except SystemExit as error:
        pytest.skip(str(error))


def test_each_call_fails_with_each_error_at_its_place_for_its_role_below_its_folder_alone(
    injected: ModuleType, library: Path, tmp_path: Path
) -> None:
    folder, state, program = tmp_path / "folder", tmp_path / "state", tmp_path / "the_program.py"
    folder.mkdir()
    program.write_text(PROGRAM)
    environment = {**os.environ, "LD_PRELOAD": str(library), "TUNECTL_FAULTS": str(state)}

    def run(*faults: Any) -> dict[str, object]:
        for path in folder.iterdir():
            path.rmdir() if path.is_dir() else path.unlink()
        for number in (1, 2, 3):
            (folder / f"there {number}").touch()
        injected.write_state(state, folder, program.name, faults)
        command = [sys.executable, "-S", str(program), str(folder)]
        return dict(json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout))

    undisturbed = run()
    assert undisturbed == {name: DONE.get(name.split()[0]) for name in undisturbed}
    calls, happened = injected.read_state(state, ())
    assert happened == []
    # The first `open` makes the file that the others are about; a process started by the program is none of its own.
    assert {call: calls["program", call] for call in injected.CALLS} == dict.fromkeys(injected.CALLS, 3) | {"open": 4}
    assert not any(count for (role, _), count in calls.items() if role != "program")

    for error, number in injected.ERRORS.items():
        with_it = [call for call in injected.CALLS if error in injected.ERRORS_OF[call]]
        cells = [injected.Cell("", role, call, error) for role in ("program", "worker") for call in with_it]
        faults = [injected.Injected(cell, 3 if cell.call == "open" else 2) for cell in cells]
        seen = run(*faults)
        _, happened = injected.read_state(state, faults)
        assert [item.fault for item in happened] == [item for item in faults if item.cell.role == "program"]
        expected = {call: HALF[call] if error == "short write" else number for call in with_it}
        if error == "EINTR":
            # Python itself calls these again.
            again = ("open", "write", "pwrite", "writev", "ftruncate", "fsync")
            expected = {call: DONE.get(call) if call in again else number for call in with_it}
        changed = {f"{call} 2": value for call, value in expected.items()}
        assert {name: value for name, value in seen.items() if value != undisturbed[name]} == {
            name: value for name, value in changed.items() if value != undisturbed[name]
        }
