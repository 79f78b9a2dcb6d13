"""Damage the files of study folders one by one, and call the commands that read them.

Tiny studies are made (folder_study/): one finished with retrains and an export, one stopped half way, the sweep of a
learning rate, one with two stages, and one whose trials a model proposed. Then, by a seed, one file of one folder is
damaged (every JSON value becomes every other type, bytes are cut, removed or flipped, the index is altered by SQL),
and `status`, `query`, `ls`, `compare`, `next`, `export`, `report`, `run` (or the sweep) and `retrain` are called on
it, in forked children with a time limit. In half of the folders the records have no checksums, as earlier versions
wrote them. Exit code 1 if a call ends in a traceback, by a signal or in its time limit, prints a control character, or
shows other results than those of the undamaged folder without naming the file. Of records without checksums a value
that is as good as another cannot be known to be wrong: there only the rest counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from damaging import Damage, control_in, damages, without_seals
from folder_calls import CRASHED, Called, answer, call, commands, copied, load, load_what_was_loaded, words_of

from tunectl.core.errors import EXIT_INTERRUPTED

SOURCE = Path(__file__).resolve().parent / "folder_study"
LIMIT_SECONDS = 60.0
_RANGES = 40  # of bytes of each file, four damages each
_PRINTED = 12
OWN_STUDY = ("sweep", "staged", "suggested")
"""The folders that are of another study than the finished one."""
# Files without results of trials, or that are made again from the rest: damage to them need not be reported.
_DERIVED = ("tables/", "exports/", "log.txt", "uncommitted.diff", "findings.json", "hyperparameters.yaml", "lock")


@dataclass
class Ledger:
    """What was called, by command, and what was wrong."""

    calls: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    named: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, str, str]] = field(default_factory=list)

    def join(self, other: dict[str, object]) -> None:
        self.calls.update(other["calls"])  # type: ignore[arg-type]
        self.named.update(other["named"])  # type: ignore[arg-type]
        self.damaged += int(other["damaged"])  # type: ignore[call-overload]
        self.violations += [tuple(item) for item in other["violations"]]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Case:
    """A damage to a file of one of the folders."""

    folder: str
    damage: Damage

    def __str__(self) -> str:
        return f"{self.folder}/{self.damage.file}: {self.damage.name}"


def made(place: Path) -> dict[str, Path]:
    """The undamaged folders, by name."""
    study = place / "origin" / "tiny.yaml"
    shutil.copytree(SOURCE, study.parent)
    folders = {name: place / "sound" / name / "tiny" for name in ("finished", "half", *OWN_STUDY)}
    for folder in folders.values():
        folder.parent.mkdir(parents=True)
    whole, loaded = folders["finished"], place / "modules"
    _expect(call(words_of("run", whole, study), whole, LIMIT_SECONDS))
    _expect(call([*words_of("retrain", whole, study), "--each-setting"], whole, LIMIT_SECONDS))
    for command in ("report", "export"):
        _expect(call(words_of(command, whole, study), whole, LIMIT_SECONDS))
    for command in commands():
        call(words_of(command, whole, study), whole, LIMIT_SECONDS, loaded)
    (whole.parent / "next.yaml").unlink()
    load_what_was_loaded(loaded)
    seed = json.loads((whole / "plan.jsonl").read_text().splitlines()[2])["seed"]
    _stop_half_way(folders["half"], study, seed)
    explored = study.parent / "explored"
    _expect(call(words_of("run", explored, study.with_name("explored.yaml")), explored, LIMIT_SECONDS))
    for name in OWN_STUDY:
        _expect(call(words_of("run", folders[name], _study(name, study)), folders[name], LIMIT_SECONDS))
    for name in [*folders]:
        old = place / "sound" / f"old-{name}" / "tiny"
        copied(folders[name], old)
        without_seals(old)
        folders[f"old-{name}"] = old
    return folders


def _study(folder: str, study: Path) -> Path:
    """The study file of one of the folders, beside that of the others."""
    name = folder.removeprefix("old-")
    return study.with_name(f"{name}.yaml") if name in OWN_STUDY else study


def _stop_half_way(folder: Path, study: Path, seed: int) -> None:
    """Run the study until its trial 2 waits in the middle, and stop it there."""
    words = [sys.executable, "-m", "tunectl", *words_of("run", folder, study)]
    log = folder / "trials" / "00002" / "log.txt"
    with subprocess.Popen(
        words, env={**os.environ, "FUZZ_WAIT": str(seed)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as runner:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (log.exists() and '"step": 20' in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        runner.terminate()
    if runner.returncode != EXIT_INTERRUPTED:
        raise SystemExit(f"the study was not stopped half way: exit code {runner.returncode}")


def _expect(called: Called) -> None:
    if called.code not in (0, 1, 130):
        raise SystemExit(f"the undamaged folders cannot be made:\n{called.out}\n{called.err}")


def cases(folders: dict[str, Path], generator: random.Random) -> Iterator[Case]:
    """All damages, in a random order in which every file has its turn."""
    waiting = []
    for name, folder in folders.items():
        for listed in damages(folder, generator, _RANGES).values():
            generator.shuffle(listed)
            waiting.append([Case(name, damage) for damage in listed])
    while waiting:
        generator.shuffle(waiting)
        for listed in waiting:
            yield listed.pop()
        waiting = [listed for listed in waiting if listed]


@dataclass
class Worker:
    """A process that calls the commands. It has a folder of its own to damage, and an undamaged one beside it."""

    place: Path
    sound: dict[str, Path]
    study: Path
    commands: tuple[str, ...]
    ledger: Ledger = field(default_factory=Ledger)
    expected: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.place / "runs" / "tiny"

    def begin(self) -> None:
        """Note what the commands print about the undamaged folders."""
        copied(self.sound["finished"], self.place / "runs" / "beside")
        for name in self.sound:
            copied(self.sound[name], self.folder)
            for command in self.commands:
                self.expected[name, command] = self._called(name, command)[1]

    def _called(self, name: str, command: str) -> tuple[Called, dict[str, str]]:
        (self.folder.parent / "next.yaml").unlink(missing_ok=True)
        called = call(words_of(command, self.folder, _study(name, self.study)), self.folder, LIMIT_SECONDS)
        return called, answer(command, self.folder, called)

    def take(self, case: Case, deadline: float) -> None:
        """Damage a copy of the folder, and call all commands on it."""
        copied(self.sound[case.folder], self.folder)
        case.damage.do(self.folder / case.damage.file)
        self.ledger.damaged += 1
        for command in self.commands:
            if time.monotonic() > deadline:
                return
            called, told = self._called(case.folder, command)
            self.ledger.calls[command] += 1
            names_it = _names(case.damage.file, called)
            self.ledger.named[command] += names_it
            for what, detail in self._wrong(case, command, called, told, is_named=names_it):
                self.ledger.violations.append((what, f"{case} | {command}", detail))

    def _wrong(
        self, case: Case, command: str, called: Called, told: dict[str, str], *, is_named: bool
    ) -> Iterator[tuple[str, str]]:
        everything = called.out + called.err
        if called.code is None:
            yield ("signal" if called.signal else "hang"), f"signal {called.signal} after {called.seconds:.0f} s"
        elif called.code == CRASHED or "Traceback (most recent call last)" in everything:
            yield "traceback", everything.strip().rpartition("\n")[2]
        elif called.code not in (0, 1, 2, 3):
            yield "exit code", f"{called.code}: {everything[-200:]}"
        control = control_in(everything)
        if control:
            yield "control character", control
        if command == "ls" and "beside" not in called.out:
            yield "ls ended for all", everything[-200:]
        expected = self.expected[case.folder, command]
        if told != expected and not is_named and called.code in (0, 1) and _must_be_said(case):
            name = next(name for name in {**expected, **told} if told.get(name) != expected.get(name))
            yield "wrong in silence", _difference(expected.get(name, ""), told.get(name, ""))


def _must_be_said(case: Case) -> bool:
    return not case.folder.startswith("old-") and not any(part in case.damage.file for part in _DERIVED)


def _names(file: str, called: Called) -> bool:
    return Path(file).name in called.out + called.err


def _difference(one: str, other: str) -> str:
    pairs = zip([*one.splitlines(), "(the end)"], [*other.splitlines(), "(the end)"], strict=False)
    return next((f"{a[:150]!r} became {b[:150]!r}" for a, b in pairs if a != b), "")


def worked(worker: Worker, listed: list[Case], deadline: float, to: Path, most: int) -> None:
    """The work of one process."""
    worker.begin()
    for case in listed:
        if time.monotonic() > deadline or worker.ledger.calls.total() >= most:
            break
        worker.take(case, deadline)
    ledger = worker.ledger
    content = {
        "calls": ledger.calls,
        "named": ledger.named,
        "damaged": ledger.damaged,
        "violations": ledger.violations,
    }
    to.write_text(json.dumps(content))


def fuzz(place: Path, arguments: argparse.Namespace) -> Ledger:
    """Divide the cases among processes, and join what they found."""
    folders = made(place)
    generator = random.Random(arguments.seed)
    listed = [case for case in cases(folders, generator) if arguments.only in str(case)]
    print(f"{len(listed)} damages of {len(folders)} folders", flush=True)
    deadline = time.monotonic() + arguments.seconds
    most, children = -(-arguments.calls // arguments.jobs), {}
    for number in range(arguments.jobs):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asked = tuple(arguments.commands.split(","))
                worker = Worker(place / f"worker {number}", folders, place / "origin" / "tiny.yaml", asked)
                worked(worker, listed[number :: arguments.jobs], deadline, place / f"{number}.json", most)
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        children[child] = number
    ledger = Ledger()
    for child, number in children.items():
        _, status = os.waitpid(child, 0)
        if status != 0:
            raise SystemExit("a process of the fuzz itself failed")
        ledger.join(json.loads((place / f"{number}.json").read_text()))
    return ledger


def show(ledger: Ledger, most: int = _PRINTED) -> None:
    kinds = Counter(kind for kind, _, _ in ledger.violations)
    by_command = Counter((kind, where.rpartition("| ")[2]) for kind, where, _ in ledger.violations)
    columns = ("traceback", "signal", "hang", "exit code", "control character", "ls ended for all", "wrong in silence")
    print(f"{'command':10} {'calls':>7} {'file named':>10}" + "".join(f" {name:>{len(name)}}" for name in columns))
    for command in [*commands()]:
        counts = "".join(f" {by_command[name, command]:{len(name)}}" for name in columns)
        print(f"{command:10} {ledger.calls[command]:7} {ledger.named[command]:10}{counts}")
    print(
        f"{'in all':10} {ledger.calls.total():7} {ledger.named.total():10}"
        + "".join(f" {kinds[name]:{len(name)}}" for name in columns)
    )
    print(f"{ledger.damaged} folders were damaged")
    shown: Counter[str] = Counter()
    for kind, where, detail in ledger.violations:
        shown[kind] += 1
        if shown[kind] <= most:
            print(f"{kind}: {where}\n  {detail}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000, help="stop damaging folders after this number of calls")
    parser.add_argument("--seconds", type=float, default=7200.0, help="stop calling after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="only damages with this text in their name")
    parser.add_argument("--commands", default=",".join(commands()), help="call only these commands")
    parser.add_argument("--show", type=int, default=_PRINTED, help="print at most this many violations of each kind")
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    place = Path(tempfile.mkdtemp(prefix="tunectl-fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    began = time.monotonic()
    try:
        load()
        ledger = fuzz(place, arguments)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    show(ledger, arguments.show)
    print(f"{ledger.calls.total()} calls in {time.monotonic() - began:.0f} s, {len(ledger.violations)} violations")
    return int(bool(ledger.violations))


if __name__ == "__main__":
    sys.exit(main())
