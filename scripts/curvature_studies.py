"""Run the studies of curvature, and say whether what the paper reports is seen.

`python scripts/curvature_studies.py` runs every study in studies/curvature, or those that are named, each in less than
five minutes on two cores, into `--dir` (runs/). Each ends with its figure (plots/ in the study's folder), its numbers
and one sentence. A study that was run before is only read. Exit code 1 if something was not seen or a run failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from curvature_answers import ANSWERS, Answer
from curvature_trials import read_trials, unconverged

from tunectl.report.plots import write_figure

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "studies" / "curvature"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help=f"which of {', '.join(ANSWERS)} [all]")
    parser.add_argument("--dir", type=Path, default=Path("runs"), help="where their folders are [runs]")
    parser.add_argument("--slots", type=int, help="trials at a time [as tunectl run]")
    asked = parser.parse_args()
    if unknown := [name for name in asked.studies if name not in ANSWERS]:
        parser.error(f"no study named {', '.join(unknown)}; there are {', '.join(ANSWERS)}")
    wrong = 0
    for name in asked.studies or ANSWERS:
        folder = asked.dir / f"curvature-{name.replace('_', '-')}"
        wrong += not shown(name, folder, asked.slots)
    return int(wrong > 0)


def shown(name: str, folder: Path, slots: int | None) -> bool:
    """Run a study and print what it shows; False where it was not seen or the run failed."""
    started = time.monotonic()
    words = ["run", str(STUDIES / f"{name}.yaml"), "--dir", str(folder), "--quiet"]
    if slots is not None:
        words += ["--slots", str(slots)]
    ended = subprocess.run([sys.executable, "-m", "tunectl", *words], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        print(f"{name}: tunectl {' '.join(words)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
        return False
    seconds = time.monotonic() - started
    trials = read_trials(folder)
    answer = ANSWERS[name](trials)
    files = write_figure(folder / "plots", answer.figure)
    rough, eigenvalues = unconverged(trials)
    print(f"\n{name}: {len(trials)} trials, {seconds:.0f} s, figure {files[0]}")
    print("\n".join(aligned(answer)))
    print(f"{rough:,} of {eigenvalues:,} eigenvalues had not converged")
    print(textwrap.fill(answer.sentence, 100), flush=True)
    return answer.seen


def aligned(answer: Answer) -> list[str]:
    """The lines of the answer's table."""
    widths = [max(len(row[place]) for row in answer.table) for place in range(len(answer.table[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in answer.table
    ]


if __name__ == "__main__":
    sys.exit(main())
