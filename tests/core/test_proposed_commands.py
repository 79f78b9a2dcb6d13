from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer
from narrowing import of_type
from typer.core import TyperGroup

import tunectl
from tunectl.cli.main import app
from tunectl.core.proposed_commands import tunectl_command

HOME = Path(tunectl.__file__).parent


@pytest.mark.parametrize("path", ["runs/a", "my runs/a", "it's", "$HOME/a", "a;b", "größe", "a\nb"])
def test_a_shell_reads_every_path_as_one_word(path: str) -> None:
    command = tunectl_command("retrain", Path(path), "--each-setting", "--repeats", 5)
    assert shlex.split(command) == ["tunectl", "retrain", path, "--each-setting", "--repeats", "5"]


def test_no_other_module_puts_a_value_into_a_command() -> None:
    names = "|".join(of_type(TyperGroup, typer.main.get_command(app)).commands)
    found = []
    for file in HOME.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.JoinedStr):
                continue
            before = ""
            for part in node.values:
                if isinstance(part, ast.Constant):
                    before = str(part.value)
                elif re.search(rf"\btunectl ({names}) ([^`;:]* )?$", before):
                    found.append(f"{file.relative_to(HOME)}:{node.lineno}")
    assert found == []
