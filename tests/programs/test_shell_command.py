"""A trial's command as lines for a shell: pasted into sh, the program gets exactly what its trial gave it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import CommandRequest, Optional, Program
from tunectl.core.records import Scalar
from tunectl.core.safe_text import escaped
from tunectl.programs.program_start import placeholder_values, program_line, program_variables
from tunectl.programs.shell_command import shell_command, shell_word

TEXT = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
WILD = "$HOME `id` 'q' \"dq\" \\ ; rm -rf / && * ? ~ #\x1b[31m\ttab\rreturn\nline\u202e\udcff=é"


def pasted(lines: list[str], shell: str) -> list[object]:
    """What the program prints where the lines are typed into a shell; nothing in them would act on the terminal."""
    text = "\n".join(lines)
    assert escaped(text) == text
    ran = subprocess.run(
        [shell], input=os.fsencode(text + "\n"), capture_output=True, check=True, env={"PATH": "/usr/bin:/bin"}
    )
    return list(json.loads(ran.stdout))


@pytest.mark.parametrize("in_trial_folder", [False, True])
def test_a_program_gets_its_arguments_variables_and_folder_whatever_is_in_them(tmp_path, in_trial_folder):
    home = tmp_path / "a 'b' $c"
    home.mkdir()
    (home / "beside.txt").touch()
    program = Program(
        (sys.executable, "-S", "-c", TEXT, "--name={name}", "beside.txt", Optional(("--n", "{n}"), {"fast": (True,)})),
        str(home),
        environment={"MY-VAR": "{name}", "TOKEN": WILD.replace("\udcff", "")},
        in_trial_folder=in_trial_folder,
    )
    values: dict[str, Scalar] = {"name": WILD, "n": 1e-05, "fast": True}
    request = CommandRequest("study", 7, 5, program, values, Objective("loss", "minimize"), 20, 1)
    trial, output = StudyFolder(home).trial(7), home / "out put"
    command = shell_command(request, trial, output, {"OMP_NUM_THREADS": "1"})
    own = placeholder_values(request, trial, None) | {"trial.dir": str(output)}
    line, folder = program_line(request, own)
    arguments, environment, where = pasted(command.lines, "sh")
    assert arguments == line[4:]
    assert where == folder == str(output if in_trial_folder else home)
    assert isinstance(environment, dict)
    assert {**program_variables(request, own), "OMP_NUM_THREADS": "1"}.items() <= environment.items()
    # Of this process nothing else is printed.
    assert set(command.environment) == {*program_variables(request, own), "OMP_NUM_THREADS"}
    assert output.is_dir()
    assert str(home / "beside.txt") in line if in_trial_folder else "beside.txt" in line


def test_a_program_with_an_equals_sign_in_its_name_is_started_and_no_variable(tmp_path: Path) -> None:
    script = tmp_path / "a=b.sh"
    script.write_text('#!/bin/sh\nprintf \'["%s"]\' "$1"\n')
    script.chmod(0o755)
    program = Program((str(script), "{x}"), str(tmp_path))
    request = CommandRequest("study", 0, 5, program, {"x": 3}, Objective("loss", "minimize"), 20, 1)
    assert pasted(shell_command(request, StudyFolder(tmp_path).trial(0), tmp_path / "out", {}).lines, "sh") == ["3"]


@pytest.mark.parametrize("text", ["", "plain", "-x", "\x1b", "a\x1b", "\x1bb\x1b", "\udc80", "new\nline\n"])
def test_a_word_is_read_by_a_shell_as_it_was(text):
    ran = subprocess.run(["sh", "-c", f"printf %s {shell_word(text)}"], capture_output=True, check=True)
    assert ran.stdout == os.fsencode(text)
