"""Make the picture of the README again: every trial of studies/optimizer_comparison.yaml, as `tunectl report` draws it.

    python scripts/readme_picture.py

It trains the study in a temporary folder (about a minute) and writes studies/pictures/optimizer_comparison.svg. The
README shows the settings table of the same run: compare the table that this prints with the one in the README.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "studies" / "optimizer_comparison.yaml"
PICTURE = ROOT / "studies" / "pictures" / "optimizer_comparison.svg"


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        for words in (["run", str(STUDY), "--dir", str(folder)], ["report", str(folder)]):
            subprocess.run([sys.executable, "-m", "tunectl", *words], cwd=ROOT, check=True)
        PICTURE.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / "plots" / "axis-optimizer.svg", PICTURE)
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
