"""Which planted effects and interactions are found, and what is wrongly named? `python scripts/planted_sensitivity.py`.

The points are those that a real study would sample; the losses are formulas with noise (tests/planted_effects.py). For
each surface and number of trials the table says in which part of the studies `sensitive` names all hyperparameters that
matter, `interaction` the pair that does, and in which part either names a wrong one. The noise is what counts as a
clear effect at that number of trials; a row in parentheses has too few feasible trials for one. The clean studies have
no effect at all: of 1 to 3 settings, 10 to 100 trials and 2 to 7 hyperparameters, some with ties or infeasible trials.
Exit code 1 if less than 95 % of a clear effect is found, more than 5 % of the clean studies have either finding, or
`insensitive` names what `sensitive` does. Two minutes of CPU time at the defaults.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from planted_effects import PLANTED, planted_effects  # noqa: E402
from simulated_studies import DOMAINS, Shape  # noqa: E402
from study_of_losses import study_by_positions  # noqa: E402

from tunectl.analysis.findings.finding_evidence import StudyEvidence  # noqa: E402
from tunectl.analysis.search.insensitive import insensitive_findings  # noqa: E402
from tunectl.analysis.search.interactions import interactions  # noqa: E402
from tunectl.analysis.search.sensitivity import responding_keys  # noqa: E402
from tunectl.language.study_reader import parse_study  # noqa: E402

FOUND = 0.95
ALARMS = 0.05
CLEAR_NOISE: Mapping[int, float] = {20: 0.1, 40: 0.3, 100: 0.7}
"""The noise for each number of trials, as a part of the deviation that the effects make."""

CLEAN = "clean"


@dataclass(frozen=True)
class Named:
    """What was named in a study: all that responds, whether the pair, whether a wrong one; and the CPU seconds."""

    case: tuple[str, int]
    found: bool
    found_pair: bool
    wrong: bool
    wrong_pair: bool
    contradicts: bool
    seconds: float


def named(task: tuple[str, int, int]) -> Named:
    name, trials, seed = task
    if name == CLEAN:
        evidence, responds, pair, allowed = clean(seed), *[frozenset[str]()] * 3
    else:
        planted = PLANTED[name]
        evidence = planted_effects(name, seed, trials, CLEAR_NOISE[trials])
        responds, pair, allowed = planted.responding | planted.deciding, planted.pair, planted.allowed
    start = time.process_time()
    keys = responding_keys(evidence)
    pairs = {frozenset(item.keys) for item in interactions(evidence)}
    seconds = time.process_time() - start
    insensitive = {key for finding in insensitive_findings(evidence) for key in finding.hyperparameters}
    expected = {pair} if pair else set()
    return Named(
        (name, trials),
        found=responds <= keys,
        found_pair=expected <= pairs,
        wrong=bool(keys - responds - allowed),
        wrong_pair=bool(pairs - expected),
        contradicts=bool(keys & insensitive),
        seconds=seconds,
    )


def clean(seed: int) -> StudyEvidence:
    """A study in which nothing has an effect."""
    generator = np.random.default_rng([seed, 61])
    names = tuple(generator.permutation(list(DOMAINS))[: generator.integers(2, 8)].tolist())
    trials = int(np.exp(generator.uniform(np.log(10), np.log(100))))
    shape = Shape(names=names, trials=trials, settings=int(generator.integers(1, 4)))
    kind = generator.integers(0, 4)

    def loss(generator: np.random.Generator, _at: Mapping[str, float]) -> float:
        if kind == 1 and generator.uniform() < 0.25:
            return float("inf")
        return float(generator.integers(0, 4) if kind == 2 else generator.normal())

    spec = parse_study(shape.text().replace("{seed}", str(seed)), Path("/studies/simulated.yaml"))
    return study_by_positions(spec, generator, loss)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50, help="studies of each surface and number of trials [50]")
    parser.add_argument("--clean", type=int, default=400, help="clean studies [400]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [one a core]")
    asked = parser.parse_args()
    tasks = [(name, trials, seed) for name in PLANTED for trials in CLEAR_NOISE for seed in range(asked.seeds)]
    tasks += [(CLEAN, 0, seed) for seed in range(asked.clean)]
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        studies = pool.map(named, tasks, chunksize=10)
    return table(studies)


def table(studies: list[Named]) -> int:
    """Print the table; 1 if the aims are missed."""
    print(f"{'surface':32}{'trials':>7}{'noise':>7}{'found':>8}{'pair':>7}{'wrong':>8}{'wrong pair':>12}")
    missed = False
    for case in dict.fromkeys(study.case for study in studies):
        own = [study for study in studies if study.case == case]
        found, pair, wrong, wrong_pair = (
            sum(getattr(study, name) for study in own) / len(own)
            for name in ("found", "found_pair", "wrong", "wrong_pair")
        )
        name, trials = case
        if name == CLEAN:
            any_wrong = sum(study.wrong or study.wrong_pair for study in own)
            missed |= any_wrong > ALARMS * len(own)
            shares = f"({wrong:.1%}, of a pair {wrong_pair:.1%})"
            print(f"{len(own)} clean studies: {any_wrong / len(own):.1%} have a finding {shares}")
            continue
        planted = PLANTED[name]
        is_clear = trials >= planted.fewest
        missed |= is_clear and min(found, pair) < FOUND
        shown = f"{found:8.0%}" if planted.responding else f"{'':8}"
        shown += f"{pair:7.0%}" if planted.pair else f"{'':7}"
        name = name if is_clear else f"({name})"
        print(f"{name:32}{trials:7d}{CLEAR_NOISE[trials]:7g}{shown}{wrong:8.0%}{wrong_pair:12.0%}")
    contradictions = sum(study.contradicts for study in studies)
    print(f"{contradictions} of {len(studies)} studies name a hyperparameter both sensitive and insensitive")
    print(f"{1000 * sum(study.seconds for study in studies) / len(studies):.0f} ms of CPU time a study")
    return int(missed or contradictions > 0)


if __name__ == "__main__":
    sys.exit(main())
