"""Run the commands of the README and compare what they print with what it says.

Every line `$ command` of a console block is run from the top of the repository; it must end with 0 and, where the block
shows output, print exactly that to stdout. `make test` is left to whoever calls this script: it is what runs the tests.
Of `make run` the command behind it is run, into a temporary folder: the checkout stays as it was. There the lines of
Python that open its study are run next.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"make test"}


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of the console blocks with the output shown for it ("" where none is)."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in found]


def words_of(command: str, place: Path) -> list[str]:
    """The words to run; those behind `make run`, with a folder of its own."""
    if command != "make run":
        return shlex.split(command)
    dry_run = ["make", "--dry-run", "--no-print-directory", "run"]
    recipe = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True, check=True)
    return [*shlex.split(recipe.stdout.splitlines()[-1]), "--dir", str(place / "runs" / "optimizer-comparison")]


def lines_of_python(text: str) -> list[str]:
    """The blocks of Python that open the study of `make run`."""
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [block for block in blocks if 'tunectl.open_study("runs/optimizer-comparison")' in block]


def complaint(words: list[str], expected: str, folder: Path) -> str:
    """What is wrong with a command that is run in a folder, "" if nothing is."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        return f"ended with {ended.returncode}:\n{ended.stderr[-2000:]}"
    if expected and ended.stdout.rstrip("\n") != expected:
        return f"printed\n{ended.stdout}\nwhere the README says\n{expected}"
    return ""


def main() -> int:
    text, failed = (ROOT / "README.md").read_text(), False
    with tempfile.TemporaryDirectory() as place:
        calls = [
            (f"$ {command}", words_of(command, Path(place)), expected, ROOT)
            for command, expected in commands(text)
            if command not in LEFT_OUT
        ]
        calls += [
            (f"> {block.splitlines()[0]} …", [sys.executable, "-c", block], "", Path(place))
            for block in lines_of_python(text)
        ]
        for shown, words, expected, folder in calls:
            wrong = complaint(words, expected, folder)
            print(f"{'FAILED' if wrong else 'ok':6} {shown}", flush=True)
            if wrong:
                print(wrong)
            failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
