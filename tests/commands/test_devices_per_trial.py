"""Studies whose trials have several devices, by the command: equal to a loop of torch, and no process is left behind.

Tests execution/rank_processes.py and execution/trial_ends.py, whose words for one process are in test_worker.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked_programs import ForkedProgram, forked_program, started_for, wait_until
from plain_training import PlainTraining
from study_calls import Called, call_in_process
from trial_records import lines_in
from warm_server import WarmServers

from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.records import TrialResult
from tunectl.store.trial_files import read_trial

pytestmark = pytest.mark.usefixtures("each_plot_drawn_once")

WORKLOAD = """\
import os, signal, time
from pathlib import Path
import torch
import tunectl
from torch import nn
from tunectl.training import training_state

GATE = os.environ.get("TUNECTL_TEST_GATE")
BEGUN = []
own_update_loss = training_state.TrialState.update_loss


def update_loss(state):
    BEGUN.append(1)
    return own_update_loss(state)


training_state.TrialState.update_loss = update_loss


def make(*, seed, case="plain"):
    draws = torch.Generator().manual_seed(0)
    features, labels = torch.randn(53, 6, generator=draws).double(), torch.randint(0, 3, (53,), generator=draws)
    data = torch.utils.data.TensorDataset(features, labels, torch.arange(53))
    valid = torch.utils.data.TensorDataset(features[:23], labels[:23], torch.arange(23))
    between = {"dropout": nn.Dropout(0.3), "normalised": nn.BatchNorm1d(8)}.get(case, nn.Identity())
    model = nn.Sequential(nn.Linear(6, 8), between, nn.Tanh(), nn.Linear(8, 3)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=draws)
    calls, at_gate = [], 8
    if case == "normalised":
        at_gate = 11
        # At each evaluation, whatever the clock says.
        training_state.TrialState.is_time_to_save = lambda state: state.ranks.agreed(state.ranks.rank == 0)

    def loss(model, batch):
        losses = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
        if model.training and BEGUN:  # not where the workload is tried
            calls.append(1)
            if GATE and len(calls) == at_gate:
                Path(GATE).with_name(f"reached-{os.getpid()}-{os.getppid()}").touch()
                while not Path(GATE).exists():
                    time.sleep(0.01)
            if (batch[2] == 52).any():
                fail()
        if case in ("weighted", "normalised"):
            weights = torch.stack([batch[1] % 3, 2 * (batch[1] % 3)], dim=1).double()
            return torch.stack([losses, losses ** 2], dim=1), weights
        return losses

    def fail():
        if case == "raises":
            raise ValueError("example 52 is odd")
        if case == "exits":
            os._exit(3)
        if case == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if case == "memory":
            torch.empty(10 ** 14)
        if case == "infeasible":
            raise tunectl.Infeasible("example 52 does not fit")

    def order(dataset, epoch, generator):
        return [(example * step + epoch) % 53 for example in range(53)]

    step = 7 if case in ("plain", "weighted", "normalised") else 1
    metrics = lambda model, batch: {"error_rate": (model(batch[0]).argmax(1) != batch[1]).double()}
    return tunectl.Workload(model, {"train": data, "valid": valid}, loss, metrics, sampler=order)
"""
STUDY = """\
study: together
workload: ./work.py:make
objective: {{metric: valid/loss, direction: minimize}}
training: {{max_train_steps: {steps}, eval_every: {every}, no_progress: false, train_examples: 53{more}}}
hyperparameters:
  optimizer: momentum
  learning_rate: 0.1
  momentum: 0.9
  grad_clip_norm: 0.5
  polyak_decay: 0.9
  eval_batch_size: 10
  case: {{role: nuisance, values: [{cases}]}}
  batch_size: {{role: nuisance, values: [1, 3, 7, 10, 53]}}
  accumulate_steps: {{role: nuisance, values: [1, 3]}}
search:
  points:
{points}
resources: {{devices: cpu, devices_per_trial: {devices}, retries: {retries}}}
"""
Point = tuple[str, int, int]


def study(home: Path, points: list[Point], devices: int, *, steps: int = 20, every: int = 10, retries: int = 0) -> Path:
    (home / "work.py").write_text(WORKLOAD)
    rows = [f"    - {{case: {case}, batch_size: {size}, accumulate_steps: {steps}}}" for case, size, steps in points]
    cases = ", ".join(dict.fromkeys(["plain", "weighted", *(case for case, _, _ in points)]))
    path = home / f"on_{devices}.yaml"
    more = ", sync_batch_norm: true" if "normalised" in cases else ""
    values = {"steps": steps, "every": every, "more": more, "devices": devices, "retries": retries}
    path.write_text(STUDY.format(cases=cases, points="\n".join(rows), **values))
    return path


def command(path: Path, folder: Path) -> list[str]:
    return ["run", str(path), "--dir", str(folder), "--slots", "1", "--quiet"]


def run(path: Path, folder: Path) -> Called:
    return call_in_process(path.parent, os.environ, *command(path, folder))


def trial(folder: Path, number: int = 0) -> TrialFolder:
    return StudyFolder(folder).trial(number)


def plain_training(home: Path, point: Point, *, steps: int, every: int) -> PlainTraining:
    """What a trial of this point has to be, by a loop of torch that knows nothing of devices."""
    case, size, parts = point
    found: dict[str, Any] = {}
    exec(WORKLOAD, found)
    largest = -(-size // parts)
    sizes = [min(largest, size - first) for first in range(0, size, largest)]
    training = PlainTraining(found["make"](seed=0, case=case), sizes)
    training.run(steps, every, rate=0.1, momentum=0.9, clip=0.5, decay=0.9)
    return training


def assert_equal(found: TrialFolder, expected: PlainTraining) -> None:
    """The losses and norms of all updates, and the metrics of all evaluations, agree to the bounds of the README."""
    steps, lines = lines_in(found.steps), lines_in(found.measurements)
    for name, values in (("loss", expected.losses), ("gradient_norm", expected.norms)):
        series = np.concatenate([np.asarray(line[name]) for line in steps])
        assert series.shape == (len(values),)
        assert np.allclose(series, values, rtol=1e-10, atol=1e-10), name
    assert len(lines) == len(expected.tables)
    for line, table in zip(lines, expected.tables, strict=True):
        ours = {name: value for name, value in line["metrics"].items() if name in table}
        assert ours == pytest.approx(table, rel=1e-12, abs=1e-12), f"step {line['step']}"


def result(folder: Path, number: int = 0) -> TrialResult | None:
    return read_trial(trial(folder, number)).result


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "points",
    [
        [("plain", 7, 1), ("weighted", 10, 3), ("weighted", 3, 1), ("plain", 53, 3), ("plain", 1, 1)],
        [("normalised", 10, 3), ("normalised", 7, 1), ("normalised", 3, 1)],
    ],
)
def test_hundred_updates_on_one_two_and_four_devices_are_those_of_a_plain_loop(
    tmp_path: Path, points: list[Point]
) -> None:
    for devices in (1, 2, 4):
        called = run(study(tmp_path, points, devices, steps=100), tmp_path / str(devices))
        assert called.code == 0, called.err
        for number, point in enumerate(points):
            assert_equal(trial(tmp_path / str(devices), number), plain_training(tmp_path, point, steps=100, every=10))


def test_a_rank_that_cannot_go_on_ends_the_trial_with_its_words(tmp_path: Path) -> None:
    cases = ["raises", "exits", "killed", "memory", "infeasible"]
    called = run(study(tmp_path, [(case, 53, 1) for case in cases], 3), tmp_path / "runs")
    assert called.code == 1, called.err
    raised, memory, infeasible = (result(tmp_path / "runs", number) for number in (0, 3, 4))
    assert raised is not None
    assert memory is not None
    assert infeasible is not None
    assert (raised.state, raised.reason) == ("failed", "error")
    assert raised.message == "rank 2: ValueError: example 52 is odd"
    assert raised.where.startswith(str(tmp_path / "work.py"))
    assert raised.device == "3 x cpu", "as tables and show say"
    assert (memory.state, memory.reason) == ("infeasible", "out_of_memory")
    assert (infeasible.state, infeasible.message) == ("infeasible", "rank 2: example 52 does not fit")
    exited, killed = (read_trial(trial(tmp_path / "runs", number)).attempts[-1] for number in (1, 2))
    assert (exited.reason, killed.reason) == ("crashed", "crashed")
    assert exited.message.startswith("rank 2 ended with exit code 3 before its result was written")
    assert killed.message.startswith("rank 2 was killed by SIGKILL")
    log = trial(tmp_path / "runs").log.read_text()
    assert log.count("ValueError: example 52 is odd") == 1, "the others, which end because of it, print nothing"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


AtTheGate = Callable[[Path, Path], AbstractContextManager[tuple[ForkedProgram, list[tuple[int, int]]]]]


@pytest.fixture
def at_the_gate(fast_machine: WarmServers, gate: Path) -> AtTheGate:
    @contextmanager
    def started(path: Path, folder: Path) -> Iterator[tuple[ForkedProgram, list[tuple[int, int]]]]:
        """A run whose trial waits at the gate in all its processes; gives their pids, each with that of its parent."""
        environment = {**os.environ, "TUNECTL_TEST_GATE": str(gate), "TUNECTL_TEST": str(folder)}
        devices = int(path.stem.removeprefix("on_"))
        with forked_program(fast_machine, command(path, folder), environment) as program:
            wait_until(lambda: len([*gate.parent.glob("reached-*")]) == devices)
            reached = [tuple(map(int, item.name.split("-")[1:])) for item in sorted(gate.parent.glob("reached-*"))]
            assert {program.pid, *(pid for pid, _ in reached)} <= {*started_for(folder)}
            yield program, [(pid, parent) for pid, parent in reached]

    return started


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


VICTIMS = ["a rank", pytest.param("the ranks' parent", marks=pytest.mark.slow)]
VICTIMS += [pytest.param("the server", marks=pytest.mark.slow), pytest.param("the runner", marks=pytest.mark.slow)]


@pytest.mark.parametrize("victim", VICTIMS)
def test_whatever_process_is_killed_nothing_is_left_and_the_trial_ends_as_if_undisturbed(
    tmp_path: Path, gate: Path, at_the_gate: AtTheGate, victim: str
) -> None:
    path, folder = study(tmp_path, [("dropout", 7, 1)], 2, retries=1), tmp_path / "runs"
    with at_the_gate(path, folder) as (process, ranks):
        last, parent = ranks[-1]
        server = parent_of(parent)
        pid = {"a rank": last, "the ranks' parent": parent, "the server": server}.get(victim, process.pid)
        os.kill(pid, signal.SIGKILL)
        gate.touch()
        if pid == process.pid:
            process.wait()
            wait_until(lambda: not started_for(folder))
            assert run(path, folder).code == 0
        assert process.wait() == (-signal.SIGKILL if pid == process.pid else 0)
    assert not started_for(folder)
    attempts = read_trial(trial(folder)).attempts
    if victim == "a rank":
        assert [item.reason for item in attempts] == ["crashed"]
        assert attempts[0].message.partition(" ")[0] == "rank"
    assert run(path, tmp_path / "undisturbed").code == 0
    for name in ("steps", "measurements"):
        ours, theirs = (lines_in(getattr(trial(item), name)) for item in (folder, tmp_path / "undisturbed"))
        assert [without_times(line) for line in ours] == [without_times(line) for line in theirs]


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("elapsed_seconds", "crc32")}


@pytest.mark.parametrize(
    ("first", "others"), [(2, (1, 3)), pytest.param(4, (1, 2), marks=pytest.mark.slow)], ids=["two", "four"]
)
def test_a_run_that_is_killed_between_two_checkpoints_goes_on_on_other_numbers_of_devices_as_a_plain_loop(
    tmp_path: Path, gate: Path, at_the_gate: AtTheGate, first: int, others: tuple[int, ...]
) -> None:
    folder, point = tmp_path / "killed", ("normalised", 10, 3)
    with at_the_gate(study(tmp_path, [point], first, steps=12, every=2), folder) as (process, _):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_until(lambda: not started_for(folder))
    gate.touch()
    assert json.loads(trial(folder).request.read_text())["devices"] == first
    assert torch.load(trial(folder).resume, weights_only=True)["step"] == 2, "the third update is lost"
    expected = plain_training(tmp_path, point, steps=12, every=2)
    for devices in others:
        other = tmp_path / f"on {devices}"
        shutil.copytree(folder, other)
        called = run(study(tmp_path, [point], devices, steps=12, every=2), other)
        assert called.code == 0, called.err
        assert_equal(trial(other), expected)
        assert json.loads(trial(other).request.read_text())["devices"] == devices


@pytest.mark.slow
def test_a_trial_that_was_stopped_goes_on_on_another_number_of_devices(
    tmp_path: Path, gate: Path, at_the_gate: AtTheGate
) -> None:
    folder, point = tmp_path / "runs", ("weighted", 10, 3)
    with at_the_gate(study(tmp_path, [point], 2), folder) as (process, _):
        process.send_signal(signal.SIGINT)
        process.read_until("stop")
        gate.touch()
        assert process.wait() == 130
    assert trial(folder).resume.exists()
    assert not started_for(folder)
    called = run(study(tmp_path, [point], 4), folder)
    assert called.code == 0, called.err
    assert_equal(trial(folder), plain_training(tmp_path, point, steps=20, every=10))
