"""Programs with the names of Slurm's on the PATH, which answer what a test writes for them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from toy_trials import wait_until

from tunectl.execution.engines.slurm_jobs import SQUEUE_FORMAT

WIDTHS = [int(column.rpartition(":")[2]) for column in SQUEUE_FORMAT.split(",")]

_ANSWERS = """\
#!/bin/sh
name={name}
case "$*" in *--jobs=*) [ {name} = squeue ] && name=squeue-jobs;; esac
printf '%s\\n' "{name} $*" >> {folder}/calls
[ -e {folder}/$name.answer ] || exit 0
exec sh {folder}/$name.answer
"""
_SBATCH = """\
#!/bin/sh
printf '%s\\n' "sbatch $*" >> {folder}/calls
[ -e {folder}/sbatch.answer ] && exec sh {folder}/sbatch.answer
[ -e {folder}/limit ] && . {folder}/limit
number=$(($(cat {folder}/number) + 1))
echo $number > {folder}/number
cp "$1" {folder}/$number.sh
env > {folder}/$number.env
echo "Submitted batch job $number"
"""


def squeue_line(
    job: str,
    state: str,
    restarts: int = 0,
    code: str = "0",
    reason: str = "None",
    *,
    preempted: str = "N/A",
    name: str = "",
    command: str = "",
) -> str:
    """A line as squeue prints it: cells filled to their widths, and cut off there; then the command, if it is asked."""
    cells = zip((job, state, str(restarts), code, reason, preempted, name), WIDTHS, strict=True)
    return "".join(f"{cell[:width]:{width}}" for cell, width in cells) + command


class FakeSlurm:
    """The programs, in a folder of their own; sbatch gives the ids 101, 102, …"""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "number").write_text("100")
        for name in ("squeue", "sacct", "scancel", "srun"):
            self._program(name, _ANSWERS.format(name=name, folder=folder))
        self._program("sbatch", _SBATCH.format(folder=folder))
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def _program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def answer(self, name: str, text: str = "") -> None:
        """Let a program print this text from now on."""
        self._let(name, f"printf %s {shlex.quote(text)}")

    def fail(self, name: str, text: str) -> None:
        """Let a program fail from now on, with this text as its error."""
        self._let(name, f"printf %s {shlex.quote(text)} >&2; exit 1")

    def hang(self, name: str, text: str = "") -> None:
        """Let a program not answer from now on, after this text as its error."""
        self._let(name, f"printf %s {shlex.quote(text)} >&2; exec sleep 1000")

    def refuse_arrays_above(self, most: int, text: str) -> None:
        """Let sbatch refuse arrays of more jobs from now on, with this text as its error."""
        last = r"""$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$1")"""
        (self.folder / "limit").write_text(f'[ "{last}" -lt {most} ] || {{ echo {shlex.quote(text)} >&2; exit 1; }}')

    def environment(self, array: str) -> dict[str, str]:
        """The environment in which sbatch was called for an array."""
        lines = (self.folder / f"{array}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _let(self, name: str, commands: str) -> None:
        # Renamed: a program that was called meanwhile gives the one answer or the other, whole.
        (self.folder / "new").write_text(commands)
        (self.folder / "new").rename(self.folder / f"{name}.answer")

    def script(self, array: str) -> str:
        """The script that was submitted for an array."""
        return (self.folder / f"{array}.sh").read_text()

    def calls(self, name: str) -> list[str]:
        """The command lines of a program, so far."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split(" ", 1)[0] == name]

    def until_called(self, name: str, count: int) -> None:
        wait_until(lambda: len(self.calls(name)) >= count, f"{name} is called {count} times")
