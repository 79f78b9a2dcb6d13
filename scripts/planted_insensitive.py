"""When is a hyperparameter called insensitive, and when wrongly? `python scripts/planted_insensitive.py`.

Studies are simulated by formula (tests/simulated_studies.py): the error is a bowl over the positions of the
hyperparameters, with an optimum of the learning rate and a noise from trial to trial that are drawn. Weight decay has
the strength of its row: one range away from its optimum the error rises by so much, before it saturates at 0.9; the
floor is 0.03 to 0.15. The table says in which part of the studies `insensitive` names it, by the number of trials and
of the hyperparameters that vary. Exit code 1 if one of a clear strength (0.15) is named in more than 5 % of all
studies. Some three minutes of CPU time at the defaults.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from simulated_studies import Response, Shape, evidence_of  # noqa: E402

from tunectl.analysis.findings.finding_evidence import StudyEvidence  # noqa: E402
from tunectl.analysis.search.insensitive import insensitive_findings  # noqa: E402

NAMES = ("learning_rate", "weight_decay", "momentum", "width")
TRIALS = (30, 50, 80, 120, 200)
STRENGTHS = (0.0, 0.05, 0.15, 0.4)
CLEAR = 0.15
ALARMS = 0.05


def simulated(seed: int, trials: int, varying: int, strength: float) -> StudyEvidence:
    """A study in which weight decay matters by `strength`, and the other hyperparameters by what is drawn."""
    generator = np.random.default_rng([seed, 50])
    optima = {name: float(generator.uniform(0.3, 0.7)) for name in NAMES[:varying]}
    strengths = {name: float(generator.choice([0.0, 0.15, 0.4, 1.0])) for name in NAMES[:varying]}
    strengths |= {"learning_rate": float(np.exp(generator.uniform(np.log(0.3), np.log(4.0)))), "weight_decay": strength}
    response = Response(
        optima,
        strengths,
        floor=float(generator.uniform(0.03, 0.15)),
        noise=float(generator.uniform(0.02, 0.1)),
        edge=float(generator.uniform(0.8, 1.1)),
    )
    return evidence_of(seed, Shape(names=NAMES[:varying], trials=trials), response)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, help="studies of each kind [100]")
    asked = parser.parse_args()
    print(f"{'trials':>7}{'varying':>9}" + "".join(f"{f'strength {strength:g}':>15}" for strength in STRENGTHS))
    wrongly = studies = 0
    for trials in TRIALS:
        for varying in (2, 4):
            shares = []
            for strength in STRENGTHS:
                named = sum(
                    any(
                        finding.hyperparameters == ("weight_decay",)
                        for finding in insensitive_findings(simulated(seed, trials, varying, strength))
                    )
                    for seed in range(asked.seeds)
                )
                shares.append(named / asked.seeds)
                wrongly += named if strength >= CLEAR else 0
                studies += asked.seeds if strength >= CLEAR else 0
            print(f"{trials:7d}{varying:9d}" + "".join(f"{share:15.0%}" for share in shares), flush=True)
    print(f"named although its strength is {CLEAR:g} or more: {wrongly / studies:.1%} of {studies} studies")
    return int(wrongly > ALARMS * studies)


if __name__ == "__main__":
    sys.exit(main())
