"""Prove by real trainings on the CPU what the procedures claim: `python scripts/prove_procedures.py recipe`, and so on.

`recipe`: lr-sweep and warmup-sweep on studies/unstable_mlp.yaml, timed; then the advised recipe and the best run
without warmup under five fresh seeds each. `normalised`: the same network at init_scale 1 with batch normalisation
needs no warmup, or none helps. `kills`: every procedure is killed at five seeded moments and run again; its
conclusion.json must be the undisturbed one's, byte by byte. `spike`: an early rise of the loss that the evaluations of
the study miss and the every-step follow-up of lr-sweep finds. `precision`: the loss curves of float32, bfloat16 and
accumulation side by side. `all` does them all. Exit code 1 if a claim does not hold. `--keep DIR` keeps the folders.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
UNSTABLE = ROOT / "studies" / "unstable_mlp.yaml"
CATAPULT = ROOT / "scripts" / "catapult_study" / "catapult.yaml"
FRESH_SEED = 1000
"""`training.seed` of what is trained after the procedures; theirs is the study's, 0."""

FRESH_RUNS = 5
MOST_SECONDS = 480.0
MOMENTS = 5
LATEST = 0.85
HANG_SECONDS = 600.0
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

SMALL = {
    "workload": "tunectl.workloads.digits:mlp",
    "objective": {"metric": "valid/error_rate", "direction": "minimize"},
    "training": {"max_train_steps": 60, "eval_every": 20, "seed": 0},
    "hyperparameters": {
        "optimizer": "momentum",
        "momentum": 0.9,
        "learning_rate": {"role": "nuisance", "range": [0.01, 1.0], "scale": "log"},
        "batch_size": 64,
        "num_layers": 3,
        "width": 32,
        "init_scale": 2.0,
    },
    "search": {"trials": 4},
}
"""A study that trains in a fraction of a second and is unstable within its range."""


@dataclass(frozen=True)
class Place:
    """Where the folders of one proof lie, and how many trials run at a time."""

    folder: Path
    slots: int

    def tunectl(self, *words: object) -> dict[str, Any]:
        """The JSON that a command printed; the script ends where it failed."""
        called = subprocess.run(
            [*TUNECTL, *map(str, words), "--quiet", "--json"],
            cwd=self.folder,
            env={**os.environ, **THREADS},
            stdout=subprocess.PIPE,
            check=False,
        )
        if called.returncode != 0:
            sys.exit(f"tunectl {' '.join(map(str, words))}: exit code {called.returncode}")
        return dict(json.loads(called.stdout))

    def procedure(self, name: str, study: Path, *words: object) -> dict[str, Any]:
        """The report of a procedure, whose folder has its name."""
        return self.tunectl(name, study, "--dir", self.folder / name, "--slots", self.slots, *words)

    def write(self, name: str, study: Mapping[str, Any]) -> Path:
        """The study as a file beside the folders."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"study": name, **study}, sort_keys=False))
        return path


TUNECTL = (sys.executable, "-m", "tunectl")


def derived(path: Path, *, seed: int = 0, **hyperparameters: object) -> dict[str, Any]:
    """A study of the repository with other hyperparameters, None for one that is left out, and another seed."""
    study = yaml.safe_load(path.read_text())
    del study["study"]
    # PyYAML reads 1e-3 as text.
    rates = [float(bound) for bound in study["hyperparameters"]["learning_rate"]["range"]]
    own = {**study["hyperparameters"], "learning_rate": {"role": "nuisance", "range": rates, "scale": "log"}}
    return {
        **study,
        "training": {**study["training"], "seed": seed},
        "hyperparameters": {name: value for name, value in {**own, **hyperparameters}.items() if value is not None},
    }


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    texts = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[index]) for row in texts) for index in range(len(header))]
    for row in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


# recipe ---------------------------------------------------------------------------------------------------------------


def prove_recipe(place: Place) -> bool:
    """The two commands under eight minutes; the worst of five runs of their recipe below the best of five without."""
    began, cpu = time.monotonic(), cpu_seconds()
    sweep = place.procedure("lr-sweep", UNSTABLE)
    between = time.monotonic()
    warmup = place.procedure("warmup-sweep", UNSTABLE, "--from", place.folder / "lr-sweep")
    ended = time.monotonic()
    table(
        ("command", "trials", "wall (s)"),
        [
            ("lr-sweep", sweep["trials"], f"{between - began:.0f}"),
            ("warmup-sweep", warmup["trials"], f"{ended - between:.0f}"),
            ("both", sweep["trials"] + warmup["trials"], f"{ended - began:.0f}"),
        ],
    )
    print(f"CPU seconds of both: {cpu_seconds() - cpu:.0f}; {place.slots} slots; the goal is {MOST_SECONDS:.0f} s\n")
    print(f"{sweep['verdict']}\n\n{warmup['verdict']}\n\n{warmup['advice']}\n")
    if not warmup["adopt"]:
        print("There is no recipe to train.")
        return False
    recipe = yaml.safe_load(warmup["advice"])
    errors = fresh_errors(place, recipe, float(sweep["best_learning_rate"]))
    won = sum(one < other for one in errors["recipe"] for other in errors["without"])
    print(f"the recipe is better in {won} of the {FRESH_RUNS**2} pairs of a run with and a run without")
    worst, best = max(errors["recipe"]), min(errors["without"])
    print(f"worst with the recipe {worst:.4f}, best without warmup {best:.4f}: {says(worst < best)}")
    return worst < best and ended - began < MOST_SECONDS


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fresh_errors(place: Place, recipe: Mapping[str, Any], rate: float) -> dict[str, list[float]]:
    """Both configurations as one study of points, each five times; a trial's seed follows its number."""
    study = derived(UNSTABLE, seed=FRESH_SEED)
    # PyYAML reads 1e-3 as text.
    adopted = {name: yaml.safe_load(str(value)) for name, value in recipe.items()}
    adopted["learning_rate"] = float(recipe["learning_rate"])
    before = {"warmup_steps": 0, **study["hyperparameters"], "learning_rate": rate}
    pair = [adopted, {name: before[name] for name in adopted}]
    for name in adopted.keys() - {"learning_rate"}:
        study["hyperparameters"][name] = {"role": "nuisance", "values": [point[name] for point in pair]}
    study["search"] = {"points": [point for _ in range(FRESH_RUNS) for point in pair]}
    path = place.write("fresh-seeds", study)
    place.tunectl("run", path, "--dir", place.folder / "fresh-seeds", "--slots", place.slots)
    trials = results(place.folder / "fresh-seeds")
    errors = {"recipe": trials[0::2], "without": trials[1::2]}
    table(
        ("five fresh seeds", *adopted, "valid/error_rate, sorted", "median"),
        [
            (name, *point.values(), " ".join(f"{x:.4f}" for x in sorted(found)), f"{statistics.median(found):.4f}")
            for (name, found), point in zip(errors.items(), pair, strict=True)
        ],
    )
    return errors


def results(folder: Path) -> list[float]:
    """The best value of every trial by retrospective selection, infinite for an infeasible one."""
    found = []
    for trial in sorted((folder / "trials").iterdir()):
        ended = json.loads((trial / "result.json").read_text())
        values = [line["metrics"]["valid/error_rate"] for line in evaluations(trial) if line["step"] > 0]
        found.append(min(values) if ended["state"] == "completed" else float("inf"))
    return found


def evaluations(trial: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (trial / "measurements.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "evaluation"]


def says(holds: bool) -> str:
    return "holds" if holds else "DOES NOT HOLD"


# normalised -----------------------------------------------------------------------------------------------------------


def prove_normalised(place: Place) -> bool:
    """The same network, drawn as it should be and normalised, gets no warmup: none is needed, or none helps.

    Its error is flat over half a decade below the unstable rate, so seeds need not say whether that rate keeps the best
    one down; then warmup-sweep tries up to the unstable rate itself.
    """
    study = place.write("normalised-mlp", derived(UNSTABLE, init_scale=1.0, normalization="batch"))
    sweep = place.procedure("lr-sweep", study)
    warmup = place.procedure("warmup-sweep", study, "--from", place.folder / "lr-sweep")
    print(f"{sweep['verdict']}\n\n{warmup['verdict']}\n")
    said = any(words in warmup["verdict"] for words in ("not needed", "does not help"))
    holds = warmup["adopt"] is False and warmup["recipe"] is None and said
    print(f"that a warmup is not needed, or does not help: {says(holds)}")
    return holds


# kills ----------------------------------------------------------------------------------------------------------------

ASKED: dict[str, tuple[str, ...]] = {
    "lr-sweep": ("--points", "5"),
    "warmup-sweep": ("--unstable-lr", "0.02", "--factor", "2"),
    "clip-sweep": ("--at", "learning_rate=0.05"),
    "range-test": ("--steps", "400"),
    "batch-size": ("--at", "learning_rate=0.05"),
    "batch-scaling": ("--steps-to", "0.5", "--points", "3", "--high", "128", "--steps", "200"),
    "curvature": ("--points", "4", "--seeds", "3"),
}
MEASURED = frozenset({"batch-size", "batch-scaling"})
"""What these conclude is timed, so that two folders never agree; a killed one must agree with itself."""


def prove_kills(place: Place) -> bool:
    """Each procedure, killed at five seeded moments in a folder for each, concludes as the undisturbed one does."""
    study = place.write("small-unstable", SMALL)
    same = True
    row = "{:13} {:>8} {:>7} {:8} {:>9} {:>7} {:>6}  {}"
    print(row.format("procedure", "wall (s)", "moment", "signal", "by then", "trials", "calls", "conclusion.json"))
    for name, options in ASKED.items():
        if not is_there(name):
            print(f"{name}: there is no such command")
            continue
        words = [name, str(study), *options, "--slots", str(place.slots)]
        calm = place.folder / f"{name}-calm"
        began = time.monotonic()
        if end(start(place, words, calm)) != 0:
            sys.exit(f"{name}: see {calm}.log")
        seconds = time.monotonic() - began
        generator = random.Random(name)
        for moment in range(MOMENTS):
            # One in each fifth of the time, so that every phase has its turn; not so late that a quick run has ended.
            fraction = LATEST * (moment + generator.random()) / MOMENTS
            number = generator.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            disturbed = place.folder / f"{name}-{moment}"
            hit = strike(place, words, disturbed, fraction * seconds, number)
            while hit[-1] == 1 and fraction > 0.1:  # it had ended by itself: the undisturbed one had a busier neighbour
                shutil.rmtree(disturbed)
                fraction *= 0.8
                hit = strike(place, words, disturbed, fraction * seconds, number)
            said = agrees(place, words, disturbed, calm)
            same = same and said == "the same" and hit[-1] > 1
            print(row.format(name, f"{seconds:.1f}", f"{fraction:.2f}", number.name, *hit, said), flush=True)
    print(f"\nthat a killed procedure concludes the same: {says(same)}")
    return same


def is_there(name: str) -> bool:
    help_text = subprocess.run([*TUNECTL, name, "--help"], capture_output=True, check=False)
    return help_text.returncode == 0


def start(place: Place, words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    with open(folder.with_name(folder.name + ".log"), "ab") as log:
        return subprocess.Popen(
            [*TUNECTL, *words, "--dir", str(folder), "--quiet"],
            cwd=place.folder,
            env={**os.environ, **THREADS},
            stdout=log,
            stderr=log,
        )


def end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(HANG_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        sys.exit(f"{' '.join(map(str, process.args))}: hangs")  # type: ignore[arg-type]


def strike(
    place: Place, words: Sequence[str], folder: Path, after_seconds: float, number: signal.Signals
) -> tuple[int, int, int]:
    """How many trials had ended when the signal came, how many there are at the end, and the calls that it took."""
    process = start(place, words, folder)
    time.sleep(after_seconds)
    process.send_signal(number)
    code = end(process)
    ended = len(list(folder.glob("trials/*/result.json")))
    calls = 1
    while code != 0:
        if calls > MOMENTS:
            sys.exit(f"{' '.join(words)} --dir {folder}: exit code {code} after {calls} calls")
        code = end(start(place, words, folder))
        calls += 1
    return ended, len(list(folder.glob("trials/*/result.json"))), calls


def agrees(place: Place, words: Sequence[str], folder: Path, calm: Path) -> str:
    """Whether two conclusions are the same bytes; of what is timed, whether one more call, which measures nothing new,
    says the same.
    """
    said = (folder / "conclusion.json").read_bytes()
    if words[0] in MEASURED:
        end(start(place, words, folder))
        other = (folder / "conclusion.json").read_bytes()
    else:
        other = (calm / "conclusion.json").read_bytes()
    return "the same" if said == other else "ANOTHER"


# spike ----------------------------------------------------------------------------------------------------------------


def prove_spike(place: Place) -> bool:
    """The every-step run shows a rise that is over before the first evaluation of the study's own schedule."""
    sweep = place.procedure("lr-sweep", CATAPULT)
    print(f"{sweep['verdict']}\n")
    every = yaml.safe_load(CATAPULT.read_text())["training"]["eval_every"]
    folder = place.folder / "lr-sweep"
    rows, missed = [], []
    for trial in map(json.loads, (folder / "plan.jsonl").read_text().splitlines()):
        if trial.get("training", {}).get("eval_every") != 1:
            continue
        lines = evaluations(folder / "trials" / f"{trial['trial']:05d}")
        losses = {line["step"]: float(line["metrics"]["train/loss"]) for line in lines}
        peak = max(losses, key=losses.__getitem__)
        ordinary = [loss for step, loss in sorted(losses.items()) if step % every == 0]
        missed.append(losses[peak] > 1.5 * ordinary[0] and max(ordinary) == ordinary[0])
        shown = " ".join(f"{loss:.3g}" for loss in ordinary)
        rate = trial["hyperparameters"]["learning_rate"]
        rows.append((rate, trial["repeat"], shown, f"{losses[peak]:.4g} at step {peak}"))
    table(("learning_rate", "seed", f"train/loss every {every} steps", "highest of every step"), rows)
    holds = sweep["early_instability"] is True and bool(missed) and all(missed)
    print(f"that the every-step run finds what the ordinary schedule misses: {says(holds)}")
    return holds


# precision ------------------------------------------------------------------------------------------------------------

WAYS: dict[str, dict[str, object]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "accumulate_steps 4": {"accumulate_steps": 4},
}
SHOWN = 10
MOST_APART = 0.25
"""bfloat16 keeps 8 bits: after hundreds of updates the curves are two trainings, alike but not equal."""


def prove_precision(place: Place) -> bool:
    """The same training in three ways, with its loss curves side by side."""
    curves = {}
    for name, fields in WAYS.items():
        slug = name.replace(" ", "-").replace("_", "-")
        calm = derived(UNSTABLE, init_scale=1.0, num_layers=2, **fields)
        calm["hyperparameters"]["learning_rate"] = 0.02
        calm["training"] |= {"max_train_steps": 500, "eval_every": 50}
        del calm["search"]
        path = place.write(slug, calm)
        place.tunectl("run", path, "--dir", place.folder / slug, "--slots", place.slots)
        trial = place.folder / slug / "trials" / "00000"
        curves[name] = {line["step"]: line["metrics"]["train/loss"] for line in evaluations(trial)}
    steps = list(curves["float32"])[1:][:SHOWN]
    rows = [(step, *(f"{curve[step]:.5f}" for curve in curves.values())) for step in steps]
    table(("train/loss at step", *curves), rows)
    apart = {
        name: max(abs(curve[step] / curves["float32"][step] - 1) for step in steps) for name, curve in curves.items()
    }
    print(", ".join(f"{name}: at most {most:.2%} from float32" for name, most in apart.items() if name != "float32"))
    holds = max(apart.values()) < MOST_APART
    print(f"that they agree roughly: {says(holds)}")
    return holds


PROOFS: dict[str, Callable[[Place], bool]] = {
    "recipe": prove_recipe,
    "normalised": prove_normalised,
    "kills": prove_kills,
    "spike": prove_spike,
    "precision": prove_precision,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", choices=[*PROOFS, "all"])
    parser.add_argument("--slots", type=int, default=2, help="trials at a time [2]")
    parser.add_argument("--keep", type=Path, help="a folder to keep what was run in")
    given = parser.parse_args()
    holds = True
    for name, proof in PROOFS.items():
        if given.proof in (name, "all"):
            print(f"== {name}\n")
            with tempfile.TemporaryDirectory(prefix="tunectl-proof-") as scratch:
                folder = given.keep / name if given.keep else Path(scratch)
                folder.mkdir(parents=True, exist_ok=True)
                holds = proof(Place(folder.resolve(), given.slots)) and holds
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
