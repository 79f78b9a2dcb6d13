"""Which planted flaws are found, and what is said about clean studies? `python scripts/planted_flaws.py`.

Studies are simulated by formula: a response surface with noise over the points that a real study would sample, and
learning curves that fall to it (tests/simulated_studies.py, planted_curves.py, planted_samples.py, planted_effects.py;
a clean study has effects, so `sensitive` is right in most). Rows of `stages-agree` are studies of two stages, judged
beside clean ones of two stages (planted_stages.py); `saturated` is about campaigns, beside ones that gain in each round
(planted_campaigns.py). For each flaw the table says in how many studies it was planted, in how many of them its finding
came, in how many as the first warning, and in how many of the clean ones it came as a warning or as a note. `--seeds`
planted studies a flaw, `--clean` clean ones of each kind, `--only` some flaws. Exit code 1 if fewer than 95 % of a flaw
are found, or more than 5 % of the clean ones of a kind have any warning. Some ten minutes of CPU time at the defaults.
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

from planted_campaigns import planted_campaign  # noqa: E402
from planted_curves import CURVE_FLAWS, UPDATE_FLAWS, planted_evidence  # noqa: E402
from planted_effects import planted_effects  # noqa: E402
from planted_samples import SAMPLE_FLAWS, beside_whole, planted_sample  # noqa: E402
from planted_stages import STAGE_CASES, staged_evidence  # noqa: E402
from simulated_studies import SEARCH_FLAWS, simulated_evidence  # noqa: E402

from tunectl.analysis.comparison.campaign_gains import campaign_progress  # noqa: E402
from tunectl.analysis.findings.finding_evidence import StudyEvidence  # noqa: E402
from tunectl.analysis.findings.findings import Finding  # noqa: E402
from tunectl.analysis.findings.stage_findings import stages_agree  # noqa: E402
from tunectl.analysis.findings.study_findings import study_findings  # noqa: E402

FOUND = 0.95
ALARMS = 0.05
CLEAN = ""
EFFECTS = {"sensitive": "additive", "interaction": "valley"}
"""The surfaces of planted_effects on which these findings must come; scripts/planted_sensitivity.py asks for more."""

STUDIES, STAGED, CAMPAIGNS = "studies", "studies of two stages", "campaigns"
FLAWS_OF = {
    STUDIES: (*SEARCH_FLAWS, *CURVE_FLAWS, *UPDATE_FLAWS, *SAMPLE_FLAWS, *EFFECTS),
    STAGED: STAGE_CASES,
    CAMPAIGNS: ("saturated",),
}
"""The flaws by what they are planted in; each kind has clean ones of its own."""
FLAWS = tuple(flaw for flaws in FLAWS_OF.values() for flaw in flaws)

EFFECT_TRIALS, EFFECT_NOISE = 40, 0.3
"""The noise is a part of the deviation that the effects make."""

UPDATES_OF = 2
"""The number of best trials of each setting for which a clean study has the series of every update."""

FINDING_OF = {
    "overfitting-elsewhere": "overfitting",
    "slanted-edge": "stability-edge",
    **dict.fromkeys(STAGE_CASES, "stages-agree"),
}
"""The finding of a flaw that goes by another name."""

Task = tuple[str, str, int]
"""What is simulated, its flaw, and the seed."""


@dataclass(frozen=True)
class Said:
    """What was found in one study or campaign: whether what was planted, ids of warnings and notes in their order, and
    the CPU seconds.
    """

    kind: str
    flaw: str
    is_found: bool
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


def said(task: Task) -> Said:
    kind, flaw, seed = task
    if kind == CAMPAIGNS:
        rounds = planted_campaign(seed, saturated=flaw != CLEAN)
        start = time.process_time()
        warnings = ["saturated"] if campaign_progress(rounds).verdict == "saturated" else []
        return Said(kind, flaw, bool(warnings), warnings, [], time.process_time() - start)
    evidence = staged_evidence(flaw, seed) if kind == STAGED else simulated(flaw, seed)
    start = time.process_time()
    findings = stages_agree(evidence) if kind == STAGED else study_findings(evidence)
    seconds = time.process_time() - start
    own = FINDING_OF.get(flaw, flaw)
    is_found = any(says_what_was_planted(finding, flaw) for finding in findings if finding.id == own)
    warnings, notes = ([item.id for item in findings if item.level == level] for level in ("warning", "note"))
    return Said(kind, flaw, is_found, warnings, notes, seconds)


def says_what_was_planted(finding: Finding, flaw: str) -> bool:
    """Whether the finding of a flaw says what was planted: of stages it may also say the opposite."""
    match flaw:
        case "stages-agree":
            return finding.numbers["verdict"] == "agree" and finding.level == "note"
        case "stages-disagree":
            return finding.numbers["verdict"] == "disagree"
        case "peak-rate-drifts":
            return "learning_rate" in finding.hyperparameters
        case _:
            return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="planted studies a flaw [50]")
    parser.add_argument("--clean", type=int, default=400, help="clean ones of each kind [400]")
    parser.add_argument("--first-seed", type=int, default=10_000, help="the seed to begin with [10000]")
    parser.add_argument("--only", nargs="+", choices=FLAWS, help="these flaws alone, and nothing clean")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [one a core]")
    asked = parser.parse_args()
    first, wanted = asked.first_seed, asked.only or FLAWS
    tasks = [
        (kind, flaw, first + seed)
        for kind, flaws in FLAWS_OF.items()
        for flaw in flaws
        if flaw in wanted
        for seed in range(asked.seeds)
    ]
    count = 0 if asked.only else asked.clean
    tasks += [(kind, CLEAN, first + seed) for kind in FLAWS_OF for seed in range(count)]
    found: list[Said] = []
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        for item in pool.imap_unordered(said, tasks, chunksize=4):
            found.append(item)
            if len(found) % 100 == 0:
                print(f"{len(found)} of {len(tasks)} studies", file=sys.stderr, flush=True)
    return table(found)


def table(found: list[Said]) -> int:
    """Print the table; 1 if the aims are missed."""
    missed = False
    print(f"{'':30}{'':>8}{'':>8}{'first':>9}   in clean ones of its kind")
    print(f"{'flaw':30}{'planted':>8}{'found':>8}{'warning':>9}   {'warning':>9}{'note':>9}")
    for kind, flaws in FLAWS_OF.items():
        own = [item for item in found if item.kind == kind]
        missed |= rows(kind, flaws, own) if own else False
    seconds = [item.seconds for item in found if item.kind == STUDIES]
    print(f"{sum(seconds) / max(len(seconds), 1) * 1000:.0f} ms of CPU time a study for all findings")
    return int(missed)


def rows(kind: str, flaws: tuple[str, ...], own: list[Said]) -> bool:
    """Print the rows of one kind; whether the aims are missed."""
    clean = [item for item in own if item.flaw == CLEAN]
    warnings = Counter(name for item in clean for name in set(item.warnings))
    notes = Counter(name for item in clean for name in set(item.notes) - set(item.warnings))
    missed = False
    for flaw in flaws:
        planted, finding = [item for item in own if item.flaw == flaw], FINDING_OF.get(flaw, flaw)
        if not planted:
            continue
        found = sum(item.is_found for item in planted) / len(planted)
        first = sum(item.warnings[:1] == [finding] for item in planted) / len(planted)
        missed |= found < FOUND
        shares = f"{_percent(warnings[finding], clean)}{_percent(notes[finding], clean)}"
        print(f"{flaw:30}{len(planted):8d}{found:8.0%}{first:9.0%}   {shares}")
    for name in sorted((set(warnings) | set(notes)) - {FINDING_OF.get(flaw, flaw) for flaw in flaws}):
        print(f"{name:55}   {_percent(warnings[name], clean)}{_percent(notes[name], clean)}")
    alarmed = sum(bool(item.warnings) for item in clean)
    if clean:
        print(f"{f'any warning in {len(clean)} clean {kind}':55}   {_percent(alarmed, clean)}")
    return missed or alarmed > ALARMS * len(clean)


def _percent(part: int, clean: list[Said]) -> str:
    return f"{part / len(clean):9.1%}" if clean else f"{'':9}"


if __name__ == "__main__":
    sys.exit(main())
