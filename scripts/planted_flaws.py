"""Which planted flaws are found, and what is said about clean studies? `python scripts/planted_flaws.py`.

Studies are simulated by formula (tests/simulated_studies.py, planted_curves.py, planted_samples.py and
planted_effects.py): a response surface with noise over the points that a real study would sample, and learning curves
that fall to it (a clean study has effects, so `sensitive` is right in most). For each flaw the table says in how many
studies it was planted, in how many of them its finding came, in how many as the first warning, and in how many of the
clean studies it came as a warning or as a note. `--seeds` planted studies a flaw, `--clean` clean ones, `--only` some
flaws. Exit code 1 if fewer than 95 % of a flaw are found or more than 5 % of the clean studies have any warning. Some
ten minutes of CPU time at the defaults.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from planted_curves import CURVE_FLAWS, UPDATE_FLAWS, planted_evidence  # noqa: E402
from planted_effects import planted_effects  # noqa: E402
from planted_samples import SAMPLE_FLAWS, beside_whole, planted_sample  # noqa: E402
from simulated_studies import SEARCH_FLAWS, simulated_evidence  # noqa: E402

from tunectl.analysis.findings.finding_evidence import StudyEvidence  # noqa: E402
from tunectl.analysis.findings.study_findings import study_findings  # noqa: E402

FOUND = 0.95
ALARMS = 0.05
CLEAN = ""
EFFECTS = {"sensitive": "additive", "interaction": "valley"}
"""The surfaces of planted_effects on which these findings must come; scripts/planted_sensitivity.py asks for more."""

FLAWS = (*SEARCH_FLAWS, *CURVE_FLAWS, *UPDATE_FLAWS, *SAMPLE_FLAWS, *EFFECTS)

EFFECT_TRIALS, EFFECT_NOISE = 40, 0.3
"""The noise is a part of the deviation that the effects make."""

UPDATES_OF = 2
"""The number of best trials of each setting for which a clean study has the series of every update."""

FINDING_OF = {"overfitting-elsewhere": "overfitting", "slanted-edge": "stability-edge"}
"""The finding of a flaw that goes by another name."""


@dataclass(frozen=True)
class Said:
    """What was found in one study: ids of warnings and notes in their order, and the CPU seconds."""

    flaw: str
    warnings: list[str]
    notes: list[str]
    seconds: float


def simulated(flaw: str, seed: int) -> StudyEvidence:
    """The study of a seed with a flaw, or a clean one."""
    if flaw == CLEAN:
        return beside_whole(simulated_evidence(seed, updates_of=UPDATES_OF), seed)
    if flaw in SAMPLE_FLAWS:
        return planted_sample(flaw, seed)
    if flaw in EFFECTS:
        return planted_effects(EFFECTS[flaw], seed, EFFECT_TRIALS, EFFECT_NOISE)
    return simulated_evidence(seed, flaw=flaw) if flaw in SEARCH_FLAWS else planted_evidence(flaw, seed)


def said(task: tuple[str, int]) -> Said:
    flaw, seed = task
    evidence = simulated(flaw, seed)
    start = time.process_time()
    findings = study_findings(evidence)
    seconds = time.process_time() - start
    warnings = [finding.id for finding in findings if finding.level == "warning"]
    return Said(flaw, warnings, [finding.id for finding in findings if finding.level == "note"], seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="planted studies a flaw [50]")
    parser.add_argument("--clean", type=int, default=400, help="clean studies [400]")
    parser.add_argument("--first-seed", type=int, default=10_000, help="the seed to begin with [10000]")
    parser.add_argument("--only", nargs="+", choices=FLAWS, help="these flaws alone, and no clean study")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [one a core]")
    asked = parser.parse_args()
    flaws = asked.only or FLAWS
    count = 0 if asked.only else asked.clean
    tasks = [(flaw, asked.first_seed + seed) for flaw in flaws for seed in range(asked.seeds)]
    tasks += [(CLEAN, asked.first_seed + seed) for seed in range(count)]
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        found = []
        for item in pool.imap_unordered(said, tasks, chunksize=4):
            found.append(item)
            if len(found) % 100 == 0:
                print(f"{len(found)} of {len(tasks)} studies", file=sys.stderr, flush=True)
    return table(flaws, [item for item in found if item.flaw != CLEAN], [item for item in found if item.flaw == CLEAN])


def table(flaws: tuple[str, ...], planted: list[Said], clean: list[Said]) -> int:
    """Print the table; 1 if the aims are missed."""
    warnings = Counter(name for item in clean for name in set(item.warnings))
    notes = Counter(name for item in clean for name in set(item.notes) - set(item.warnings))
    alarmed, missed = sum(bool(item.warnings) for item in clean), False
    print(f"{'':30}{'':>8}{'':>8}{'first':>9}   in {len(clean)} clean studies")
    print(f"{'flaw':30}{'planted':>8}{'found':>8}{'warning':>9}   {'warning':>9}{'note':>9}")
    for flaw in flaws:
        own, studies = FINDING_OF.get(flaw, flaw), [item for item in planted if item.flaw == flaw]
        found = sum(own in item.warnings + item.notes for item in studies)
        first = sum(item.warnings[:1] == [own] for item in studies)
        missed |= found < FOUND * len(studies)
        shares = f"{found / max(len(studies), 1):8.0%}{first / max(len(studies), 1):9.0%}"
        print(f"{flaw:30}{len(studies):8d}{shares}   {_percent(warnings[own], clean)}{_percent(notes[own], clean)}")
    for name in sorted((set(warnings) | set(notes)) - {FINDING_OF.get(flaw, flaw) for flaw in flaws}):
        print(f"{name:55}   {_percent(warnings[name], clean)}{_percent(notes[name], clean)}")
    print(f"{'any warning':55}   {_percent(alarmed, clean)}")
    seconds = [item.seconds for item in planted + clean]
    print(f"{sum(seconds) / max(len(seconds), 1) * 1000:.0f} ms of CPU time a study for all findings")
    return int(missed or alarmed > ALARMS * len(clean))


def _percent(part: int, clean: list[Said]) -> str:
    return f"{part / len(clean):9.1%}" if clean else f"{'':9}"


if __name__ == "__main__":
    sys.exit(main())
