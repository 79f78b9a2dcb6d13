"""Hosts that see a study folder late, or whose disk is full: what late_folder.c shows their processes.

A host is a file that its processes share. All that they do themselves they see at once; what others do they see later.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("late_folder.c")
COUNTS = ("hidden", "still there", "earlier content", "disk full", "forgotten")
"""How often a host did not see what is there, saw what was there before, read an earlier content, or had no room; and
how often it saw the truth because there was no room to remember more. In the order of the source.
"""

_HEAD = struct.Struct("QQQ8Q512s")
_FULL_AT = 16


def compiled(folder: Path) -> Path:
    """The library for LD_PRELOAD; ends the script where there is no compiler."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        raise SystemExit(f"no C compiler: {SOURCE.name} cannot be compiled (apt-get install gcc libc6-dev)")
    library = folder / "late_folder.so"
    subprocess.run([compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class LateHost:
    """A host that sees `folder` up to `delay_seconds` late; `contents`: also earlier contents of files that others
    change, as without close-to-open consistency. `state` is the file that its processes share.
    """

    library: Path
    state: Path
    folder: Path
    delay_seconds: float = 0.0
    contents: bool = False

    def make(self) -> None:
        """Make the file, before the host's first process."""
        head = (round(self.delay_seconds * 1e9), int(self.contents), 0, *([0] * 8), os.fsencode(self.folder))
        self.state.write_bytes(_HEAD.pack(*head))
        self.state.with_name(f"{self.state.name}.boot").write_text(f"{uuid.uuid4()}\n")

    @property
    def environment(self) -> dict[str, str]:
        """What the environment of the host's processes has besides."""
        return {"LD_PRELOAD": str(self.library), "TUNECTL_LATE": str(self.state)}

    def set_delay(self, seconds: float) -> None:
        """Let what others do from now on show up to so much later."""
        self._write(0, round(seconds * 1e9))

    def fill_disk(self, *, full: bool) -> None:
        """Let the host's disk be full from now on, or not any more."""
        self._write(_FULL_AT, int(full))

    def _write(self, place: int, number: int) -> None:
        with open(self.state, "r+b") as file:
            file.seek(place)
            file.write(struct.pack("Q", number))

    def counts(self) -> Counter[str]:
        """How often the host was shown something late, by COUNTS."""
        with open(self.state, "rb") as file:
            numbers = _HEAD.unpack(file.read(_HEAD.size))[3 : 3 + len(COUNTS)]
        return Counter(dict(zip(COUNTS, numbers, strict=True)))
