"""Is it found where short and long trials agree, or do not? `python scripts/planted_stages.py`.

Studies of two stages are simulated (tests/planted_stages.py): the order of the short trials carries over, or is turned
round, or the best learning rate falls with the length of training; in clean ones both lengths have the same best place,
and 2 to 10 trials of each setting are promoted. The table says in how many studies `stages-agree` says so, and in how
many clean studies it warns. `--seeds` studies a case, `--clean` clean ones. Exit code 1 if fewer than 95 % of a case
are found or more than 5 % of the clean studies have its warning. Some three minutes of CPU time at the defaults.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from planted_stages import STAGE_CASES, staged_evidence  # noqa: E402

from tunectl.analysis.findings.stage_findings import stages_agree  # noqa: E402

FOUND = 0.95
ALARMS = 0.05
CLEAN = ""


@dataclass(frozen=True)
class Said:
    """What `stages-agree` says of one study: its level, its verdict, and the hyperparameters that drift."""

    case: str
    level: str = ""
    verdict: str = ""
    drifts: tuple[str, ...] = ()

    @property
    def is_found(self) -> bool:
        """Whether it says what was planted."""
        match self.case:
            case "stages-agree":
                return self.verdict == "agree" and self.level == "note"
            case "stages-disagree":
                return self.verdict == "disagree"
            case _:
                return "learning_rate" in self.drifts


def said(task: tuple[str, int]) -> Said:
    case, seed = task
    found = stages_agree(staged_evidence(case, seed))
    if not found:
        return Said(case)
    return Said(case, found[0].level, str(found[0].numbers["verdict"]), tuple(found[0].hyperparameters))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="planted studies a case [50]")
    parser.add_argument("--clean", type=int, default=400, help="clean studies [400]")
    parser.add_argument("--first-seed", type=int, default=10_000, help="the seed to begin with [10000]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [one a core]")
    asked = parser.parse_args()
    tasks = [(case, asked.first_seed + seed) for case in STAGE_CASES for seed in range(asked.seeds)]
    tasks += [(CLEAN, asked.first_seed + seed) for seed in range(asked.clean)]
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        found = list(pool.imap_unordered(said, tasks, chunksize=4))
    return table(found)


def table(found: list[Said]) -> int:
    """Print the table; 1 if the aims are missed."""
    missed = False
    print(f"{'case':30}{'planted':>8}{'found':>8}")
    for case in STAGE_CASES:
        own = [item for item in found if item.case == case]
        share = sum(item.is_found for item in own) / max(len(own), 1)
        missed |= share < FOUND
        print(f"{case:30}{len(own):8d}{share:8.0%}")
    clean = [item for item in found if item.case == CLEAN]
    alarmed = sum(item.level == "warning" for item in clean)
    turned, drifted = sum(item.verdict == "disagree" for item in clean), sum(bool(item.drifts) for item in clean)
    print(f"warning in {len(clean)} clean studies: {alarmed / max(len(clean), 1):.1%}", end="")
    print(f" ({turned} that the order is reversed, {drifted} that a hyperparameter drifts)")
    return int(missed or alarmed > ALARMS * len(clean))


if __name__ == "__main__":
    sys.exit(main())
